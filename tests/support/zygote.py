"""A process that has imported the broker and forks one on demand, for tests that start it again and again.

What is forked is a process like any other, with its own environment and command line, and can be killed like one. Only
the imports, most of the time that a start takes, are made once. Run as a module it is the process, and speaks JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

_ROOT: Final = Path(__file__).resolve().parents[2]
# What a start imports, also where that is put off until it is needed.
_PRELOADED: Final = (
    "certbroker.app",
    "certbroker.process",
    "certbroker.cli.server",
    "certbroker.store.migrations",
    "alembic.command",
    "alembic.ddl.sqlite",
    "alembic.runtime.migration",
    "sqlalchemy.dialects.sqlite",
    "uvloop",
)


class Forked:
    """A process that the zygote has forked; like a Popen."""

    def __init__(self, zygote: Zygote, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._zygote = zygote

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._zygote.ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            time.sleep(0.01)
        return status

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Zygote:
    """The process that forks. It ends with the one that made it, and ends what it has forked."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.support.zygote"]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lock = threading.Lock()

    def launch(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Forked:
        """`certbroker` with these arguments, in just this environment, its output at the end of the log."""
        return Forked(self, self.ask({"run": [*arguments], "environment": {**environment}, "log": str(log)}))

    def ask(self, request: Mapping[str, Any]) -> Any:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _serve() -> None:
    for module in _PRELOADED:
        importlib.import_module(module)
    alive: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "run" in request:
            pid = os.fork()
            if pid == 0:
                _become(**request)
            alive.add(pid)
            answer: int | None = pid
        else:
            ended, status = os.waitpid(request["ended"], os.WNOHANG)
            alive.discard(ended)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        print(json.dumps(answer), flush=True)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


def _become(run: list[str], environment: dict[str, str], log: str) -> NoReturn:
    status = 1
    try:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["certbroker", *run]
        from certbroker import cli, failpoints

        importlib.reload(failpoints)  # It reads the environment when it is imported.
        cli.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
