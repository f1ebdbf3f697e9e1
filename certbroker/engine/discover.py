"""Which tasks of discovery are due, and who goes on with them: a thread for each, so that none waits for another."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from certbroker import background
from certbroker.services.discovery.tasks import DiscoveryTasks

_THREADS: Final = 6


class DiscoverSweep:
    """Hands tasks that are due to threads."""

    def __init__(self, tasks: DiscoveryTasks) -> None:
        self._tasks = tasks
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="discovery", initializer=background.enter)
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._prepared = False

    def sweep(self) -> int:
        """Hand over what is due and nobody works on; return how much that was."""
        if not self._prepared:
            self._tasks.prepare()
            self._prepared = True
        with self._lock:
            free = [task for task in self._tasks.due() if task not in self._busy][: _THREADS - len(self._busy)]
            self._busy.update(free)
        for task in free:
            self._threads.submit(self._work, task)
        return len(free)

    def stop(self) -> None:
        """Wait for the looks and questions in hand. The rest is resumed after the next start."""
        self._tasks.stop()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _work(self, task: str) -> None:
        try:
            self._tasks.work(task)
        finally:
            with self._lock:
                self._busy.discard(task)
