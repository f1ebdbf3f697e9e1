"""Which drills are due, and how long they are worked on at a time."""

from __future__ import annotations

import time
from typing import Final

import structlog

from certbroker.services.drills.drills import Drills

_COUNT: Final = 20

# Planning reads one page after the other. For so long at a time, in seconds, so that every drill has its turn.
_LENGTH: Final = 0.5

_log = structlog.get_logger("certbroker.drills")


class _Turn:
    """Whether there is time left in a drill's turn."""

    def __init__(self) -> None:
        self._end = time.monotonic() + _LENGTH

    def __call__(self) -> bool:
        return time.monotonic() < self._end


class DrillSweep:
    """Claims drills and goes on with each."""

    def __init__(self, drills: Drills) -> None:
        self._drills = drills

    def sweep(self) -> int:
        """Go on with what is due; return how many that were."""
        claimed = self._drills.claim(_COUNT)
        for drill in claimed:
            try:
                self._drills.work(drill, _Turn())
            except Exception:
                # It is due again when its lease is over.
                _log.exception("drill could not go on", drill=drill.id)
        return len(claimed)
