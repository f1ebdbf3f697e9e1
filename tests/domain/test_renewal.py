"""When certificates are renewed, and the reasons that are given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from certbroker.domain.lifecycle import Health, health_of, steps
from certbroker.domain.operation import Problem
from certbroker.domain.policy import AUTO_RENEW, EMAIL_CONTACTS, CertificatePolicy, LifetimeAction
from certbroker.domain.renewal import (
    LOOP_STOPPED,
    Facts,
    Leave,
    Renew,
    Setback,
    Suggestion,
    Trigger,
    Wait,
    Wish,
    decide,
    pick,
    renewal_point,
    retry_after,
)

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def facts(days: float = 90, *actions: LifetimeAction, **others: object) -> Facts:
    """A certificate of that lifetime, by default renewed at 80 % of it."""
    policy = CertificatePolicy(
        issuer="CA", lifetime_actions=actions or (LifetimeAction(AUTO_RENEW, lifetime_percentage=80),)
    )
    found = Facts(policy, BEGIN, BEGIN + days * DAY, 0.0)
    return replace(found, **others)  # type: ignore[arg-type]  # Fields of it.


def renew_in(days: int) -> LifetimeAction:
    return LifetimeAction(AUTO_RENEW, days_before_expiry=days)


def test_a_percentage_of_the_life_is_a_renewal_point() -> None:
    waiting = decide(facts(), BEGIN + 71 * DAY)
    due = decide(facts(), BEGIN + 72 * DAY)

    assert Wait(BEGIN + 72 * DAY, "It is renewed at 80 % of its life.") == waiting
    assert Renew(Trigger.LIFETIME_ACTION, "The certificate is renewed at 80 % of its life.") == due


def test_days_before_expiry_are_a_renewal_point() -> None:
    found = decide(facts(90, renew_in(30)), BEGIN + 60 * DAY)

    assert Renew(Trigger.LIFETIME_ACTION, "The certificate is renewed 30 days before it expires.") == found


@pytest.mark.parametrize("days", [40, 47, 90])
def test_a_point_before_issuance_or_right_after_it_does_not_renew_for_ever(days: int) -> None:
    """Certificates of 47 days under a policy made for 398: the policy's 40, 47 or 90 days before expiry."""
    point, reason = renewal_point(facts(47, renew_in(days)))

    assert BEGIN + 47 * DAY * (2 / 3) == point
    assert "because the policy's point comes too early" in reason


def test_a_short_lived_certificate_is_renewed_at_half_of_its_life() -> None:
    point, reason = renewal_point(facts(6))

    assert BEGIN + 3 * DAY == point
    assert "short-lived" in reason


def test_certificates_that_were_made_together_are_renewed_apart() -> None:
    first, last = (renewal_point(facts(spread=spread))[0] for spread in (0.0, 1.0))

    assert timedelta(days=1.8) == first - last


def test_the_moment_picked_in_the_cas_window_goes_before_the_policy() -> None:
    window = Suggestion("aa", BEGIN + 59 * DAY, BEGIN + 61 * DAY, BEGIN + 60 * DAY)

    assert Wait(BEGIN + 60 * DAY, "It is renewed when the CA suggests.") == decide(facts(suggestion=window), BEGIN)
    assert Trigger.SUGGESTED == trigger(decide(facts(suggestion=window), BEGIN + 60 * DAY))


def test_the_policy_goes_before_the_cas_window_when_it_is_earlier() -> None:
    window = Suggestion("aa", BEGIN + 80 * DAY, BEGIN + 82 * DAY, BEGIN + 81 * DAY)

    assert Trigger.LIFETIME_ACTION == trigger(decide(facts(suggestion=window), BEGIN + 72 * DAY))


def test_a_window_in_the_past_with_an_explanation_is_an_incident() -> None:
    window = Suggestion("aa", BEGIN, BEGIN + DAY, BEGIN + DAY / 2, "https://ca.example/incident")
    found = decide(facts(suggestion=window), BEGIN + 2 * DAY)

    assert Trigger.INCIDENT == trigger(found)
    assert "https://ca.example/incident" in found.reason


def test_a_changed_policy_is_followed_after_its_owner_had_time_to_do_so() -> None:
    changed = BEGIN + 10 * DAY
    policy = replace(facts().policy, updated=int(changed.timestamp()))
    found = facts(policy=policy, mismatch="the certificate lacks the name b.example")

    assert Wait(
        changed + timedelta(hours=1),
        "It is renewed because the policy has changed: the certificate lacks the name b.example.",
    ) == decide(found, changed)
    assert Trigger.POLICY_CHANGED == trigger(decide(found, changed + timedelta(hours=1)))


def test_what_somebody_wants_happens_at_once_and_also_without_auto_renew() -> None:
    action = LifetimeAction(EMAIL_CONTACTS, lifetime_percentage=80)
    wish = Wish(Trigger.OPERATOR, "The key was on a lost laptop.", "v1")

    assert Renew(Trigger.OPERATOR, "The key was on a lost laptop.") == decide(facts(90, action, wish=wish), BEGIN)


def test_after_a_failure_nothing_is_tried_until_it_is_time() -> None:
    problem = Problem("RateLimited", "Too many.")
    setback = Setback("op", 1, BEGIN + 80 * DAY, problem)
    found = facts(setback=replace(setback, retry_at=BEGIN + 75 * DAY + timedelta(hours=1)))

    assert Wait(
        BEGIN + 75 * DAY + timedelta(hours=1), "The last renewal failed and is tried again then. Too many."
    ) == decide(found, BEGIN + 75 * DAY)
    assert isinstance(decide(found, BEGIN + 76 * DAY), Renew)


@pytest.mark.parametrize(("stopped", "waits"), [(Trigger.SUGGESTED, False), (Trigger.INCIDENT, True)])
def test_an_incident_does_not_wait_for_a_breaker_that_has_stopped_something_else(stopped: Trigger, waits: bool) -> None:
    now = BEGIN + 20 * DAY
    setback = Setback("op", 1, now + timedelta(hours=23), Problem(LOOP_STOPPED, "Too often.", stopped.value))
    usual = Suggestion("ab", BEGIN, now, BEGIN + 10 * DAY)
    incident = replace(usual, explanation="https://ca.example/incident")

    assert isinstance(decide(facts(setback=setback, suggestion=usual), now), Wait)
    assert waits == isinstance(decide(facts(setback=setback, suggestion=incident), now), Wait)


def test_a_retry_that_a_wrong_clock_put_off_for_years_is_not_waited_for() -> None:
    setback = Setback("op", 1, BEGIN + 3000 * DAY, Problem("RateLimited", "Too many."))

    assert isinstance(decide(facts(setback=setback), BEGIN + 80 * DAY), Renew)


@pytest.mark.parametrize(
    "others",
    [{"manual": True}, {"enabled": False}, {"policy": CertificatePolicy(issuer="CA", lifetime_actions=())}],
    ids=["a person issues", "disabled", "no AutoRenew"],
)
def test_what_is_not_ours_to_renew_is_left_alone_with_a_reason(others: dict[str, object]) -> None:
    found = decide(facts(**others), BEGIN + 89 * DAY)  # type: ignore[arg-type]  # Fields of it.

    assert isinstance(found, Leave)
    assert found.reason


def test_nothing_is_started_while_a_version_is_being_made() -> None:
    assert isinstance(decide(facts(in_progress=True), BEGIN + 89 * DAY), Wait)


@given(
    st.floats(0.05, 4000),
    st.one_of(
        st.none(),
        st.integers(1, 99).map(lambda part: LifetimeAction(AUTO_RENEW, lifetime_percentage=part)),
        st.integers(1, 5000).map(renew_in),
    ),
    st.floats(0, 1),
)
def test_a_renewal_point_is_always_well_inside_the_life(
    days: float, action: LifetimeAction | None, spread: float
) -> None:
    found = facts(days, *((action,) if action else ()), spread=spread)
    point, _ = renewal_point(found)

    assert found.not_before + found.life * 0.2 <= point < found.not_after


@given(st.datetimes(), st.timedeltas(timedelta(0), 30 * DAY), st.text(max_size=8))
def test_the_pick_lies_in_the_window_and_stays_the_same(start: datetime, length: timedelta, sha256: str) -> None:
    start = min(start, datetime(9998, 1, 1)).replace(tzinfo=UTC)
    found = pick(sha256, start, start + length)

    assert start <= found <= start + length
    assert found == pick(sha256, start, start + length)


@given(st.integers(1, 500), st.timedeltas(-DAY, 400 * DAY))
def test_retries_are_bounded_and_come_several_times_before_the_end(failures: int, remaining: timedelta) -> None:
    pause = retry_after(failures, remaining)

    assert timedelta(minutes=15) <= pause <= timedelta(hours=12)
    assert remaining <= timedelta(hours=3) or pause * 9 < remaining


@pytest.mark.parametrize(
    ("found", "day", "health"),
    [
        (facts(), 10, Health.HEALTHY),
        (facts(), 73, Health.RENEWING),
        (facts(in_progress=True), 73, Health.RENEWING),
        (facts(manual=True), 10, Health.HEALTHY),
        (facts(manual=True), 73, Health.NEEDS_PERSON),
        (facts(enabled=False), 10, Health.DISABLED),
        (facts(setback=Setback("op", 1, BEGIN + 73.2 * DAY, Problem("Down", "Down."))), 73, Health.FAILING),
        (facts(), 91, Health.EXPIRED),
        (facts(in_progress=True), 91, Health.EXPIRED),
    ],
)
def test_health_says_who_acts_next(found: Facts, day: int, health: Health) -> None:
    now = BEGIN + day * DAY

    assert health == health_of(found, decide(found, now), now)


def test_people_are_warned_in_parts_of_the_life_and_of_long_ones_in_days() -> None:
    mail = LifetimeAction(EMAIL_CONTACTS, days_before_expiry=10)
    short = {step.name: step.at for step in steps(facts(47, mail))}
    long = {step.name: step.at for step in steps(facts(200))}

    assert {"EmailContacts": BEGIN + 37 * DAY, "LastTenth": BEGIN + 42.3 * DAY, "Expired": BEGIN + 47 * DAY} == short
    assert {"30Days": BEGIN + 170 * DAY, "LastTenth": BEGIN + 180 * DAY, "Expired": BEGIN + 200 * DAY} == long


def trigger(decision: object) -> Trigger | None:
    return decision.trigger if isinstance(decision, Renew) else None
