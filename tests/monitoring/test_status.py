"""The one page: what needs a person is told with what to do, and what the broker sees to by itself is not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.budget import PlannedOrder, Scope
from certbroker.domain.errors import Invalid
from certbroker.domain.issuer_health import IssuerState
from certbroker.domain.lifecycle import Health
from certbroker.domain.objects import Changes, Vault
from certbroker.domain.operation import Problem
from certbroker.domain.policy import UNKNOWN, CertificatePolicy
from certbroker.ports.issuer import (
    IssuanceRequest,
    IssuerSettings,
    IssuerUnavailable,
    Journal,
    Reply,
    RequestRefused,
    Resources,
)
from certbroker.services.health.status import Report, Trouble
from certbroker.services.issuers.issuers import IssuerChanges
from certbroker.services.renewal.lifecycles import Lifecycles
from certbroker.web.status_json import status_json
from tests.monitoring.conftest import Stopwatch
from tests.support.clock import SteppedClock
from tests.support.issuer_bench import Bench, ScriptedKind

DAY = timedelta(days=1)


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault, clock: SteppedClock) -> Bench:
    bench = Bench(core, caller, vault)
    bench.clock = clock
    bench.issuers._clock = bench.operations._clock = bench.renewals._clock = bench.certificates._clock = clock
    return bench


def report(core: Core) -> Report:
    found = core.broker.status.report()
    status_json(found)
    return found


def only(troubles: tuple[Trouble, ...]) -> Trouble:
    (trouble,) = troubles
    return trouble


def down(request: IssuanceRequest, journal: Journal) -> Reply:
    raise IssuerUnavailable(Problem("IssuerUnreachable", "The CA is down."))


def refused(request: IssuanceRequest, journal: Journal) -> Reply:
    return RequestRefused(Problem("No", "The CA said no."))


def issued(bench: Bench, days: float = 90) -> None:
    bench.ask(bench.issued_for(days))
    bench.turn()
    bench.until(bench.clock.now() + timedelta(minutes=1))


def test_a_broker_that_is_well_needs_nobody(core: Core, bench: Bench) -> None:
    issued(bench)
    page = report(core)

    assert ((), ()) == (page.needs_person, page.failing)
    assert 1 == page.certificates[Health.HEALTHY]
    (coming,) = page.coming
    assert ("vault", "c", "It is renewed at 80 % of its life.") == (coming.vault, coming.name, coming.reason)
    assert coming.at > bench.clock.now()
    assert coming.renewal is not None


def test_a_renewal_that_fails_is_told_and_needs_somebody_when_it_fails_again_and_again(
    core: Core, bench: Bench
) -> None:
    issued(bench)
    start = bench.clock.now()
    bench.kind.steps += [refused] * 20
    bench.until(start + 70 * DAY)
    seen = []
    for _ in range(400):
        # The first five failures are within four hours.
        bench.until(bench.clock.now() + timedelta(hours=1))
        setback = bench.lifecycle().setback
        page = report(core)
        if setback is not None and bench.lifecycle().health is Health.FAILING:
            seen.append((setback.failures >= 5, bool(page.needs_person), bool(page.failing)))
        if setback is not None and setback.failures > 5:
            break

    assert bench.clock.now() < start + 90 * DAY
    assert {(False, False, True), (True, True, False)} == set(seen)
    trouble = only(page.needs_person)
    assert ("certificate", "vault", "c", "Failing") == (trouble.what, trouble.vault, trouble.name, trouble.state)
    assert "The CA said no." in trouble.reason
    assert "certbroker certificate renew c --vault vault" in trouble.advice
    assert trouble.next_action is not None


def test_an_expired_certificate_needs_somebody_until_it_is_disabled(core: Core, bench: Bench) -> None:
    bench.ask(bench.issued_for(90), lifetime_actions=())
    bench.turn()
    bench.until(bench.clock.now() + 91 * DAY)
    expired = report(core)
    bench.certificates.update(bench.caller, bench.vault, "c", "", Changes(enabled=False))
    bench.until(bench.clock.now() + DAY)

    assert "Expired" == only(expired.needs_person).state
    assert () == report(core).needs_person
    assert Health.DISABLED == bench.lifecycle().health


def test_a_signing_request_that_waits_for_a_person_is_told(core: Core, bench: Bench, caller: Caller) -> None:
    policy = CertificatePolicy(subject="CN=a.example", issuer=UNKNOWN)
    bench.certificates.create(caller, bench.vault, "Carried", lambda stored: policy, Changes())
    trouble = only(report(core).needs_person)
    view = core.broker.lifecycles.view(bench.vault, "carried")

    assert ("Carried", "AwaitingMerge") == (trouble.name, trouble.state)
    assert "certbroker certificate merge Carried --vault vault" in trouble.advice
    assert ("Carried", Health.NEEDS_PERSON) == (view.name, view.care.lifecycle.health)


def test_an_issuer_that_is_away_is_told_until_it_is_back(core: Core, bench: Bench) -> None:
    bench.ask(down, down, bench.issued_for(90))
    bench.turn()
    away = only(report(core).failing)
    since = bench.clock.now()
    bench.until(bench.clock.now() + timedelta(hours=1))

    assert ("issuer", "ca", "Failing", "The CA is down.") == (away.what, away.name, away.state, away.reason)
    assert since == away.since
    assert away.next_action is not None
    assert since < away.next_action < since + timedelta(minutes=1)
    assert () == report(core).failing
    health = core.broker.issuers.health(bench.vault, "CA")
    assert IssuerState.WORKING == health.state
    assert health.last_success is not None


def test_one_name_that_is_refused_says_nothing_about_its_issuer(core: Core, bench: Bench) -> None:
    bench.ask(refused)
    bench.turn()

    assert IssuerState.WORKING == core.broker.issuers.health(bench.vault, "ca").state


def test_a_pause_that_a_budget_makes_says_nothing_about_its_issuer(core: Core, bench: Bench) -> None:
    def held(request: IssuanceRequest, journal: Journal) -> Reply:
        raise IssuerUnavailable(Problem("RateBudget", "Later."))

    bench.ask(held)
    bench.turn()

    assert IssuerState.UNUSED == core.broker.issuers.health(bench.vault, "ca").state


def test_an_issuer_whose_settings_do_not_hold_needs_somebody_until_they_are_changed(
    core: Core, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(kind: ScriptedKind, settings: IssuerSettings, resources: Resources) -> ScriptedKind:
        raise Invalid("directory is missing.")

    monkeypatch.setattr(ScriptedKind, "open", broken)
    bench.ask()
    bench.turn()
    found = [each for each in report(core).needs_person if each.what == "issuer"]
    core.broker.issuers.set(bench.caller, bench.vault, "ca", IssuerChanges(provider="Scripted"))

    assert [("NeedsPerson", "directory is missing.")] == [(each.state, each.reason) for each in found]
    assert IssuerState.UNUSED == core.broker.issuers.health(bench.vault, "ca").state


def test_an_issuers_health_is_written_only_when_it_changes(core: Core, bench: Bench) -> None:
    writes = 0
    for round_ in range(4):
        before = core.broker.store.glance().issuers.health(bench.vault.id, "ca")
        bench.ask(bench.issued_for(90), name=f"c{round_}")
        bench.turn()
        writes += core.broker.store.glance().issuers.health(bench.vault.id, "ca") != before
        bench.clock.forward(timedelta(minutes=10))

    assert 1 == writes


def test_what_a_ca_wants_to_be_left_alone_with_is_told(core: Core, bench: Bench) -> None:
    order = PlannedOrder("o", "s", "https://ca.example/dir", "account", ("a.example",))
    until = bench.clock.now() + timedelta(hours=1)
    core.broker.governor.hold(order, Scope.ACCOUNT, (), until, "Too many requests.")
    ((bucket, level),) = report(core).holds

    assert (Scope.ACCOUNT, "Too many requests.") == (bucket.scope, level.reason)


def test_a_broker_that_is_not_ready_needs_somebody(core: Core, stopwatch: Stopwatch) -> None:
    stopwatch.seconds += 1000
    found = report(core).needs_person

    assert {("broker", "NotReady")} == {(each.what, each.state) for each in found}
    assert "The engine has not worked on operations for 1000 seconds." == found[0].reason


def test_a_certificates_care_can_be_read(bench: Bench) -> None:
    issued(bench)
    view = Lifecycles(bench.store, bench.renewals).view(bench.vault, "C")
    made = bench.current().attributes.created

    assert Health.HEALTHY == view.care.lifecycle.health
    assert view.point is not None
    assert "at 80 % of its life" == view.point[1]
    assert view.point[0] == view.care.lifecycle.next_action
    assert 0.78 < (view.point[0].timestamp() - made) / (90 * 86400) < 0.81
