"""Running the operator's commands: bounded in time, with a small environment, and quoted without their secrets."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Final
from urllib.parse import quote

from certbroker.domain.one_line import one_line

# What a command inherits. Not more: our own environment may hold the passphrase of the seal.
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "SYSTEMROOT")
_TAIL: Final = 400
_CHUNK: Final = 4096
_MIN_SECRET: Final = 4


class CommandFailed(Exception):
    """The command could not be started, did not end in time, or ended with a status that is not 0.

    The text says which, with the end of what the command said, on one line and without a full stop.
    """


def run_command(
    command: Sequence[str], environment: Mapping[str, str], timeout: float, secrets: Iterable[str] = ()
) -> None:
    """Run a command to its end; no shell reads it. Raises CommandFailed.

    `environment` is what it gets besides the little that it inherits. After `timeout` seconds the command and what it
    has started are killed. `secrets` are replaced in what is quoted of its output.
    """
    inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's own command, not read by a shell
            command,
            env=inherited | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # So that its children can be killed with it.
        )
    except (OSError, ValueError) as error:
        raise CommandFailed(f"cannot be started: {error}") from error
    output = _Tail(process.stdout)
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"did not end within {timeout:g} seconds") from None
    finally:
        _kill(process)
        output.close()
    if status != 0:
        said = _without(secrets, output.text())
        raise CommandFailed(f"ended with status {status}" + (f": …{said}" if said else ""))


def _without(secrets: Iterable[str], text: str) -> str:
    hidden = set(secrets)
    # As they are, and as they stand in a URL.
    for secret in sorted(hidden | {quote(each, safe="") for each in hidden}, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET:
            text = text.replace(secret, "***")
    return one_line(text[-_TAIL:], _TAIL)


class _Tail:
    """The end of a stream, read as it comes, so that a chatty command neither blocks nor fills the memory."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        self._stream = stream
        self._kept = b""
        self._thread = threading.Thread(target=self._read, name="command output", daemon=True)
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
