"""Certificates are renewed in time, by whoever can, and everybody can see why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from certbroker.app import Core
from certbroker.domain import operation as states
from certbroker.domain.audit import Caller
from certbroker.domain.errors import Invalid, OperationInProgress
from certbroker.domain.lifecycle import Health
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.domain.operation import Problem
from certbroker.domain.policy import AUTO_RENEW, EMAIL_CONTACTS, SELF, LifetimeAction, SubjectAlternativeNames
from certbroker.domain.renewal import Trigger
from certbroker.ports.issuer import IssuanceRequest, IssuerUnavailable, Journal, Reply, RequestRefused
from certbroker.ports.issuer_abilities import RenewalWindow
from certbroker.services.issuers.issuers import IssuerChanges
from tests.support.issuer_bench import Bench

DAY = timedelta(days=1)
DOWN = IssuerUnavailable(Problem("Down", "The CA is down."))


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    return Bench(core, caller, vault)


def issued(bench: Bench, days: float = 90, **policy: Any) -> datetime:
    """A certificate of that lifetime; returns when it was made."""
    bench.ask(bench.issued_for(days), **policy)
    bench.turn()
    bench.until(bench.clock.now() + timedelta(minutes=1))
    return datetime.fromtimestamp(bench.current().attributes.created, UTC)


def test_a_certificate_is_renewed_at_its_point_with_a_reason_that_can_be_read(bench: Bench) -> None:
    made = issued(bench)
    first = bench.current().version
    bench.kind.steps.append(bench.issued_for(90))
    bench.until(made + 69 * DAY)
    before = bench.current().version
    bench.until(made + 73 * DAY)

    operation = bench.store.glance().operations.pending(bench.vault.id, "c")
    assert operation is not None
    assert operation.cause is not None
    assert first == before == operation.cause.replaces
    assert operation.version == bench.current().version
    assert Trigger.LIFETIME_ACTION == operation.cause.trigger
    assert "The certificate is renewed at 80 % of its life." == operation.cause.reason
    assert [None, bench.store.glance().objects.get(bench.vault.id, Kind.CERTIFICATE, "c", first).certificate.leaf] == [  # type: ignore[union-attr]
        request.replaces for request in bench.kind.requests
    ]
    assert Health.HEALTHY == bench.lifecycle().health


def test_tags_and_state_go_over_to_the_new_version(bench: Bench) -> None:
    made = issued(bench)
    bench.certificates.update(bench.caller, bench.vault, "c", "", Changes(tags={"team": "web"}))
    bench.kind.steps.append(bench.issued_for(90))
    bench.until(made + 73 * DAY)

    assert {"team": "web"} == bench.current().tags


def test_the_cas_window_is_asked_for_kept_and_followed(bench: Bench) -> None:
    begin = bench.clock.now() + 20 * DAY
    bench.kind.window = lambda certificate: (
        RenewalWindow(begin, begin + DAY, None, timedelta(hours=6)) if certificate == bench.kind.asked[0] else None
    )
    issued(bench)
    bench.kind.steps.append(bench.issued_for(90))
    suggestion = bench.lifecycle().suggestion
    bench.until(begin - DAY)
    same = bench.lifecycle().suggestion
    bench.until(begin + 2 * DAY)

    assert suggestion is not None
    assert suggestion == same
    assert begin <= suggestion.pick <= begin + DAY
    operation = bench.store.glance().operations.pending(bench.vault.id, "c")
    assert operation is not None
    assert operation.cause is not None
    assert (Trigger.SUGGESTED, suggestion.pick) == (operation.cause.trigger, operation.created)
    assert bench.lifecycle().suggestion is None


def test_a_window_for_the_old_version_does_not_renew_the_new_one(bench: Bench) -> None:
    """cert-manager #8993: five certificates in ten seconds."""
    now = bench.clock.now()
    past = RenewalWindow(now - DAY, now - DAY / 2, None, timedelta(hours=6))
    bench.kind.window = lambda certificate: past if certificate == bench.kind.asked[0] else None
    bench.kind.steps += [bench.issued_for(6)] * 5
    made = issued(bench, 6)
    bench.until(made + DAY)

    assert 2 == len(bench.kind.requests)


def test_an_issuer_that_is_not_there_keeps_its_window_and_is_asked_again(bench: Bench) -> None:
    begin = bench.clock.now() + 20 * DAY
    window = RenewalWindow(begin, begin + DAY, None, timedelta(hours=6))

    def answer(certificate: bytes) -> RenewalWindow:
        if len(bench.kind.asked) in (2, 3):
            raise DOWN
        return window

    bench.kind.window = answer
    made = issued(bench)
    bench.until(made + timedelta(hours=6, minutes=6))
    failing = bench.lifecycle()
    bench.until(made + timedelta(hours=7))

    assert 2 == failing.ask_failures
    assert failing.suggestion is not None
    assert 0 == bench.lifecycle().ask_failures
    assert 4 == len(bench.kind.asked)


def test_an_issuer_that_has_nothing_to_say_about_renewals_is_no_reason_to_look_every_day(bench: Bench) -> None:
    bench.core.broker.issuers.set(bench.caller, bench.vault, "silent", IssuerChanges(provider="Silent"))
    made = issued(bench, issuer="silent")
    before = bench.store.glance().lifecycles.get(bench.vault.id, "c")
    bench.kind.steps.append(bench.issued_for(90))
    bench.until(made + 60 * DAY)
    after = bench.store.glance().lifecycles.get(bench.vault.id, "c")
    bench.until(made + 73 * DAY)

    assert before is not None
    assert after is not None
    assert before.fence == after.fence  # Which counts looks.
    assert 2 == len(bench.kind.requests)


def test_a_renewal_that_fails_is_tried_again_and_the_old_version_serves(bench: Bench) -> None:
    issued(bench)
    first = bench.current().version

    def refuse(request: IssuanceRequest, journal: Journal) -> Reply:
        return RequestRefused(Problem("IssuerRefused", "CAA forbids it."))

    bench.kind.steps += [refuse] * 3 + [bench.issued_for(90)]
    while len(bench.kind.requests) < 4:
        bench.until(bench.clock.now() + timedelta(minutes=10))
    failing, still = bench.lifecycle(), bench.current().version
    bench.until(bench.clock.now() + DAY)

    assert Health.FAILING == failing.health
    assert "CAA forbids it." in failing.reason
    assert failing.setback is not None
    assert 3 == failing.setback.failures
    assert first == still != bench.current().version
    assert (Health.HEALTHY, None) == (bench.lifecycle().health, bench.lifecycle().setback)


def test_an_operator_renews_at_once_and_keeps_being_served(bench: Bench) -> None:
    issued(bench)
    first = bench.current().version
    bench.kind.steps += [
        lambda request, journal: RequestRefused(Problem("IssuerRefused", "Not today.")),
        bench.issued_for(90),
    ]
    bench.renewals.request(bench.caller, bench.vault, "c", "The key was on a lost laptop.")
    with pytest.raises(OperationInProgress):
        bench.renewals.request(bench.caller, bench.vault, "c", "Again.")
    bench.until(bench.clock.now() + DAY)

    operation = bench.store.glance().operations.pending(bench.vault.id, "c")
    assert operation is not None
    assert operation.cause is not None
    assert (Trigger.OPERATOR, "The key was on a lost laptop.") == (operation.cause.trigger, operation.cause.reason)
    assert first != bench.current().version
    assert bench.lifecycle().wish is None


def test_what_a_person_issues_cannot_be_renewed_by_us(bench: Bench) -> None:
    bench.certificates.create(
        bench.caller,
        bench.vault,
        "manual",
        lambda stored: replace(bench.policy(), issuer="Unknown"),
        Changes(),
    )

    with pytest.raises(Invalid, match="has no version to renew"):
        bench.renewals.request(bench.caller, bench.vault, "manual", "")


def test_a_policy_whose_owner_does_nothing_is_followed(bench: Bench) -> None:
    made = issued(bench)
    bench.kind.steps.append(bench.issued_for(90))
    bench.certificates.update_policy(
        bench.caller,
        bench.vault,
        "c",
        lambda stored: replace(stored or bench.policy(), sans=SubjectAlternativeNames(dns_names=("b.example",))),
    )
    bench.until(made + timedelta(minutes=50))
    early = len(bench.kind.requests)
    bench.until(made + timedelta(hours=2))

    operation = bench.store.glance().operations.pending(bench.vault.id, "c")
    assert (1, 2) == (early, len(bench.kind.requests))
    assert operation is not None
    assert operation.cause is not None
    assert Trigger.POLICY_CHANGED == operation.cause.trigger


def test_a_new_version_rests_before_it_is_used(bench: Bench) -> None:
    made = issued(bench, activation_delay_hours=48)
    first = bench.current().version
    bench.kind.steps.append(bench.issued_for(90))
    bench.until(made + 72 * DAY)
    operation = bench.store.glance().operations.pending(bench.vault.id, "c")
    assert operation is not None
    resting = bench.current().version
    made_then = bench.store.glance().objects.get(bench.vault.id, Kind.CERTIFICATE, "c", operation.version)
    bench.until(made + 75 * DAY)

    assert isinstance(operation.state, states.Completed)
    assert first == resting
    assert made_then is not None
    assert operation.version == bench.current().version
    for kind in (Kind.KEY, Kind.SECRET):
        head = bench.store.glance().objects.head(bench.vault.id, kind, "c")
        assert head is not None
        assert operation.version == head.current


def test_a_version_that_rested_does_not_replace_one_that_is_made_while_it_is_activated(bench: Bench) -> None:
    made = issued(bench, activation_delay_hours=48)
    bench.kind.steps.append(bench.issued_for(90))
    bench.until(made + 72 * DAY)
    rested = bench.store.glance().operations.pending(bench.vault.id, "c")
    assert rested is not None
    bench.clock.moment = made + 75 * DAY
    looks = bench.renewals.look(bench.renewals.claim(100))
    bench.ask(bench.issued_for(90))
    bench.turn()
    newest = bench.current().version
    bench.renewals.attend(looks)
    bench.until(made + 76 * DAY)

    assert [rested.version] == [look.care.staged for look in looks]
    assert rested.version != newest
    assert newest == bench.current().version


def test_the_first_version_and_one_that_was_asked_for_do_not_rest(bench: Bench) -> None:
    issued(bench, activation_delay_hours=48)
    first = bench.current().version
    bench.ask(bench.issued_for(90), activation_delay_hours=48)
    bench.turn()

    assert first != bench.current().version


def test_a_certificate_without_auto_renew_needs_a_person_in_time(bench: Bench) -> None:
    made = issued(bench, lifetime_actions=(LifetimeAction(EMAIL_CONTACTS, days_before_expiry=20),))
    bench.until(made + 60 * DAY)
    before = bench.lifecycle()
    bench.until(made + 72 * DAY)
    after = bench.lifecycle()
    bench.until(made + 91 * DAY)

    assert (Health.HEALTHY, ()) == (before.health, before.told)
    assert (Health.NEEDS_PERSON, ("EmailContacts",)) == (after.health, after.told)
    assert Health.EXPIRED == bench.lifecycle().health
    assert {"EmailContacts", "LastTenth", "Expired"} == set(bench.lifecycle().told)


def test_a_first_version_that_fails_needs_a_person(bench: Bench) -> None:
    bench.ask(lambda request, journal: RequestRefused(Problem("IssuerRefused", "No such name.")))
    bench.turn()
    bench.look_after()

    assert Health.NEEDS_PERSON == bench.lifecycle().health
    assert "No such name." in bench.lifecycle().reason


def test_a_deleted_certificate_is_not_renewed_and_a_recovered_one_is(bench: Bench) -> None:
    made = issued(bench)
    deletions = bench.core.broker.deletions
    deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    bench.until(made + 73 * DAY)
    while_deleted = len(bench.kind.requests)
    deletions.recover(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    bench.kind.steps.append(bench.issued_for(90))
    bench.until(made + 74 * DAY)

    assert (1, 2) == (while_deleted, len(bench.kind.requests))


@pytest.mark.parametrize("days", [0, 5])
def test_a_version_that_rests_goes_on_resting_when_a_deleted_certificate_is_recovered(bench: Bench, days: int) -> None:
    made = issued(bench, activation_delay_hours=48)
    first = bench.current().version
    bench.kind.steps.append(bench.issued_for(90))
    bench.until(made + 72 * DAY)
    operation = bench.store.glance().operations.pending(bench.vault.id, "c")
    assert operation is not None
    deletions = bench.core.broker.deletions
    deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    # The renewal was up to 43 hours ago, which is 2 % of the life, over which renewals are spread.
    bench.clock.forward(days * DAY)
    deletions.recover(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    bench.look_after()

    # It rests for as long as it would have, and nothing is ordered in its place.
    assert (first if days == 0 else operation.version) == bench.current().version
    bench.until(made + (75 + days) * DAY)
    assert operation.version == bench.current().version
    assert 2 == len(bench.kind.requests)


def test_a_certificate_that_is_recovered_has_the_current_version_that_it_had(bench: Bench) -> None:
    issued(bench)
    bench.ask(bench.issued_for(90))
    bench.turn()
    newest = bench.current().version
    deletions = bench.core.broker.deletions
    deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    deletions.recover(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    care = bench.store.glance().lifecycles.get(bench.vault.id, "c")

    assert newest == bench.current().version
    assert care is not None
    assert care.staged is None


def test_an_older_version_of_the_same_second_does_not_become_the_current_one_again(bench: Bench) -> None:
    names = [f"c{number}" for number in range(10)]
    deletions = bench.core.broker.deletions
    for name in names * 2:
        bench.operations.work(bench.ask(name=name, issuer=SELF))
    before = {name: bench.current(name).version for name in names}
    for name in names:
        deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, name)
        deletions.recover(bench.caller, bench.vault, Kind.CERTIFICATE, name)
    bench.until(bench.clock.now() + timedelta(hours=1))

    assert before == {name: bench.current(name).version for name in names}


def test_a_version_that_rested_when_its_backup_was_made_goes_on_resting_when_it_is_restored(bench: Bench) -> None:
    made = issued(bench, activation_delay_hours=48)
    first = bench.current().version
    bench.kind.steps.append(bench.issued_for(90))
    bench.until(made + 72 * DAY)
    operation = bench.store.glance().operations.pending(bench.vault.id, "c")
    assert operation is not None
    deletions, backups = bench.core.broker.deletions, bench.core.broker.backups
    backup = backups.backup(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    deletions.purge(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    backups.restore(bench.caller, bench.vault, Kind.CERTIFICATE, backup)
    bench.look_after()

    assert first == bench.current().version
    bench.until(made + 75 * DAY)
    assert operation.version == bench.current().version
    assert 2 == len(bench.kind.requests)


def test_a_clock_that_was_years_ahead_does_not_put_off_what_is_due(bench: Bench) -> None:
    made = issued(bench)
    bench.clock.moment = made + 400 * DAY
    bench.kind.steps += [bench.issued_for(90)] * 3
    bench.look_after()
    bench.turn()
    bench.clock.moment = made + DAY
    bench.store.write(lambda transaction: transaction.lifecycles.call_back(bench.clock.now(), timedelta(hours=1)))
    bench.until(made + 2 * DAY)
    looked = bench.lifecycle()

    assert looked.next_action is not None
    assert looked.ask_at is None or looked.ask_at < bench.clock.now() + 2 * DAY


def test_auto_renew_of_what_a_person_issues_is_a_warning(bench: Bench) -> None:
    """Key Vault's default policy asks for AutoRenew whoever the issuer is."""
    made = issued(bench, lifetime_actions=(LifetimeAction(AUTO_RENEW, lifetime_percentage=80),))
    bench.certificates.update_policy(
        bench.caller, bench.vault, "c", lambda stored: replace(stored or bench.policy(), issuer="Unknown")
    )
    bench.until(made + 73 * DAY)

    assert Health.NEEDS_PERSON == bench.lifecycle().health
    assert "A person brings its certificates" in bench.lifecycle().reason
