"""Which private CAs have something to publish, and who does that: threads of their own, one for each CA."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from certbroker import background
from certbroker.services.pki.publishing import LEASE, Publishing, Turn

_THREADS: Final = 4

# CAs that are in hand or wait for a thread. A turn takes milliseconds as a rule, and since all that are due are taken,
# those that issue all the time never stand before others.
_IN_HAND: Final = 256
_log = structlog.get_logger("certbroker.engine")


class PublishSweep:
    """Claims CAs that have something to publish and hands them to threads."""

    def __init__(self, publishing: Publishing) -> None:
        self._publishing = publishing
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="publishing", initializer=background.enter)
        self._lock = threading.Lock()
        self._began: dict[str, float] = {}

    def sweep(self) -> int:
        """Claim what is due; return how much that was. Raises TimeoutError while a CA's key does not answer."""
        with self._lock:
            began = dict(self._began)
        claimed = self._publishing.claim(_IN_HAND - len(began), frozenset(began))
        for turn in claimed:
            with self._lock:
                self._began[turn.authority] = time.monotonic()
            self._threads.submit(self._work, turn)
        if any(time.monotonic() - at > LEASE.total_seconds() for at in began.values()):
            raise TimeoutError("A CA has been at its lists for too long: its key does not answer.")
        return len(claimed)

    def tidy(self) -> None:
        """Remove what has been replaced."""
        self._publishing.tidy()

    def stop(self) -> None:
        """Wait for those in hand; those that wait for a thread have their turn after the next start."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _work(self, turn: Turn) -> None:
        try:
            self._publishing.go_on(turn)
        except Exception:
            # It is due again when the lease is over.
            _log.exception("what a CA publishes could not be made", authority=turn.authority)
        finally:
            with self._lock:
                del self._began[turn.authority]
