"""The operation machine under every list of events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbroker.domain import operation as states
from certbroker.domain.operation import Problem

START = datetime(2030, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 10**6).map(lambda seconds: START + timedelta(seconds=seconds))
PROBLEMS = st.just(Problem("Code", "Text."))
EVENTS = st.one_of(
    st.builds(states.KeyMade, csr=st.binary(max_size=3), merge=st.booleans()),
    st.builds(states.Waiting, until=MOMENTS, detail=st.just("…")),
    st.builds(states.Unavailable, problem=PROBLEMS, retry_at=st.one_of(st.none(), MOMENTS)),
    st.builds(states.Issued),
    st.builds(states.Refused, problem=PROBLEMS),
    st.builds(states.CancelRequested),
    st.builds(states.DeadlinePassed),
)

# What each state lets happen; everything else is an error of ours.
FITTING = {
    states.Prepared: (
        states.KeyMade,
        states.Unavailable,
        states.Refused,
        states.CancelRequested,
        states.DeadlinePassed,
    ),
    states.AwaitingIssuer: (
        states.Waiting,
        states.Unavailable,
        states.Issued,
        states.Refused,
        states.CancelRequested,
        states.DeadlinePassed,
    ),
    states.AwaitingMerge: (states.Issued, states.Refused, states.CancelRequested),
    states.Completed: (),
    states.Failed: (),
    states.Cancelled: (),
}


@given(st.lists(EVENTS, max_size=12))
def test_every_history_is_sound(events: list[states.Event]) -> None:
    state: states.State = states.Prepared(START)
    csr = None
    for number, event in enumerate(events):
        now = START + timedelta(minutes=number)
        before = state
        if isinstance(event, FITTING[type(state)]):
            state = states.advance(state, event, now)
            assert not states.is_finished(before)
        else:
            with pytest.raises(ValueError, match="does not fit"):
                states.advance(state, event, now)
        if isinstance(event, states.KeyMade) and isinstance(before, states.Prepared):
            csr = event.csr
        assert csr == states.csr_of(state)
        waits = isinstance(state, states.Prepared | states.AwaitingIssuer)
        assert waits == (states.act_at(state) is not None)
        assert states.is_finished(state) == isinstance(state, get_args(states.Finished))


@given(st.integers(1, 60))
def test_waits_for_an_issuer_double_up_to_an_hour_and_a_success_starts_anew(failures: int) -> None:
    state: states.State = states.AwaitingIssuer(b"csr", START, "")
    away = states.Unavailable(Problem("Away", "Nobody there."))
    for _ in range(failures):
        state = states.advance(state, away, START)

    wanted = min(states.LAST_RETRY, states.FIRST_RETRY * 2 ** min(failures - 1, 20))
    assert START + wanted == states.act_at(state)
    state = states.advance(states.advance(state, states.Waiting(START, ""), START), away, START)
    assert START + states.FIRST_RETRY == states.act_at(state)


@given(st.integers(0, 20), st.integers(-86_400, 86_400))
def test_what_an_issuer_names_is_the_earliest_time_to_come_back(failures: int, seconds: int) -> None:
    named = START + timedelta(seconds=seconds)
    before = states.AwaitingIssuer(b"csr", START, "", failures)
    unnamed, later = (
        states.advance(before, states.Unavailable(Problem("Busy", "."), at), START) for at in (None, named)
    )

    assert max(named, states.act_at(unnamed) or named) == states.act_at(later)


@pytest.mark.parametrize(
    "event",
    [
        states.Waiting(START + timedelta(days=900), ""),
        states.Unavailable(Problem("Busy", "."), START + timedelta(days=900)),
    ],
)
def test_no_issuer_puts_an_operation_to_sleep_for_more_than_a_day(event: states.Event) -> None:
    assert START + timedelta(days=1) == states.act_at(
        states.advance(states.AwaitingIssuer(b"", START, ""), event, START)
    )


def test_the_deadline_tells_the_last_problem() -> None:
    state = states.AwaitingIssuer(b"csr", START, "", 3, Problem("Away", "Nobody there."))
    ended = states.advance(state, states.DeadlinePassed(), START)

    assert isinstance(ended, states.Failed)
    assert ("DeadlinePassed", "Nobody there.", b"csr") == (ended.problem.code, ended.problem.detail, ended.csr)
