"""A time that tests say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class SteppedClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC)

    def now(self) -> datetime:
        return self.moment

    def forward(self, by: timedelta) -> None:
        self.moment += by


class CountingClock(SteppedClock):
    """One that can also be set, while it counts the time that passes."""

    def __init__(self) -> None:
        super().__init__()
        self._passed = timedelta(hours=1)

    def passed(self) -> timedelta:
        return self._passed

    def forward(self, by: timedelta) -> None:
        """Time passes."""
        super().forward(by)
        self._passed += by

    def set(self, by: timedelta) -> None:
        """Somebody sets the clock."""
        super().forward(by)
