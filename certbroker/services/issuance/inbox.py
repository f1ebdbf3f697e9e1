"""How use cases tell the engine that there is work."""

from __future__ import annotations

import threading
from collections import deque

from certbroker.domain.records import Operation


class Inbox:
    """Wakes the engine, and hands over operations that are claimed already. Everything else waits in the database.

    What is lost here when the process dies is found there: its lease ends.
    """

    def __init__(self) -> None:
        self._operations: deque[Operation] = deque()
        self._woken = threading.Event()

    def put(self, operation: Operation) -> None:
        """Hand over an operation that this process has claimed, and wake the engine."""
        self._operations.append(operation)
        self._woken.set()

    def wake(self) -> None:
        """Let the engine look for work in the database."""
        self._woken.set()

    def take(self) -> list[Operation]:
        """What has been handed over since the last time."""
        taken = []
        while self._operations:
            taken.append(self._operations.popleft())
        return taken

    def wait(self, seconds: float) -> None:
        """Until woken, or for so long."""
        self._woken.wait(seconds)
        self._woken.clear()
