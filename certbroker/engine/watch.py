"""Which certificates are to be checked for revocation, and which sources are to be asked about that.

Checking needs the database and the indexes of CRLs only. Asking a source is an outside call: it has threads of its own,
few for each host, so that one that hangs delays no other.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

import structlog

from certbroker.domain.revocation_sources import Source
from certbroker.services.watching import Watching

_BATCH: Final = 200
_THREADS: Final = 16
_PER_HOST: Final = 2
_WAITING: Final = 64
_WAITING_PER_HOST: Final = 16
# Well below the silence after which a part of the engine is taken to be dead.
_LONGEST_SWEEP: Final = 10.0
_log = structlog.get_logger("certbroker.watch")


class WatchSweep:
    """Claims what is due, judges certificates and has sources asked."""

    def __init__(self, watching: Watching) -> None:
        self._watching = watching
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="watch")
        self._waiting: dict[str, deque[Source]] = {}
        self._busy: Counter[str] = Counter()
        self._lock = threading.Lock()

    def sweep(self) -> int:
        """See to what is due; return how much of it there may be more of at once."""
        if not self._watching.settings.enabled:
            return 0
        watches = self._watching.claim(_BATCH)
        if watches:
            self._watching.check(watches)
        with self._lock:
            free = _WAITING - sum(map(len, self._waiting.values()))
        for source in self._watching.sources.claim(free) if free > 0 else []:
            if not self._ask(source):
                self._watching.sources.put_off(source)
        return self._watching.go_through() + len(watches)

    def sweep_all(self) -> None:
        """The same until nothing is left to be done at once, or it has taken long enough for a sign of life."""
        end = time.monotonic() + _LONGEST_SWEEP
        while self.sweep() and time.monotonic() < end:
            pass

    def stop(self) -> None:
        """Wait for the questions in hand. What has not been asked is due again when its lease is over."""
        with self._lock:
            self._waiting.clear()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _ask(self, source: Source) -> bool:
        """Have the source asked; False when too many wait for its host."""
        host = (urlsplit(source.url).hostname or "").lower()
        with self._lock:
            waiting = self._waiting.setdefault(host, deque())
            if len(waiting) >= _WAITING_PER_HOST:
                return False
            waiting.append(source)
            if self._busy[host] >= _PER_HOST:
                return True
            self._busy[host] += 1
        self._threads.submit(self._work, host)
        return True

    def _work(self, host: str) -> None:
        """Ask one source after the other, as long as there are some at that host."""
        while True:
            with self._lock:
                sources = self._waiting.get(host)
                if not sources:
                    self._waiting.pop(host, None)
                    self._busy[host] -= 1
                    if not self._busy[host]:
                        del self._busy[host]
                    return
                source = sources.popleft()
            try:
                self._watching.sources.fetch(source)
            except Exception:
                # It is due again when its lease is over; the place at the host must not be lost.
                _log.exception("source of revocations could not be asked", url=source.url)
