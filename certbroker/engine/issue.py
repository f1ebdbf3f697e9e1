"""Which operations are due, and who works on them.

The database is the queue: what is due is found by an index and claimed by lease. Work that needs this machine only (making
keys, signing) has threads of its own, so that an issuer that hangs never delays it; work that calls outside is limited for
each issuer, so that one that hangs never takes all threads. What finds no thread stays in the database until one is free.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from certbroker.domain.records import Operation
from certbroker.services.operations import Operations
from certbroker.store.operations import Due

_BATCH: Final = 256
_LOCAL_THREADS: Final = 16
_LOCAL_QUEUE: Final = 64
_REMOTE_THREADS: Final = 48
_PER_ISSUER: Final = 12

Lane = tuple[int, str] | None


class IssueSweep:
    """Claims due operations and hands them to threads."""

    def __init__(self, operations: Operations, wake: threading.Event) -> None:
        self._operations = operations
        self._wake = wake
        self._local = ThreadPoolExecutor(_LOCAL_THREADS, thread_name_prefix="local")
        self._remote = ThreadPoolExecutor(_REMOTE_THREADS, thread_name_prefix="issuer")
        self._busy: Counter[Lane] = Counter()
        self._lock = threading.Lock()

    def sweep(self) -> int:
        """Claim what is due and has a free thread; return how much that was."""
        chosen: dict[str, Lane] = {}
        for due in self._operations.due(_BATCH):
            lane = None if self._operations.is_local(due) else (due.vault_id, due.issuer)
            if self._take(lane):
                chosen[due.id] = lane
        claimed = self._operations.claim([Due(each, 0, "") for each in chosen])
        for operation in claimed:
            lane = chosen.pop(operation.id)
            pool = self._local if lane is None else self._remote
            pool.submit(self._work, operation, lane)
        for lane in chosen.values():
            self._give_back(lane)
        return len(claimed)

    def stop(self) -> None:
        """Wait for the work in hand; what has not begun keeps its lease and is resumed after the next start."""
        self._local.shutdown(wait=True, cancel_futures=True)
        self._remote.shutdown(wait=True, cancel_futures=True)

    def _work(self, operation: Operation, lane: Lane) -> None:
        try:
            self._operations.work(operation)
        finally:
            self._give_back(lane)
            self._wake.set()

    def _take(self, lane: Lane) -> bool:
        """Reserve a place in a lane, if it has one."""
        with self._lock:
            full = self._busy[lane] >= (_LOCAL_QUEUE if lane is None else _PER_ISSUER)
            remote = sum(self._busy.values()) - self._busy[None]
            if full or (lane is not None and remote >= _REMOTE_THREADS):
                return False
            self._busy[lane] += 1
            return True

    def _give_back(self, lane: Lane) -> None:
        with self._lock:
            self._busy[lane] -= 1
            if self._busy[lane] == 0:
                del self._busy[lane]
