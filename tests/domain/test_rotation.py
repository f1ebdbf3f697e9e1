"""When keys are rotated, and people told of their end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certbroker.domain.durations import Duration, parse_duration
from certbroker.domain.errors import Invalid
from certbroker.domain.objects import Attributes
from certbroker.domain.rotation import DEFAULT, Deed, Due, RotationPolicy, next_due

MADE = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def life(ends: datetime | None = None, *, enabled: bool = True) -> Attributes:
    made = int(MADE.timestamp())
    return Attributes(made, made, enabled, None, None if ends is None else int(ends.timestamp()))


def lasting(text: str) -> Duration:
    return parse_duration(text, "x")


@pytest.mark.parametrize(
    ("text", "later", "earlier"),
    [
        ("P90D", MADE + 90 * DAY, MADE - 90 * DAY),
        ("P1M", datetime(2026, 2, 28, 12, tzinfo=UTC), datetime(2025, 12, 31, 12, tzinfo=UTC)),
        ("P1Y1M1D", datetime(2027, 3, 1, 12, tzinfo=UTC), datetime(2024, 12, 30, 12, tzinfo=UTC)),
        ("P0D", MADE, MADE),
    ],
)
def test_durations_follow_the_calendar(text: str, later: datetime, earlier: datetime) -> None:
    assert (later, earlier) == (lasting(text).after(MADE), lasting(text).before(MADE))


@pytest.mark.parametrize(
    "text", ["", "P", "P1", "90D", "P1W", "PT1H", "P1DT1H", "P-1D", "p90d", "P1D1M", "P٣D", "P1.5Y"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is not a duration"):
        parse_duration(text, "expiryTime")


def test_no_duration_leads_out_of_the_calendar() -> None:
    with pytest.raises(Invalid, match="longer than a century"):
        lasting("P101Y")
    assert 1870 == lasting("P100Y").before(datetime(1970, 1, 1, tzinfo=UTC)).year


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (RotationPolicy(expiry=lasting("P27D")), "28 days at least"),
        (RotationPolicy(rotate_after=lasting("P6D")), "timeAfterCreate is 7 days"),
        (RotationPolicy(rotate_before=lasting("P30D")), "needs attributes.expiryTime"),
        (RotationPolicy(rotate_before=lasting("P6D"), expiry=lasting("P90D")), "timeBeforeExpiry is 7 days"),
        (RotationPolicy(notify_before=lasting("P6D")), "timeBeforeExpiry is 7 days"),
        (RotationPolicy(rotate_before=lasting("P84D"), expiry=lasting("P90D")), "after the key was made"),
        (RotationPolicy(notify_before=lasting("P90D"), expiry=lasting("P90D")), "after the key was made"),
        # From July on three months have 92 days: each version would be rotated as soon as it is made.
        (RotationPolicy(rotate_before=lasting("P3M"), expiry=lasting("P92D")), "after the key was made"),
        (RotationPolicy(rotate_after=lasting("P3M"), expiry=lasting("P92D")), "before the end of the key"),
        (RotationPolicy(rotate_after=lasting("P84D"), expiry=lasting("P90D")), "before the end of the key"),
    ],
)
def test_policies_that_cannot_be_are_refused(policy: RotationPolicy, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        policy.check()


def test_policies_at_the_limits_are_taken() -> None:
    RotationPolicy().check()
    DEFAULT.check()
    RotationPolicy(lasting("P21D"), None, lasting("P7D"), lasting("P28D")).check()
    RotationPolicy(None, lasting("P21D"), None, lasting("P28D")).check()
    RotationPolicy(rotate_after=lasting("P1M")).check()


def test_what_comes_first_comes_first() -> None:
    ends = MADE + 90 * DAY
    policy = RotationPolicy(None, lasting("P20D"), lasting("P30D"), lasting("P90D"))

    assert Due(Deed.TELL_OF_END, MADE + 60 * DAY) == next_due(policy, life(ends), None, MADE)
    assert Due(Deed.ROTATE, MADE + 70 * DAY) == next_due(policy, life(ends), Deed.TELL_OF_END, MADE)
    assert Due(Deed.TELL_IT_ENDED, ends) == next_due(policy, life(ends, enabled=False), Deed.TELL_OF_END, MADE)
    after = RotationPolicy(lasting("P2M"))
    assert Due(Deed.ROTATE, datetime(2026, 3, 31, 12, tzinfo=UTC)) == next_due(after, life(), None, MADE)


def test_without_a_policy_people_are_told_a_month_before_and_at_the_end() -> None:
    ends = MADE + 90 * DAY

    assert next_due(DEFAULT, life(), None, MADE) is None
    assert Due(Deed.TELL_OF_END, ends - 30 * DAY) == next_due(DEFAULT, life(ends), None, MADE)
    assert Due(Deed.TELL_IT_ENDED, ends) == next_due(DEFAULT, life(ends), Deed.TELL_OF_END, MADE)
    assert next_due(DEFAULT, life(ends), Deed.TELL_IT_ENDED, MADE) is None
    soon = MADE + 10 * DAY
    assert Due(Deed.TELL_IT_ENDED, soon) == next_due(DEFAULT, life(soon), None, MADE)


def test_who_was_away_until_after_the_end_is_told_of_the_end_only() -> None:
    ends = MADE + 90 * DAY

    assert Due(Deed.TELL_IT_ENDED, ends) == next_due(DEFAULT, life(ends), None, ends + DAY)


def test_an_end_beyond_the_calendar_is_none() -> None:
    made = int(MADE.timestamp())

    assert next_due(DEFAULT, Attributes(made, made, expires=2**53 - 1), None, MADE) is None
