"""Threads for steps that need this machine only: making keys and signing."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from certbroker import background
from certbroker.domain.records import Operation
from certbroker.services.issuance.steps import Settlement, came_to_nothing

# For so long a thread collects finished steps, in seconds, before it stores them together.
_COLLECT: Final = 0.02
_log = structlog.get_logger("certbroker.engine")


class Workbench:
    """Takes steps of operations, and has what came of many stored together.

    `at_once` of the threads take steps; the others meanwhile wait for what they have to store.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[Operation], Settlement],
        settle: Callable[[list[Settlement]], None],
        *,
        threads: int,
        at_once: int,
    ) -> None:
        self._step = step
        self._settle = settle
        self._ready: deque[Operation] = deque()
        self._turns = threading.Semaphore(at_once)
        self._size = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=background.enter)

    def put(self, operations: Iterable[Operation]) -> None:
        """Have the next step of each taken."""
        self._ready.extend(operations)
        for _ in range(min(len(self._ready), self._size)):
            self._threads.submit(self._work)

    def stop(self) -> None:
        """Wait for the steps in hand; the others are not taken."""
        self._ready.clear()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _work(self) -> None:
        try:
            if settlements := self._collect():
                self._settle(settlements)
        finally:
            if self._ready:
                self._threads.submit(self._work)

    def _collect(self) -> list[Settlement]:
        """Take steps until the time to collect is over or there are no more."""
        settlements: list[Settlement] = []
        with self._turns:
            started = time.monotonic()
            while self._ready and time.monotonic() - started < _COLLECT:
                try:
                    operation = self._ready.popleft()
                except IndexError:  # Another thread has taken the last one.
                    break
                settlements.append(self._taken(operation))
        return settlements

    def _taken(self, operation: Operation) -> Settlement:
        """Take a step; one that fails costs the others nothing."""
        try:
            return self._step(operation)
        except Exception:
            _log.exception("step failed", operation=operation.id)
            return came_to_nothing(operation)
