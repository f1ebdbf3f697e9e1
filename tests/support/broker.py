"""A real broker in a process of its own, as `certbroker dev` starts it.

    with DevBroker(tmp_path / "broker") as broker:
        broker.env                  # what a client needs: KEYVAULT_URL, AZURE_CLIENT_ID, …
        broker.kill()               # as a power cut would
        broker.start()              # again, on the same directory and the same ports

Knows nothing of pytest, so benchmarks can use it too.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

from pebble.loopback import free_ports

_ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 60
_STOP_SECONDS = 30
_POLL_SECONDS = 0.02

# What would make a broker or a client behave otherwise than the test says.
_OURS = ("CERTBROKER_", "AZURE_", "KEYVAULT_", "PYTHONWARNINGS")


class Process(Protocol):
    """The part of a Popen that is used here."""

    pid: int

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int, /) -> None: ...

    def kill(self) -> None: ...


class BrokerFailed(Exception):
    """The broker did not start; the text has the end of its log."""


class DevBroker:
    """One `certbroker dev`, from construction on a directory; `start` and `stop` may be repeated.

    data_dir      everything it keeps; `<data_dir>.env` and `<data_dir>.log` are beside it
    port          of HTTPS; a free one when not given. It stays the same over restarts
    http01_port   where http-01 is answered; True picks a free one, None answers nowhere
    trust         PEM files with CA certificates that it trusts
    dns           commands that publish TXT records, by name
    environment   variables for the process, such as CERTBROKER_FAILPOINT
    launch        what makes a process of `certbroker`, given arguments, environment and log; a fresh Python by default
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        http01_port: int | bool | None = None,
        trust: Sequence[Path] = (),
        dns: Mapping[str, Sequence[str]] | None = None,
        environment: Mapping[str, str] | None = None,
        launch: Callable[[Sequence[str], Mapping[str, str], Path], Process] | None = None,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.env_file = self.data_dir.with_name(self.data_dir.name + ".env")
        self.log_path = self.data_dir.with_name(self.data_dir.name + ".log")
        self.port = port
        self.http01_port = free_ports(1)[0] if http01_port is True else (http01_port or None)
        self.environment = dict(environment or {})
        self.env: dict[str, str] = {}
        self._trust = tuple(trust)
        self._dns = {name: shlex.join(command) for name, command in (dns or {}).items()}
        self._launch = launch or _fresh
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The process of the latest start."""
        assert self._process is not None, "the broker was never started"
        return self._process

    @property
    def url(self) -> str:
        """The URL of the vault named demo."""
        return self.env["KEYVAULT_URL"]

    @property
    def ca_path(self) -> Path:
        """The PEM file that clients trust the broker by."""
        return self.data_dir / "ca.pem"

    def client_environment(self) -> dict[str, str]:
        """The environment for a client's process: this one without what belongs to other brokers."""
        return _foreign_environment() | self.env

    def log(self) -> str:
        """What all starts together have written on standard error."""
        return self.log_path.read_text(errors="replace")

    def start(self) -> Self:
        """Start, and wait until requests are answered. Raises BrokerFailed."""
        if self._process is not None and self._process.poll() is None:
            return self
        self.env_file.parent.mkdir(parents=True, exist_ok=True)
        self.env_file.unlink(missing_ok=True)
        self._process = self._launch(self._arguments(), _foreign_environment() | self.environment, self.log_path)
        # Also when the test run ends without `stop`.
        weakref.finalize(self, _end, self._process)
        self._wait(self._process)
        self.env = _read(self.env_file)
        self.port = urlsplit(self.env["CERTBROKER_ADMIN_URL"]).port or 443
        return self

    def stop(self) -> int | None:
        """End it as an operator would, and return its exit status; None when it never ran."""
        if self._process is None:
            return None
        _end(self._process)
        return self._process.returncode

    def kill(self) -> None:
        """End it as a power cut would: nothing is finished, nothing written."""
        self.process.kill()
        self.process.wait()

    def kill_if_running(self) -> None:
        """The same for one that may have died, or was never started."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def restart(self) -> Self:
        """Stop and start on the same directory and ports."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _arguments(self) -> list[str]:
        command = ["dev", "--data", str(self.data_dir)]
        command += ["--port", str(self.port), "--env-file", str(self.env_file)]
        if self.http01_port is not None:
            command += ["--http01-port", str(self.http01_port)]
        for path in self._trust:
            command += ["--trust", str(path)]
        for name, publish in self._dns.items():
            command += ["--dns", f"{name}={publish}"]
        return command

    def _wait(self, process: Process) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self.env_file.exists():
            if process.poll() is not None:
                raise BrokerFailed(f"the broker ended with status {process.returncode}:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                _end(process)
                raise BrokerFailed(f"the broker was not ready within {_START_SECONDS} s:\n{self._log_tail()}")
            time.sleep(_POLL_SECONDS)

    def _log_tail(self) -> str:
        return "\n".join(self.log().splitlines()[-20:])


def _fresh(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "certbroker", *arguments],
            cwd=_ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,  # Ctrl-C reaches the test run, and that ends us.
        )


def _foreign_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


def _read(path: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in path.read_text().splitlines() if line)
    return {name: shlex.split(value)[0] if value else "" for name, _, value in pairs}


def _end(process: Process) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
