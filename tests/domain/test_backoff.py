"""Waits that grow, and numbers that keep many apart."""

from __future__ import annotations

from datetime import timedelta

from certbroker.domain.backoff import doubled, fraction

FIRST, LAST = timedelta(seconds=5), timedelta(minutes=1)


def test_a_wait_doubles_from_the_first_to_the_last() -> None:
    waits = [doubled(FIRST, LAST, failures).total_seconds() for failures in (0, 1, 2, 3, 4, 5, 10**9)]

    assert [5, 5, 10, 20, 40, 60, 60] == waits


def test_a_fraction_belongs_to_its_seed_and_many_are_spread_evenly() -> None:
    tenths = [0] * 10
    for number in range(10_000):
        tenths[int(10 * fraction(str(number)))] += 1

    assert fraction("a", "b") == fraction("a", "b") != fraction("ab")
    assert all(900 < count < 1100 for count in tenths)
