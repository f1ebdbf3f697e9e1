"""What is counted while the years pass, and what it has to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from benchmarks.simulation.ideal import ideal_orders
from benchmarks.simulation.world import HOUR, World

# More orders than these, or looks at certificates, are a sign of turning in circles.
_ORDERS_OVER = 1.05
_LOOKS_FOR_ORDER = 6
_LOOKS_OVER = 1.1


@dataclass(slots=True)
class Tally:
    """The counts of one broker and its CAs. Weeks and hours are counted from the start."""

    orders: int = 0
    refused_by_limits: Counter[str] = field(default_factory=Counter)
    doubled_orders: int = 0
    """Orders for something that had been replaced already."""
    needless_certificates: int = 0
    """Certificates for names that had a fresh one."""
    failed_validations: int = 0
    expired: list[str] = field(default_factory=list)
    """What ended without a successor while its CA was up."""
    expired_in_outages: int = 0
    unwell: list[str] = field(default_factory=list)
    """What is wrong with certificates at the end."""
    replaced_for_incident: list[timedelta] = field(default_factory=list)
    orders_by_week: Counter[int] = field(default_factory=Counter)
    orders_by_hour: Counter[int] = field(default_factory=Counter)
    certificates_by_week: Counter[tuple[int, str]] = field(default_factory=Counter)
    """By week and by why they were made: the trigger of the renewal, or `First`."""
    health_by_week: dict[int, Counter[str]] = field(default_factory=dict)
    """By week, how many certificates were in which health, at that hour of the week at which most were not well."""
    most_used: dict[tuple[int, str], float] = field(default_factory=dict)
    """By week and limit, the largest part of it that was used up for anything."""
    least_left: dict[int, float] = field(default_factory=dict)
    """By week, the smallest part of its life that a certificate had left when its successor came; 0 for none."""
    looks: int = 0
    questions: int = 0
    database_mib: int = 0
    cpu_seconds: float = 0


def together(tallies: Sequence[Tally]) -> Tally:
    """The counts of several brokers."""
    sums = Tally()
    for tally in tallies:
        sums.orders += tally.orders
        sums.refused_by_limits += tally.refused_by_limits
        sums.doubled_orders += tally.doubled_orders
        sums.needless_certificates += tally.needless_certificates
        sums.failed_validations += tally.failed_validations
        sums.expired += tally.expired
        sums.expired_in_outages += tally.expired_in_outages
        sums.unwell += tally.unwell
        sums.replaced_for_incident += tally.replaced_for_incident
        sums.orders_by_week += tally.orders_by_week
        sums.orders_by_hour += tally.orders_by_hour
        sums.certificates_by_week += tally.certificates_by_week
        for week, health in tally.health_by_week.items():
            sums.health_by_week[week] = sums.health_by_week.get(week, Counter()) + health
        for key, used in tally.most_used.items():
            sums.most_used[key] = max(used, sums.most_used.get(key, 0.0))
        for week, left in tally.least_left.items():
            sums.least_left[week] = min(left, sums.least_left.get(week, 1.0))
        sums.looks += tally.looks
        sums.questions += tally.questions
        sums.database_mib += tally.database_mib
        sums.cpu_seconds += tally.cpu_seconds
    return sums


def figures(world: World, tally: Tally, seconds: float) -> dict[str, object]:
    """What is told at the end."""
    outage_time = sum((outage.span.length for outage in world.outages), timedelta(0))
    replaced = max(tally.replaced_for_incident, default=None)
    usual = sorted(tally.least_left.values())
    return {
        "years": round((world.end - world.start) / timedelta(days=365.25), 3),
        "certificates": len(world.certificates),
        "orders": tally.orders,
        "ideal_orders": round(ideal_orders(world)),
        "expired": len(tally.expired),
        "expired_in_outages": tally.expired_in_outages,
        "limit_violations": tally.refused_by_limits.total(),
        "doubled_orders": tally.doubled_orders,
        "needless_certificates": tally.needless_certificates,
        "failed_validations": tally.failed_validations,
        "unwell_at_the_end": len(tally.unwell),
        "outages": len(world.outages),
        "outage_hours": _hours(outage_time),
        "clock_jumps": len(world.jumps),
        "suspends": len(world.suspends),
        "incident_certificates": len(tally.replaced_for_incident),
        "incident_replaced_hours": None if replaced is None else _hours(replaced),
        "peak_orders_per_hour": max(tally.orders_by_hour.values(), default=0),
        "median_of_weekly_least_life_left_percent": round(100 * usual[len(usual) // 2], 1) if usual else None,
        "looks": tally.looks,
        "questions": tally.questions,
        "database_mib": tally.database_mib,
        "cpu_seconds": round(tally.cpu_seconds, 1),
        "seconds": round(seconds, 1),
    }


def broken(world: World, tally: Tally) -> list[str]:
    """A sentence for each promise that was not kept."""
    found = []
    ideal = ideal_orders(world)
    if tally.expired:
        found.append(f"{len(tally.expired)} certificates ended while their CA was up: {', '.join(tally.expired[:5])}")
    if tally.refused_by_limits:
        found.append(f"a CA refused orders because of its limits: {dict(tally.refused_by_limits)}")
    if not ideal / _ORDERS_OVER <= tally.orders <= ideal * _ORDERS_OVER:
        found.append(f"there were {tally.orders} orders, where {ideal:.0f} are ideal")
    if tally.doubled_orders:
        found.append(f"{tally.doubled_orders} orders were for certificates that had been replaced")
    if tally.needless_certificates:
        found.append(f"{tally.needless_certificates} certificates were made for names that had a fresh one")
    looks = _LOOKS_OVER * (tally.questions + _LOOKS_FOR_ORDER * tally.orders)
    if tally.looks > looks:
        found.append(f"certificates were looked at {tally.looks} times, where {looks:.0f} times are enough")
    return found + tally.unwell


def _hours(length: timedelta) -> float:
    return round(length / HOUR, 1)
