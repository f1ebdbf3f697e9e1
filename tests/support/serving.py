"""`certbroker serve` and other commands in processes of their own, on a configuration file."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from pebble.loopback import free_ports

_ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 60
_OURS = ("CERTBROKER_", "AZURE_", "KEYVAULT_", "CREDENTIALS_DIRECTORY")


class Installation:
    """A configuration file with a data directory, and what can be run on it."""

    def __init__(self, folder: Path, seal: str = "", environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.config = folder / "certbroker.toml"
        self.port = free_ports(1)[0]
        self.environment = dict(environment or {})
        self.configure(seal)

    def configure(self, seal: str) -> None:
        """Write the configuration, with these lines on the seal."""
        self.config.write_text(
            f'[server]\nlisten = "127.0.0.1:{self.port}"\nauthority = "https://localhost:{self.port}"\n'
            f'[data]\ndirectory = "{self.data}"\n{seal}\n'
        )

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command, to its end."""
        command = [sys.executable, "-m", "certbroker", *arguments]
        return subprocess.run(
            command,
            cwd=_ROOT,
            env=self._environment(environment),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    def administrator(self) -> dict[str, str]:
        """The environment of an application that may administer the broker, which must not run now."""
        done = self.run("init", "--config", str(self.config))
        assert done.returncode == 0, done.stderr
        values = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("AZURE_"))
        url = f"https://localhost:{self.port}"
        trust = str(self.data / "ca.pem")
        return values | {"AZURE_AUTHORITY_HOST": url, "CERTBROKER_ADMIN_URL": url, "SSL_CERT_FILE": trust}

    def serve(self, **environment: str) -> Serving:
        """Start the broker; wait with the methods of what is returned."""
        return Serving(self, self._environment(environment))

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return kept | self.environment | dict(more)


class Serving:
    """A running broker."""

    def __init__(self, installation: Installation, environment: Mapping[str, str]) -> None:
        self._installation = installation
        self.log = installation.folder / "serve.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "certbroker", "serve", "--config", str(installation.config)],
                cwd=_ROOT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def get(self, path: str, host: str = "localhost") -> httpx.Response:
        """A request over TLS that is verified. Raises httpx.TransportError."""
        context = ssl.create_default_context(cafile=self._installation.data / "ca.pem")
        with httpx.Client(verify=context, timeout=10) as client:
            return client.get(f"https://localhost:{self._installation.port}{path}", headers={"host": host})

    def wait(self, status: str) -> Any:
        """The body of `/healthz`, once it says `ok` or `sealed`."""
        deadline = time.monotonic() + _SECONDS
        seen = ""
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                body = self.get("/healthz").json()
            except (httpx.TransportError, OSError):
                body = {}
            if body.get("status") == status:
                return body
            seen = str(body)
            time.sleep(0.1)
        raise AssertionError(f"not {status}, but {seen}:\n{self.log.read_text()}")

    def stop(self) -> int:
        """End it as a service manager would, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(_SECONDS)
