"""The time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable


class Clock(Protocol):
    """Tells the time in UTC. It may jump, as clocks do; never blocks, never raises."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        ...


@runtime_checkable
class CountsTime(Protocol):
    """A clock that also counts the time that passes, which nobody can set."""

    def passed(self) -> timedelta:
        """Since some moment before the process began. It goes on while the machine sleeps, as far as it can tell."""
        ...
