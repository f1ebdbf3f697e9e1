"""Rate budgets: never more than a limit allows, and nobody locked out for longer than its period."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbroker.domain.budget import (
    Bucket,
    Claim,
    Level,
    Limit,
    Limits,
    PlannedOrder,
    Scope,
    Standing,
    Take,
    claims,
    corrected,
    described,
    duration,
    left,
    limit,
    next_fit,
    refusal,
    set_of,
    taken,
)

START = datetime(2026, 9, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)
LIMITS = st.sampled_from([limit(5, HOUR), limit(5, WEEK), limit(50, WEEK), limit(300, 3 * HOUR), limit(7, HOUR)])
PAUSES = st.lists(st.integers(0, 30_000).map(lambda seconds: timedelta(seconds=seconds)), min_size=1, max_size=60)


class Counter:
    """One bucket, from which as much is taken as it gives. `moments` are those on its clock; `passed` is real time."""

    def __init__(self, allowed: Limit) -> None:
        self.allowed = allowed
        self.level = Level()

    def take_all(self, now: datetime, most: int = 400) -> int:
        self.level = corrected(self.allowed, self.level, now)
        for count in range(most):
            if next_fit(self.allowed, self.level, now) > now:
                return count
            self.level = taken(self.allowed, self.level, now)
        return most


@given(LIMITS, PAUSES)
def test_no_window_ever_has_more_than_the_limit_and_what_came_back(allowed: Limit, pauses: list[timedelta]) -> None:
    counter, now = Counter(allowed), START
    seen: list[tuple[datetime, int]] = []
    for pause in pauses:
        now += pause
        seen.append((now, counter.take_all(now)))

    for index, (begin, _) in enumerate(seen):
        count = 0
        for end, taken_then in seen[index:]:
            count += taken_then
            assert count <= allowed.burst + (end - begin) // allowed.every


@given(LIMITS, PAUSES)
def test_the_moment_named_is_the_first_that_fits(allowed: Limit, pauses: list[timedelta]) -> None:
    counter, now = Counter(allowed), START
    for pause in pauses:
        now += pause
        counter.take_all(now)
    fits = next_fit(allowed, counter.level, now)

    assert fits - now <= allowed.every
    assert next_fit(allowed, counter.level, fits) == fits
    if fits - now > timedelta(seconds=1):
        before = fits - timedelta(seconds=1)
        assert next_fit(allowed, counter.level, before) > before


@given(LIMITS, st.lists(st.tuples(st.sampled_from([-1, 0, 1]), st.integers(0, 7200)), min_size=1, max_size=40))
def test_a_clock_that_jumps_by_an_hour_gives_nothing_more_and_locks_nobody_out_for_longer_than_the_period(
    allowed: Limit, moves: list[tuple[int, int]]
) -> None:
    """Going back gives nothing; going forward gives what that time would have given."""
    counter, now, count, forward = Counter(allowed), START, 0, timedelta(0)
    for jump, seconds in moves:
        now += timedelta(seconds=seconds) + jump * HOUR
        forward += timedelta(seconds=seconds) + (HOUR if jump > 0 else timedelta(0))
        count += counter.take_all(now)

        assert count <= allowed.burst + forward // allowed.every
        assert next_fit(allowed, counter.level, now) - now <= allowed.period

    now += allowed.every
    assert counter.take_all(now) >= 1


@given(st.lists(st.sampled_from(["reserve", "issue", "give back", "wait"]), max_size=80))
def test_orders_in_progress_never_become_more_certificates_than_fit(events: list[str]) -> None:
    allowed = limit(5, WEEK)
    level, now, issued = Level(), START, []
    for event in events:
        if event == "reserve" and next_fit(allowed, level, now) <= now:
            level = Level(level.full_at, level.reserved + 1)
        elif event == "issue" and level.reserved:
            level = taken(allowed, Level(level.full_at, level.reserved - 1), now)
            issued.append(now)
        elif event == "give back" and level.reserved:
            level = Level(level.full_at, level.reserved - 1)
        elif event == "wait":
            now += timedelta(hours=11)

        assert level.reserved <= allowed.burst
    for index, begin in enumerate(issued):
        for count, end in enumerate(issued[index:], 1):
            assert count <= allowed.burst + (end - begin) // allowed.every


def test_a_limit_made_smaller_locks_nobody_out_for_longer_than_its_own_period() -> None:
    level = taken(limit(1, WEEK), Level(), START)

    assert START + HOUR == corrected(limit(1, HOUR), level, START).full_at


def test_what_is_left() -> None:
    allowed = limit(5, WEEK)
    level = taken(allowed, taken(allowed, Level(reserved=1), START), START)

    assert (5, 2) == (left(allowed, Level(), START), left(allowed, level, START))
    assert 3 == left(allowed, level, START + timedelta(hours=34))


def order(*names: str, standing: Standing = Standing.NEW) -> PlannedOrder:
    return PlannedOrder("operation", "order", "https://ca.example/", "https://ca.example/account/1", names, standing)


def taking(standing: Standing, limits: Limits) -> dict[Scope, Take]:
    """What an order of that standing counts for."""
    wanted = claims(order("www.example.com", standing=standing), limits, {"www.example.com": "example.com"})
    return {claim.bucket.scope: claim.take for claim in wanted if claim.limit is not None}


ALL = Limits(limit(300, 3 * HOUR), limit(50, WEEK), limit(5, WEEK), limit(5, HOUR), limit(1152, 1152 * WEEK))
EXEMPTING = Limits(ALL.orders, ALL.domain, ALL.names, ALL.failures, ALL.consecutive, exempts_renewals=True)
FAILURES = {Scope.NAME: Take.NEVER, Scope.CONSECUTIVE: Take.NEVER}


@pytest.mark.parametrize("limits", [ALL, EXEMPTING])
def test_a_new_order_counts_everywhere(limits: Limits) -> None:
    expected = {Scope.ACCOUNT: Take.NOW, Scope.NAMES: Take.WHEN_ISSUED, Scope.DOMAIN: Take.WHEN_ISSUED}

    assert expected | FAILURES == taking(Standing.NEW, limits)


def test_a_renewal_counts_for_its_exact_names_where_renewals_are_exempt() -> None:
    assert {Scope.NAMES: Take.WHEN_ISSUED} | FAILURES == taking(Standing.RENEWAL, EXEMPTING)
    assert taking(Standing.NEW, ALL) == taking(Standing.RENEWAL, ALL)


def test_a_replacement_counts_nowhere_where_renewals_are_exempt() -> None:
    assert {} == taking(Standing.REPLACEMENT, EXEMPTING)
    assert taking(Standing.NEW, ALL) == taking(Standing.REPLACEMENT, ALL)


def empty(wanted: tuple[Claim, ...]) -> dict[Bucket, Level]:
    return {claim.bucket: Level(START + claim.limit.period) for claim in wanted if claim.limit is not None}


def test_a_replacement_passes_used_up_budgets_and_no_hold() -> None:
    wanted = claims(order("a.example.com", standing=Standing.REPLACEMENT), ALL, {"a.example.com": "example.com"})
    levels = empty(wanted)

    assert refusal(wanted, levels, START) is None
    levels[wanted[0].bucket] = Level(held_until=START + HOUR, reason="Service busy")
    refused = refusal(wanted, levels, START)
    assert refused is not None
    assert START + HOUR == refused.retry_at
    assert refused.sentence.endswith("before 2026-09-24 13:00:00 UTC. It said: Service busy")


def test_a_hold_by_a_clock_that_was_a_year_ahead_binds_nobody() -> None:
    wanted = claims(order("a.example.com"), ALL, {"a.example.com": "example.com"})
    ends = START + timedelta(days=365)
    levels = {wanted[0].bucket: Level(held_until=ends, reason="Service busy")}

    assert refusal(wanted, levels, ends - HOUR) is not None
    assert refusal(wanted, levels, START) is None


def test_the_last_fifth_of_an_accounts_orders_is_for_renewals() -> None:
    new = claims(order("a.example.com"), ALL, {"a.example.com": "example.com"})
    renewal = claims(order("a.example.com", standing=Standing.RENEWAL), ALL, {"a.example.com": "example.com"})
    account = new[1].bucket
    assert ALL.orders is not None
    levels = {account: Level(START + 240 * ALL.orders.every)}

    assert refusal(renewal, levels, START) is None
    refused = refusal(new, levels, START)
    assert refused is not None
    assert (
        "The budget is used up: 300 new orders by this account in 3 hours, 60 of them kept for renewals; "
        "the next fits at 2026-09-24 12:00:36 UTC." == refused.sentence
    )
    levels = {account: Level(START + 300 * ALL.orders.every)}
    assert refusal(renewal, levels, START) is not None


def test_the_refusal_that_lasts_longest_is_the_one_that_is_told() -> None:
    wanted = claims(order("a.example.com"), ALL, {"a.example.com": "example.com"})
    refused = refusal(wanted, empty(wanted), START)

    assert refused is not None
    assert refused.sentence.startswith("The budget is used up: 1152 failed validations of a.example.com in a row")


def test_the_same_names_in_any_order_are_the_same_set() -> None:
    assert set_of(("a", "b")) == set_of(("b", "a"))
    assert set_of(("a", "b")) != set_of(("ab",))


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (WEEK, "7 days"),
        (24 * HOUR, "1 day"),
        (3 * HOUR, "3 hours"),
        (1.5 * HOUR, "90 minutes"),
        (HOUR / 3600, "1 second"),
    ],
)
def test_lengths_of_time(length: timedelta, text: str) -> None:
    assert text == duration(length)
    assert f"2 certificates in {text}" == described(limit(2, length), "certificates")
