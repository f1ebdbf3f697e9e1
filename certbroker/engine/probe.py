"""Which endpoints are due for a look, and who takes it.

A host is looked at by one thread at a time, so that one with many names is not crowded. Endpoints at which nothing
could be seen the last time have threads of their own: however many servers hang, the others are looked at.
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from certbroker import background
from certbroker.services.deployment.endpoints import Endpoints
from certbroker.store.endpoints import Endpoint, Lane

_THREADS: Final = {Lane.SEEN: 16, Lane.BLIND: 8}


class ProbeSweep:
    """Claims endpoints that are due and hands them to threads."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._threads = ThreadPoolExecutor(
            sum(_THREADS.values()), thread_name_prefix="probe", initializer=background.enter
        )
        self._lock = threading.Lock()
        self._busy: Counter[Lane] = Counter()
        self._hosts: set[str] = set()

    def sweep(self) -> int:
        """Claim what is due and has a free thread; return how much that was."""
        chosen = {}
        with self._lock:
            busy, free = set(self._hosts), {lane: threads - self._busy[lane] for lane, threads in _THREADS.items()}
        for lane, count in free.items():
            # So many more as may be of hosts that are being looked at.
            found = (
                [due for due in self._endpoints.due(lane, count + len(busy)) if due.host not in busy] if count else []
            )
            for due in found[:count]:
                busy.add(due.host)
                chosen[due.vault_id, due.name, due.id] = (due, lane)
        claimed = self._endpoints.claim([due for due, _ in chosen.values()])
        for endpoint in claimed:
            lane = chosen[endpoint.vault_id, endpoint.name, endpoint.place.id][1]
            with self._lock:
                self._busy[lane] += 1
                self._hosts.add(endpoint.place.host)
            self._threads.submit(self._work, endpoint, lane)
        return len(claimed)

    def stop(self) -> None:
        """Wait for the looks in hand."""
        self._threads.shutdown(wait=True)

    def _work(self, endpoint: Endpoint, lane: Lane) -> None:
        try:
            self._endpoints.look(endpoint)
        finally:
            with self._lock:
                self._busy[lane] -= 1
                self._hosts.discard(endpoint.place.host)
