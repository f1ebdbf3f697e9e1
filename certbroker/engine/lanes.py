"""Threads for questions to the outside, few for each who is asked: one that hangs delays nobody else."""

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
        """How many wait, in all lanes."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

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
        """Do one after the other, as long as there are some in that lane."""
        while True:
            with self._lock:
                waiting = self._waiting.get(lane)
                if not waiting:
                    self._waiting.pop(lane, None)
                    self._busy[lane] -= 1
                    if not self._busy[lane]:
                        del self._busy[lane]
                    return
                item = waiting.popleft()
            try:
                with background.working():
                    self._work(item)
            except Exception:
                # What is leased is due again when its lease is over; the place in the lane must not be lost.
                _log.exception("a question to the outside came to nothing", lane=lane)
