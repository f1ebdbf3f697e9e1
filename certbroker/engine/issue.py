"""Which operations are due, and who works on them.

The database is the queue: what is due is found by an index and claimed by lease. Work that needs this machine only
(making keys, signing) has threads of its own, so that an issuer that hangs never delays it, and those who wait for
primes delay nobody else; work that calls outside is limited for each issuer, to less and less as the threads become
few, so that neither one that hangs nor several take them all. What finds no thread stays in the database until one is
free, and what is due later at another issuer is not behind it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from certbroker import background
from certbroker.domain.records import Operation
from certbroker.engine.workbench import Workbench
from certbroker.ports.issuer import THREADS_PER_ISSUER
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.issuance.operations import Operations
from certbroker.services.issuance.steps import Settlement

_BATCH: Final = 256
_CORES: Final = os.cpu_count() or 1
_LOCAL_QUEUE: Final = 512
_REMOTE_THREADS: Final = 48

# Operations that wait for a full lane are passed over one by one: 100 ms for 100,000. This many times as long as that
# took, nobody looks past them again.
_REST: Final = 10.0

# Once in so many sweeps what is due longest goes first, whatever it is: so nothing that has time waits for ever behind
# what has none.
_BY_AGE: Final = 4

# How often leases of what is worked on are extended, in seconds; they last several times as long.
_EXTEND: Final = 30.0

Lane = tuple[int, str] | None
_log = structlog.get_logger("certbroker.engine")


class IssueSweep:
    """Claims due operations and hands them to threads."""

    def __init__(self, operations: Operations, inbox: Inbox) -> None:
        self._operations = operations
        self._inbox = inbox
        # The search for primes lets other threads run, so every core can search. All other steps hold the interpreter:
        # two at a time would only take it from each other.
        self._primes = Workbench("primes", operations.steps.take, self._settle_here, threads=_CORES, at_once=_CORES)
        self._local = Workbench("local", operations.steps.take, self._settle_here, threads=2, at_once=1)
        self._remote = ThreadPoolExecutor(_REMOTE_THREADS, thread_name_prefix="issuer", initializer=background.enter)
        self._busy: Counter[Lane] = Counter()
        self._in_hand: dict[str, Operation] = {}
        self._extended = time.monotonic()
        self._look_past = 0.0
        self._sweeps = 0
        self._lock = threading.Lock()

    def sweep(self) -> int:
        """Claim what is due and has a free thread; return how much that was."""
        self._keep_leases()
        lanes: dict[str, Lane] = {}
        claimed: list[Operation] = []
        try:
            self._claim(claimed, lanes)
        finally:
            # Whatever has failed: what was claimed is worked on, and no place is kept for what was not.
            self._hand_out(claimed, lanes)
        return len(claimed)

    def _hand_out(self, claimed: list[Operation], lanes: dict[str, Lane]) -> None:
        """Have everything worked on that was claimed, or was handed in, and give back the places that are left."""
        for operation in self._inbox.take():
            with self._lock:
                self._busy[None] += 1
            lanes[operation.id] = None
            claimed.append(operation)
        with self._lock:
            self._in_hand |= {operation.id: operation for operation in claimed}
        local, primes = [], []
        for operation in claimed:
            lane = lanes.pop(operation.id)
            if lane is not None:
                self._remote.submit(self._work_outside, operation, lane)
            elif operation.policy.key.family == "RSA":
                primes.append(operation)
            else:
                local.append(operation)
        self._local.put(local)
        self._primes.put(primes)
        for lane in lanes.values():
            self._give_back(lane)

    def _claim(self, claimed: list[Operation], lanes: dict[str, Lane]) -> None:
        """Claim what is due and has a place in its lane, the most urgent first; `lanes` gets a place by operation."""
        self._sweeps += 1
        by_age = self._sweeps % _BY_AGE == 0
        full = self._full() if time.monotonic() >= self._look_past else set()
        # Thousands may wait for one issuer, and each look at what it is reads the database.
        local: dict[tuple[int, str], bool] = {}
        while True:
            begun = time.monotonic()
            found = self._operations.due(_BATCH, full, by_age=by_age)
            if full:
                ended = time.monotonic()
                self._look_past = ended + _REST * (ended - begun)
            chosen = []
            for due in found:
                issuer = (due.vault_id, due.issuer)
                if issuer not in local:
                    local[issuer] = self._operations.is_local(due)
                lane = None if local[issuer] else issuer
                if issuer not in full and self._take(lane):
                    lanes[due.id] = lane
                    chosen.append(due)
                else:
                    full.add(issuer)
            claimed += self._operations.claim(chosen)
            if len(found) < _BATCH or len(chosen) == len(found) or time.monotonic() < self._look_past:
                return

    def stop(self) -> None:
        """Wait for the work in hand; what has not begun keeps its lease and is resumed after the next start."""
        self._local.stop()
        self._primes.stop()
        self._remote.shutdown(wait=True, cancel_futures=True)

    def _settle_here(self, settlements: list[Settlement]) -> None:
        try:
            self._operations.settle(settlements)
        finally:
            for settlement in settlements:
                self._give_back(None, settlement.operation.id)
            self._inbox.wake()

    def _work_outside(self, operation: Operation, lane: Lane) -> None:
        try:
            with background.working():
                self._operations.work(operation)
        except Exception:
            _log.exception("operation could not be worked on", operation=operation.id)
        finally:
            self._give_back(lane, operation.id)
            self._inbox.wake()

    def _keep_leases(self) -> None:
        if time.monotonic() - self._extended < _EXTEND:
            return
        self._extended = time.monotonic()
        with self._lock:
            in_hand = list(self._in_hand.values())
        self._operations.extend(in_hand)

    def _take(self, lane: Lane) -> bool:
        """Reserve a place in a lane, if it has one."""
        with self._lock:
            if self._is_full(lane):
                return False
            self._busy[lane] += 1
            return True

    def _full(self) -> set[tuple[int, str]]:
        """The issuers that have no place left."""
        with self._lock:
            return {lane for lane in self._busy if lane is not None and self._is_full(lane)}

    def _is_full(self, lane: Lane) -> bool:
        """Whether a lane has no place; the lock is held."""
        mine = self._busy.get(lane, 0)
        if lane is None:
            return mine >= _LOCAL_QUEUE
        # An issuer takes no more than half of what the others leave.
        free = _REMOTE_THREADS - (sum(self._busy.values()) - self._busy.get(None, 0))
        return mine >= min(THREADS_PER_ISSUER, (mine + free + 1) // 2)

    def _give_back(self, lane: Lane, operation_id: str = "") -> None:
        with self._lock:
            self._in_hand.pop(operation_id, None)
            self._busy[lane] -= 1
            if self._busy[lane] == 0:
                del self._busy[lane]
