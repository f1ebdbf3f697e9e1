"""How many orders there should be, reckoned without the broker.

Each certificate is ordered when it is asked for, and again at its point for as long as the years last:

- at the middle of the CA's window, which is at one half of lives under ten days and else at two thirds, or
- where the CA suggests nothing, at the policy's point: 30 days before the end of lives of 200 days, else at 80 % of the
  life, less half of the 2 % over which the broker spreads renewals.

Half of those that live at the incident and are not older than what it affects are ordered then, and their schedule goes
on from there. Nothing fails, no CA is away, no clock is wrong, and nothing waits for a limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from benchmarks.simulation.world import DAY, HOUR, SUGGESTING, Wanted, World

_AFFECTED = 60 * DAY


def ideal_orders(world: World) -> float:
    """The number of orders; not whole, because which half the incident strikes is left open."""
    return sum(_expected(wanted, world) for wanted in world.certificates)


def interval(wanted: Wanted) -> timedelta:
    """From one order to the next. The CA dates certificates back by an hour."""
    days = wanted.life / DAY
    if wanted.ca == SUGGESTING:
        part = 1 / 2 if days < 10 else 2 / 3
    else:
        part = (1 - 30 / days if days >= 200 else 0.8) - 0.01
    return wanted.life * part - HOUR


def _expected(wanted: Wanted, world: World) -> float:
    undisturbed = [*_times(wanted.at, interval(wanted), world.end)]
    if wanted.ca != SUGGESTING:
        return len(undisturbed)
    before = [moment for moment in undisturbed if moment < world.incident]
    if not before or before[-1] < world.incident - _AFFECTED:
        return len(undisturbed)
    struck = len(before) + len([*_times(world.incident, interval(wanted), world.end)])
    return (len(undisturbed) + struck) / 2


def _times(start: datetime, step: timedelta, end: datetime) -> Iterator[datetime]:
    while start < end:
        yield start
        start += step
