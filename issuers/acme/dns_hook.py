"""Publishing dns-01 records by a command of the operator's.

The command gets its task by environment variables: CERTBROKER_DNS_ACTION (`publish` or `withdraw`),
CERTBROKER_DNS_NAME (the record's name, without the final dot) and CERTBROKER_DNS_VALUE; and, so that certbot's hooks
can be used, CERTBOT_DOMAIN and CERTBOT_VALIDATION. It ends with status 0 when the record is there, or is gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

from certbroker.domain.operation import Problem
from certbroker.ports.issuer import IssuerUnavailable
from issuers.acme.problem import printable

# What a command inherits. Not more: our own environment may hold the passphrase of the seal.
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "SYSTEMROOT")
_TAIL: Final = 400
_CHUNK: Final = 4096
_MIN_SECRET: Final = 4


@dataclass(frozen=True, slots=True)
class DNSHook:
    """A command that publishes and withdraws TXT records."""

    command: tuple[str, ...]
    """The program by its absolute path, and its arguments. No shell reads them."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the command gets besides; for its credentials. These values never appear in messages."""
    timeout: float = 120.0
    """Seconds. Then the command and what it has started are killed."""
    label: str | None = None
    """What messages call it, where that is not the program."""

    def __post_init__(self) -> None:
        """ValueError, naming the field, for what cannot work."""
        if not self.command or not Path(self.command[0]).is_absolute():
            raise ValueError("command begins with the absolute path of a program.")
        if not 0 < self.timeout <= 3600:
            raise ValueError("timeout is at most 3600 seconds.")


class DNSHookPublisher:
    """The `DNSPublisher` port over a command. Thread-safe: the command may run several times at once."""

    def __init__(self, hook: DNSHook) -> None:
        self._hook = hook

    def publish(self, name: str, value: str) -> None:
        self._run("publish", name, value)

    def withdraw(self, name: str, value: str) -> None:
        self._run("withdraw", name, value)

    def _run(self, action: str, name: str, value: str) -> None:
        environment = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        environment |= dict(self._hook.environment) | {
            "CERTBROKER_DNS_ACTION": action,
            "CERTBROKER_DNS_NAME": name,
            "CERTBROKER_DNS_VALUE": value,
            "CERTBOT_DOMAIN": name.removeprefix("_acme-challenge."),
            "CERTBOT_VALIDATION": value,
        }
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own command, not read by a shell
                self._hook.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # So that its children can be killed with it.
            )
        except (OSError, ValueError) as error:
            raise self._failed(f"cannot be started: {error}") from error
        output = _Tail(process.stdout)
        try:
            status = process.wait(self._hook.timeout)
        except subprocess.TimeoutExpired:
            raise self._failed(f"did not end within {self._hook.timeout:g} seconds") from None
        finally:
            _kill(process)
            output.close()
        if status != 0:
            said = self._without_secrets(output.text(), value)
            raise self._failed(f"ended with status {status}" + (f": …{said}" if said else ""))

    def _without_secrets(self, text: str, value: str) -> str:
        secrets = {value, *self._hook.environment.values()}
        # As they are, and as they stand in a URL.
        for secret in sorted(secrets | {quote(each, safe="") for each in secrets}, key=len, reverse=True):
            if len(secret) >= _MIN_SECRET:
                text = text.replace(secret, "***")
        return printable(text[-_TAIL:])

    def _failed(self, what: str) -> IssuerUnavailable:
        label = self._hook.label or f"The DNS hook {self._hook.command[0]}"
        return IssuerUnavailable(Problem("DNSPublisherFailed", f"{label} {what}."))


class _Tail:
    """The end of a stream, read as it comes, so that a chatty command neither blocks nor fills the memory."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        self._stream = stream
        self._kept = b""
        self._thread = threading.Thread(target=self._read, name="dns-hook output", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while chunk := os.read(self._stream.fileno(), _CHUNK):
            self._kept = (self._kept + chunk)[-2 * _CHUNK :]

    def close(self) -> None:
        """Stop reading. A process that has left the group and still holds the pipe is not waited for."""
        self._thread.join(1.0)
        if not self._thread.is_alive():
            self._stream.close()

    def text(self) -> str:
        return self._kept.decode(errors="replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the command and everything in its session; a command that has ended may have left children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()
