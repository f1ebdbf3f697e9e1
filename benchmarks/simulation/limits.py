"""What the simulated CAs allow, as Let's Encrypt publishes it. It is written anew here, by another method than the
broker's own, so that a mistake in that is seen.

A counter holds a number of places that grows evenly with time up to what is allowed at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Allowed:
    """So many at once, and as many again in each period."""

    count: int
    period: timedelta


# https://letsencrypt.org/docs/rate-limits/
ORDERS_BY_ACCOUNT = Allowed(300, timedelta(hours=3))
CERTIFICATES_FOR_DOMAIN = Allowed(50, timedelta(days=7))
CERTIFICATES_FOR_NAMES = Allowed(5, timedelta(days=7))
FAILURES_OF_NAME = Allowed(5, timedelta(hours=1))


class Counter:
    """Places that are taken and come back."""

    __slots__ = ("_allowed", "_at", "_free")

    def __init__(self, allowed: Allowed, now: datetime) -> None:
        self._allowed = allowed
        self._free = float(allowed.count)
        self._at = now

    def wait(self, now: datetime) -> timedelta:
        """How long until there is a place; zero when there is one."""
        free = self._free_at(now)
        # A place that is whole but for rounding is whole.
        return timedelta(0) if free > 1 - 1e-6 else (1 - free) / self._allowed.count * self._allowed.period

    def take(self, now: datetime) -> float:
        """Take one, whether or not there is one; never below none. Returns which part is used then."""
        self._free, self._at = max(0.0, self._free_at(now) - 1), now
        return 1 - self._free / self._allowed.count

    def _free_at(self, now: datetime) -> float:
        back = (now - self._at) / self._allowed.period * self._allowed.count
        return min(float(self._allowed.count), self._free + back)


class Counters:
    """A counter of one sort for each subject. `on_use` is told which part of one is used, each time it grows."""

    def __init__(self, allowed: Allowed, what: str) -> None:
        self.what = what
        self.on_use: Callable[[datetime, float], None] = lambda now, used: None
        self._allowed = allowed
        self._counters: dict[str, Counter] = {}

    def wait(self, subject: str, now: datetime) -> timedelta:
        counter = self._counters.get(subject)
        return timedelta(0) if counter is None else counter.wait(now)

    def take(self, subject: str, now: datetime) -> None:
        self.on_use(now, self._counters.setdefault(subject, Counter(self._allowed, now)).take(now))
