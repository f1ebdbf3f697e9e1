"""Which channels have something to deliver, and who delivers it.

A channel is claimed by lease and worked on by one thread at a time, so that a target that hangs delays only its own
channel. Channels that work, that are new, and that fail have threads of their own: however many targets hang, those
that work are told.
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from certbroker import background
from certbroker.domain.channels import Channel, Lane
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.notification.deliveries import Deliveries

_THREADS: Final = {Lane.PROVEN: 16, Lane.NEW: 8, Lane.FAILING: 8}


class NotifySweep:
    """Claims due channels and hands them to threads."""

    def __init__(self, deliveries: Deliveries, inbox: Inbox) -> None:
        self._deliveries = deliveries
        self._inbox = inbox
        self._threads = ThreadPoolExecutor(
            sum(_THREADS.values()), thread_name_prefix="notify", initializer=background.enter
        )
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._busy: Counter[Lane] = Counter()

    def sweep(self) -> int:
        """Claim what is due and has a free thread; return how much that was."""
        with self._lock:
            free = {lane: threads - self._busy[lane] for lane, threads in _THREADS.items()}
        chosen = [due for lane, count in free.items() if count for due in self._deliveries.due(lane, count)]
        claimed = self._deliveries.claim(chosen)
        for channel in claimed:
            with self._lock:
                self._busy[channel.health.lane] += 1
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
                self._busy[channel.health.lane] -= 1
            self._inbox.wake()
