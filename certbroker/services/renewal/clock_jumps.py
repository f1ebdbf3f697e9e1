"""Noticing that the clock was set, by how much time has really passed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from certbroker.ports.clock import Clock, CountsTime

# Clocks that are put right little by little, and threads that wait between two readings, differ by less.
_SLACK: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Jump:
    """What the time should be, and by how much the clock differs from that."""

    expected: datetime
    by: timedelta


class ClockJumps:
    """Compares a clock with the time that passes. One that cannot count time never jumps, as far as anybody knows."""

    def __init__(self, clock: Clock) -> None:
        self._counter = clock if isinstance(clock, CountsTime) else None
        self._last: tuple[datetime, timedelta] | None = None

    def since_last(self, now: datetime) -> Jump | None:
        """The jump since this was asked the last time, if there was one. Not for several threads at once."""
        if self._counter is None:
            return None
        last, passed = self._last, self._counter.passed()
        self._last = now, passed
        if last is None:
            return None
        expected = last[0] + (passed - last[1])
        return Jump(expected, now - expected) if abs(now - expected) > _SLACK else None
