"""Which deployments are due, and who makes them: threads of their own, so that a hook that hangs delays itself only."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from certbroker import background
from certbroker.services.deployment.deployments import Deployments
from certbroker.store.deployments import Deployment

_THREADS: Final = 16


class DeploySweep:
    """Claims deployments that are due and hands them to threads."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="deploy", initializer=background.enter)
        self._lock = threading.Lock()
        self._busy = 0

    def sweep(self) -> int:
        """Claim what is due and has a free thread; return how much that was."""
        with self._lock:
            free = _THREADS - self._busy
        claimed = self._deployments.claim(free) if free else []
        for deployment in claimed:
            with self._lock:
                self._busy += 1
            self._threads.submit(self._work, deployment)
        return len(claimed)

    def stop(self) -> None:
        """Wait for those in hand."""
        self._threads.shutdown(wait=True)

    def _work(self, deployment: Deployment) -> None:
        try:
            self._deployments.deploy(deployment)
        finally:
            with self._lock:
                self._busy -= 1
