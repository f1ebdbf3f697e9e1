"""Retry-After, as servers write it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certbroker.domain.retry_after import retry_after

NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("3", 3),
        (" 3 ", 3),
        ("+3", 3),
        ("0", 1),
        ("-1", 1),
        ("-" + "9" * 5000, 1),
        ("9" * 5000, 86400),
        ("86401", 86400),
        ("Sun, 29 Mar 2026 01:31:00 GMT", 60),
        ("Sunday, 29-Mar-26 01:31:00 GMT", 60),
        ("Sun Mar 29 01:31:00 2026", 60),
        ("Sun, 29 Mar 2026 01:31:00 -0000", 60),
        ("Sun, 29 Mar 2026 03:31:00 +0200", 60),
        ("Sun, 29 Mar 2020 01:31:00 GMT", 1),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
        ("Sun, 29 Mar 2999 01:31:00 GMT", 86400),
        ("Sun, 99 Mar 2026 99:31:00 GMT", None),
        ("1.5", None),
        ("three", None),
        ("\u0663", None),
        ("", None),
        ("x" * 100_000, None),
    ],
)
def test_retry_after(value: str | None, seconds: int | None) -> None:
    assert (None if seconds is None else timedelta(seconds=seconds)) == retry_after(value, NOW)


def test_a_date_is_counted_from_the_servers_own_clock() -> None:
    """Whose clock is right does not matter then."""
    slow = "Sun, 29 Mar 2020 01:30:00 GMT"

    assert timedelta(minutes=2) == retry_after("Sun, 29 Mar 2020 01:32:00 GMT", NOW, slow)


@settings(deadline=None)
@given(st.text(max_size=50))
def test_retry_after_is_never_an_error_and_never_out_of_bounds(value: str) -> None:
    pause = retry_after(value, NOW)

    assert pause is None or timedelta(seconds=1) <= pause <= timedelta(days=1)
