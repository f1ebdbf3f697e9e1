"""The time."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time in UTC. It may jump, as clocks do; never blocks, never raises."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        ...
