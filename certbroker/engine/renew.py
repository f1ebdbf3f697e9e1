"""Which certificates are due for a look, and who asks their issuers.

Looking and deciding needs the database only and is done at once, for many together. Asking an issuer for its renewal
window is an outside call: it has threads of its own, few for each issuer, so that one that hangs delays no other.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from certbroker.services.looks import Look
from certbroker.services.renewals import Renewals

_BATCH: Final = 200
_THREADS: Final = 48
_PER_ISSUER: Final = 4
_WAITING_PER_ISSUER: Final = 64

Lane = tuple[int, str]

_log = structlog.get_logger("certbroker.renewals")


class RenewSweep:
    """Claims lifecycles that are due and sees to them."""

    def __init__(self, renewals: Renewals) -> None:
        self._renewals = renewals
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="renewal")
        self._waiting: dict[Lane, deque[Look]] = {}
        self._busy: Counter[Lane] = Counter()
        self._lock = threading.Lock()

    def sweep(self) -> int:
        """See to what is due; return how much that was."""
        claimed = self._renewals.claim(_BATCH)
        looks = self._renewals.look(claimed)
        at_once = []
        for look in looks:
            if not self._renewals.is_question_due(look):
                at_once.append(look)
            elif not self._question(look):
                at_once.append(self._renewals.put_off(look))
        if at_once:
            self._renewals.attend(at_once)
        return len(claimed)

    def stop(self) -> None:
        """Wait for the questions in hand. What has not been asked is due again when its lease is over."""
        with self._lock:
            self._waiting.clear()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _question(self, look: Look) -> bool:
        """Have the question asked; False when too many wait for that issuer."""
        lane = (look.care.vault_id, look.issuer.lower())
        with self._lock:
            waiting = self._waiting.setdefault(lane, deque())
            if len(waiting) >= _WAITING_PER_ISSUER:
                return False
            waiting.append(look)
            if self._busy[lane] >= _PER_ISSUER:
                return True
            self._busy[lane] += 1
        self._threads.submit(self._ask, lane)
        return True

    def _ask(self, lane: Lane) -> None:
        """Ask for one certificate after the other, as long as there are some."""
        while True:
            with self._lock:
                looks = self._waiting.get(lane)
                if not looks:
                    self._waiting.pop(lane, None)
                    self._busy[lane] -= 1
                    if not self._busy[lane]:
                        del self._busy[lane]
                    return
                look = looks.popleft()
            try:
                self._renewals.attend([self._renewals.ask(look)])
            except Exception:
                # It is due again when its lease is over; the place in the lane must not be lost.
                _log.exception("certificate could not be looked after", certificate=look.care.name)
