"""What the demo plays on: a broker and a test CA, as processes on free ports, in a directory that goes with them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rich.console import Console

from certbroker.cli.client import Connection, Credentials
from certbroker.cli.demo.revoking import ISSUER, CRLServer
from pebble import Pebble, PebbleError, find_pebble

_START_SECONDS: Final = 60
_STOP_SECONDS: Final = 20
_POLL_SECONDS: Final = 0.05

DNS_PUBLISHER: Final = "pebble"


class StageError(Exception):
    """The broker or the test CA does not run; the text has the end of its log."""


class Stage:
    """A context manager that ends every process it started, whatever happens."""

    def __init__(self, directory: Path, hook: Path) -> None:
        self.directory = directory
        self.env: dict[str, str] = {}
        self.ca = Pebble(directory / "pebble", rsa=True) if find_pebble() else None
        self.list = CRLServer()
        self._hook = hook
        self._log = directory / "broker.log"
        self._broker: subprocess.Popen[bytes] | None = None

    @property
    def env_file(self) -> Path:
        """What a shell sources to be a client."""
        return self.directory / "env"

    @property
    def url(self) -> str:
        return self.env["KEYVAULT_URL"]

    def set_up(self, console: Console) -> None:
        """Start everything, and return when it answers. Raises StageError."""
        began = time.monotonic()
        with console.status("Starting a broker and a test CA …"):
            broker = self._start_broker()
            if self.ca is not None:
                try:
                    self.ca.start()
                    self.list.publish(self.ca.management)
                except PebbleError as error:
                    raise StageError(str(error)) from None
            self._wait_for(broker)
        console.print(f"[green]✓[/green] certbroker at {self.url}, started in {time.monotonic() - began:.1f} s")
        if self.ca is not None:
            console.print(f"[green]✓[/green] Pebble, a test CA that speaks ACME, at {self.ca.directory_url}")
        else:
            console.print("[yellow]![/yellow] Pebble, the test CA, is not here: run `make peers` to see ACME too")

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A client's connection to the broker, by what the environment file says."""
        connection = Connection(Credentials.from_environment(self.env), self.env["SSL_CERT_FILE"])
        try:
            yield connection
        finally:
            connection.close()

    def serve(self) -> None:
        """Until Ctrl-C. Raises StageError when the broker ends by itself."""
        assert self._broker is not None
        self._broker.wait()
        raise StageError(f"The broker has ended:\n{self._log_tail()}")

    def tear_down(self, console: Console) -> None:
        """End all processes; safe to repeat."""
        self._end()
        console.print("[green]✓[/green] Both are stopped, and their data is removed.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start_broker(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "certbroker", "dev", "--data", str(self.directory / "data")]
        command += ["--port", "0", "--env-file", str(self.env_file)]
        environment = _environment()
        if self.ca is not None:
            # The demo's names exist in the test CA's DNS only.
            environment["CERTBROKER_EGRESS__RESOLVERS"] = json.dumps([self.ca.dns_address])
            hook = shlex.join([sys.executable, str(self._hook), str(self.ca.dns.http.port)])
            # Its certificates do not say where its CRL is.
            named = {"pebble": {"issuer": ISSUER, "crl": self.list.url}}
            environment["CERTBROKER_REVOCATION__SOURCES"] = json.dumps(named)
            command += ["--http01-port", str(self.ca.http_port), "--trust", str(self.ca.ca_path)]
            command += ["--dns", f"{DNS_PUBLISHER}={hook}"]
        # The process group is its own, so that Ctrl-C reaches us alone and we end everything in order.
        with self._log.open("wb") as log:
            self._broker = subprocess.Popen(  # noqa: S603 - ourselves
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0, env=environment
            )
        return self._broker

    def _wait_for(self, broker: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self.env_file.exists():
            if broker.poll() is not None or time.monotonic() > deadline:
                raise StageError(f"The broker did not start:\n{self._log_tail()}")
            time.sleep(_POLL_SECONDS)
        pairs = (line.partition("=") for line in self.env_file.read_text().splitlines())
        self.env = {name: "".join(shlex.split(value)) for name, _, value in pairs}

    def _end(self) -> None:
        # A second Ctrl-C must not leave the other half running.
        before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.list.stop()
            if self.ca is not None:
                self.ca.stop()
            if self._broker is not None and self._broker.poll() is None:
                self._broker.terminate()
                try:
                    self._broker.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    self._broker.kill()
                    self._broker.wait()
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _log_tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])


def _environment() -> dict[str, str]:
    """Without what would configure this broker for somebody else."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CERTBROKER_")}
