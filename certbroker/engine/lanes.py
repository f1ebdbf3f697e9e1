"""Threads for questions to the outside, few for each who is asked: one that hangs delays nobody else.

Lanes take turns at the threads, so that where more hang than there are threads for, each of the others waits for one
thread to become free, and not until those that hang have nothing left to be asked.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, TypeVar

import structlog

from certbroker import background

Lane = TypeVar("Lane", bound=Hashable)
Item = TypeVar("Item")

_log = structlog.get_logger("certbroker.engine")


class Lanes(Generic[Lane, Item]):
    """Does something with items in lanes: at most `at_once` of a lane in hand, and `waiting` more behind those."""

    def __init__(self, name: str, work: Callable[[Item], object], *, threads: int, at_once: int, waiting: int) -> None:
        self._work = work
        self._at_once: Final = at_once
        self._most_waiting: Final = waiting
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=background.enter)
        self._waiting: dict[Lane, deque[Item]] = {}
        self._busy: Counter[Lane] = Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many wait. Of one lane count no more than it can have in hand, so that it leaves room for others."""
        with self._lock:
            return sum(min(len(waiting), self._at_once) for waiting in self._waiting.values())

    def put(self, lane: Lane, item: Item) -> bool:
        """Have it done; False when too many wait in that lane."""
        with self._lock:
            waiting = self._waiting.setdefault(lane, deque())
            if len(waiting) >= self._most_waiting:
                return False
            waiting.append(item)
            if self._busy[lane] >= self._at_once:
                return True
            self._busy[lane] += 1
        self._threads.submit(self._go, lane)
        return True

    def stop(self) -> None:
        """Wait for what is in hand. What waits is not done."""
        with self._lock:
            self._waiting.clear()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _go(self, lane: Lane) -> None:
        """Do one, and then let the other lanes have their turn before the next of this one."""
        with self._lock:
            waiting = self._waiting.get(lane)
            item = waiting.popleft() if waiting else None
        if item is not None:
            try:
                with background.working():
                    self._work(item)
            except Exception:
                # What is leased is due again when its lease is over; the place in the lane must not be lost.
                _log.exception("a question to the outside came to nothing", lane=lane)
        with self._lock:
            if self._waiting.get(lane):
                # Under the lock, because nothing waits any more once the threads are about to end.
                self._threads.submit(self._go, lane)
                return
            self._waiting.pop(lane, None)
            self._busy[lane] -= 1
            if not self._busy[lane]:
                del self._busy[lane]
