"""Which certificates are to be checked for revocation, and which sources are to be asked about that.

Checking needs the database and the indexes of CRLs only. Asking a source is an outside call, in a lane for each host.
"""

from __future__ import annotations

import time
from typing import Final
from urllib.parse import urlsplit

from certbroker.domain.revocation_sources import Source
from certbroker.engine.lanes import Lanes
from certbroker.services.revocation.watching import Watching

_BATCH: Final = 200
_THREADS: Final = 32
_PER_HOST: Final = 2
_WAITING: Final = 64
_WAITING_PER_HOST: Final = 16
# Well below the silence after which a part of the engine is taken to be dead.
_LONGEST_SWEEP: Final = 10.0


class WatchSweep:
    """Claims what is due, judges certificates and has sources asked."""

    def __init__(self, watching: Watching) -> None:
        self._watching = watching
        self._questions: Lanes[str, Source] = Lanes(
            "watch", watching.sources.fetch, threads=_THREADS, at_once=_PER_HOST, waiting=_WAITING_PER_HOST
        )

    def sweep(self) -> int:
        """See to what is due; return how much of it there may be more of at once."""
        if not self._watching.settings.enabled:
            return 0
        watches = self._watching.claim(_BATCH)
        if watches:
            self._watching.check(watches)
        free = _WAITING - len(self._questions)
        for source in self._watching.sources.claim(free) if free > 0 else []:
            if not self._questions.put((urlsplit(source.url).hostname or "").lower(), source):
                self._watching.sources.put_off(source)
        return self._watching.go_through() + len(watches)

    def sweep_all(self) -> None:
        """The same until nothing is left to be done at once, or it has taken long enough for a sign of life."""
        end = time.monotonic() + _LONGEST_SWEEP
        while self.sweep() and time.monotonic() < end:
            pass

    def stop(self) -> None:
        """Wait for the questions in hand. What has not been asked is due again when its lease is over."""
        self._questions.stop()
