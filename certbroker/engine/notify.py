"""Which channels have something to deliver, and who delivers it.

A channel is claimed by lease and worked on by one thread at a time, so that a target that hangs delays only its own
channel. Channels that fail get some of the threads only: however many targets hang, the others are told.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from certbroker.domain.channels import Channel
from certbroker.services.deliveries import Deliveries
from certbroker.services.inbox import Inbox

_THREADS: Final = 24
_FOR_FAILING: Final = 8


class NotifySweep:
    """Claims due channels and hands them to threads."""

    def __init__(self, deliveries: Deliveries, inbox: Inbox) -> None:
        self._deliveries = deliveries
        self._inbox = inbox
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="notify")
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._busy = 0
        self._busy_failing = 0

    def sweep(self) -> int:
        """Claim what is due and has a free thread; return how much that was."""
        with self._lock:
            free, free_for_failing = _THREADS - self._busy, _FOR_FAILING - self._busy_failing
        chosen = self._deliveries.due(free, failing=False) if free > 0 else []
        left = min(free - len(chosen), free_for_failing)
        if left > 0:
            chosen += self._deliveries.due(left, failing=True)
        claimed = self._deliveries.claim(chosen)
        for channel in claimed:
            with self._lock:
                self._busy += 1
                self._busy_failing += channel.health.failures > 0
            self._threads.submit(self._work, channel)
        return len(claimed)

    def stop(self) -> None:
        """Wait for the deliveries in hand; what has not begun waits in the database."""
        self._stopping.set()
        self._threads.shutdown(wait=True)

    def _work(self, channel: Channel) -> None:
        try:
            self._deliveries.work(channel, lambda: not self._stopping.is_set())
        finally:
            with self._lock:
                self._busy -= 1
                self._busy_failing -= channel.health.failures > 0
            self._inbox.wake()
