"""What is seen from outside of a broker: what the CAs issue, and what ends without a successor."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime

from benchmarks.simulation.ca import Issued, SimulatedCA
from benchmarks.simulation.tally import Tally
from benchmarks.simulation.world import DAY, HOUR
from certbroker.domain.lifecycle import Health

# A broker that has found its CA away asks again after an hour at the latest. A certificate that ends sooner than this
# after its CA has come back is lost to the outage, not to the broker.
_BACK_FOR = 2 * HOUR

_WEEK = 7 * DAY
_ILL = (Health.FAILING, Health.NEEDS_PERSON, Health.EXPIRED)


class Watch:
    """Told of every certificate. What it sees goes into the tally."""

    def __init__(self, start: datetime, tally: Tally) -> None:
        self._start = start
        self._tally = tally
        self._latest: dict[tuple[str, ...], Issued] = {}
        self._ends: list[tuple[datetime, tuple[str, ...], str, SimulatedCA]] = []

    def listener(self, ca: SimulatedCA) -> Callable[[Issued, Issued | None], None]:
        """What the CA tells of its certificates."""

        def issued(made: Issued, before: Issued | None) -> None:
            since = made.at - self._start
            self._tally.orders_by_week[since // _WEEK] += 1
            self._tally.orders_by_hour[since // HOUR] += 1
            if before is not None:
                self._note(since // _WEEK, (before.not_after - made.at) / (before.not_after - before.not_before))
            self._latest[made.names] = made
            heapq.heappush(self._ends, (made.not_after, made.names, made.sha256, ca))

        return issued

    def uses(self, what: str) -> Callable[[datetime, float], None]:
        """What a CA tells of one of its limits."""
        most = self._tally.most_used

        def used(at: datetime, part: float) -> None:
            key = (at - self._start) // _WEEK, what
            most[key] = max(part, most.get(key, 0.0))

        return used

    def made(self, at: datetime, why: str) -> None:
        """A certificate has come to the broker."""
        self._tally.certificates_by_week[(at - self._start) // _WEEK, why] += 1

    def health(self, at: datetime, counts: Mapping[Health, int]) -> None:
        """How the certificates are."""
        week = (at - self._start) // _WEEK
        worst = self._tally.health_by_week.get(week)
        if worst is None or sum(counts[each] for each in _ILL) > sum(worst[each] for each in _ILL):
            self._tally.health_by_week[week] = Counter({str(each): count for each, count in counts.items()})

    def look(self, now: datetime) -> None:
        """Find what has ended without a successor."""
        while self._ends and self._ends[0][0] <= now:
            end, names, sha256, ca = heapq.heappop(self._ends)
            if self._latest[names].sha256 != sha256:
                continue
            self._note((end - self._start) // _WEEK, 0.0)
            if ca.was_up(end - _BACK_FOR, end):
                self._tally.expired.append(f"{names[0]} at {end:%Y-%m-%d %H:%M}")
            else:
                self._tally.expired_in_outages += 1

    def latest(self, names: tuple[str, ...]) -> Issued | None:
        """The newest certificate for these names."""
        return self._latest.get(names)

    def _note(self, week: int, left: float) -> None:
        least = self._tally.least_left
        least[week] = min(least.get(week, 1.0), max(0.0, left))
