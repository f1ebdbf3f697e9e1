"""Which revocations are due again, and who asks the CAs: threads of their own, so that nothing else waits for them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from certbroker import background
from certbroker.domain.revocation import Revocation
from certbroker.services.revocation.revocations import Revocations

_THREADS: Final = 4


class RevokeSweep:
    """Claims revocations that are due and hands them to threads."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="revocation", initializer=background.enter)
        self._lock = threading.Lock()
        self._busy = 0

    def sweep(self) -> int:
        """Claim what is due and has a free thread; return how much that was."""
        with self._lock:
            free = _THREADS - self._busy
        claimed = self._revocations.claim(free) if free else []
        for revocation in claimed:
            with self._lock:
                self._busy += 1
            self._threads.submit(self._work, revocation)
        return len(claimed)

    def stop(self) -> None:
        """Wait for those in hand."""
        self._threads.shutdown(wait=True)

    def _work(self, revocation: Revocation) -> None:
        try:
            self._revocations.go_on(revocation)
        finally:
            with self._lock:
                self._busy -= 1
