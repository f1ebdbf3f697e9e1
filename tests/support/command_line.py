"""The command line in processes of its own, forked from one that has imported it: a call takes tenths of a second.

`CommandLine.process` starts Python anew, as a shell does.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from tests.support.broker import DevBroker

_SECONDS = 60
_WRITE = os.O_WRONLY | os.O_CREAT
_GROUPS = (
    "authorities",
    "certificates",
    "channels",
    "client",
    "contacts",
    "identities",
    "issuers",
    "leaf",
    "operations",
    "secrets",
    "vaults",
    "waiting",
)


@dataclass(frozen=True)
class Done:
    """What a command has printed, and how it ended."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """Calls `certbroker` against a broker."""

    def __init__(self, broker: DevBroker) -> None:
        self.broker = broker
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        modules = [f"certbroker.cli.{name}" for name in _GROUPS]
        self._context.set_forkserver_preload(["certbroker.cli", "typer._adapters", *modules, __name__])

    def __call__(self, *arguments: object, stdin: bytes = b"", env: dict[str, str] | None = None) -> Done:
        with tempfile.TemporaryDirectory() as directory:
            streams = [Path(directory) / name for name in ("in", "out", "err")]
            streams[0].write_bytes(stdin)
            process = self._context.Process(
                target=_run,
                args=([str(each) for each in arguments], self._environment(env), [str(path) for path in streams]),
            )
            process.start()
            process.join(_SECONDS)
            if process.exitcode is None:
                process.kill()
            done = Done(process.exitcode or 0, streams[1].read_text(), streams[2].read_text())
        return _checked(done)

    def process(self, *arguments: object, env: dict[str, str] | None = None) -> Done:
        """The same in a new Python."""
        done = subprocess.run(
            [sys.executable, "-m", "certbroker", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            env=self._environment(env),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        return _checked(Done(done.returncode, done.stdout, done.stderr))

    def ok(self, *arguments: object, stdin: bytes = b"") -> Done:
        """It has to succeed."""
        done = self(*arguments, stdin=stdin)

        assert 0 == done.status, done.err
        return done

    def json(self, *arguments: object) -> Any:
        """It has to succeed, and to print JSON."""
        return self.ok(*arguments, "-o", "json").json()

    def _environment(self, more: dict[str, str] | None) -> dict[str, str]:
        return self.broker.client_environment() | (more or {})


def _checked(done: Done) -> Done:
    assert "Traceback" not in done.err, done.err
    return done


def _run(arguments: list[str], environment: dict[str, str], streams: list[str]) -> None:
    """In the child: what `python -m certbroker` does, on these streams."""
    for number, (path, flags) in enumerate(zip(streams, (os.O_RDONLY, _WRITE, _WRITE), strict=True)):
        descriptor = os.open(path, flags, 0o600)
        os.dup2(descriptor, number)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["certbroker", *arguments]

    from certbroker.cli import main

    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
