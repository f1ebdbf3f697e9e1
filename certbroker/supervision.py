"""Telling systemd how the service is: that it has started, that it lives, that it ends (sd_notify(3)).

The watchdog is fed while the engine moves. An engine that tries and fails moves: a restart would mend nothing then, and
end what still works. One that hangs does not, and the restart that follows takes its work up again.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from typing import Final

import structlog

# sd_watchdog_enabled(3) advises half of the time; a third leaves room for a busy machine.
_SHARE: Final = 3
_log = structlog.get_logger("certbroker.server")


class Supervision:
    """The notification socket, if there is one; otherwise nothing is told to nobody."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is in the abstract namespace.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._interval = _interval(environment)

    def started(self, status: str) -> None:
        self._tell("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        self._tell(f"STATUS={status}")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    async def feed(self, alive: Callable[[], bool]) -> None:
        """Feed the watchdog for as long as `alive` says so, on the event loop: if that hangs it is not fed either."""
        if self._interval is None:
            return
        while True:
            if alive():
                self._tell("WATCHDOG=1")
            await asyncio.sleep(self._interval)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
                sending.setblocking(False)
                sending.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            _log.warning("systemd could not be told", lines=lines, reason=error.strerror)


def _interval(environment: Mapping[str, str]) -> float | None:
    """Seconds between two feedings; None where nobody waits for them, or they wait for another process."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1e6 / _SHARE
