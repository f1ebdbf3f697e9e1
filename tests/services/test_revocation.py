"""What is to be revoked is asked for until the CA answers, and a key that was reported is never used again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from certbroker.app import Core
from certbroker.domain import operation as states
from certbroker.domain.audit import Caller
from certbroker.domain.channels import Channel
from certbroker.domain.errors import Invalid, NotFound
from certbroker.domain.events import EventType
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.domain.operation import Problem
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import Version
from certbroker.domain.renewal import Trigger, Wish
from certbroker.domain.revocation import Progress, Reason, Revocation
from certbroker.ports.issuer import IssuerUnavailable
from certbroker.services.issuers.issuers import IssuerChanges
from certbroker.services.objects.foreign import take_apart
from certbroker.services.revocation.revocations import RevocationWish, enter
from tests.support.certificates import Authority, Identity
from tests.support.issuer_bench import Bench, wait

DOWN = IssuerUnavailable(Problem("Down", "The CA is down."))
NO = Invalid("The CA refused the revocation: no such thing.")
HOUR = timedelta(hours=1)


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    channel = Channel(vault.id, "all", "test", events=("*",))
    core.broker.store.write(lambda transaction: transaction.channels.add(channel))
    return Bench(core, caller, vault)


def issued(bench: Bench, **policy: Any) -> Version:
    bench.ask(bench.issued_for(90), **policy)
    bench.turn()
    bench.until(bench.clock.now() + timedelta(minutes=1))
    return bench.current()


def revoke(
    bench: Bench,
    version: Version,
    reason: Reason = Reason.SUPERSEDED,
    issuer: str | None = None,
    renew: bool | None = None,
) -> Revocation:
    wish = RevocationWish(reason, issuer, renew)
    return bench.revocations.revoke(bench.caller, bench.vault, version.name, version.version, wish)


def go_on(bench: Bench) -> int:
    claimed = bench.revocations.claim(10)
    for each in claimed:
        bench.revocations.go_on(each)
    return len(claimed)


def known(bench: Bench, version: Version) -> Revocation:
    assert version.certificate is not None
    found = bench.store.glance().revocations.get(version.certificate.sha256, bench.vault.id, version.name)
    assert found is not None
    return found


def told(bench: Bench, kind: EventType) -> int:
    cursor = bench.store.glance().outbox._cursor
    cursor.execute(
        "SELECT count(*) FROM outbox WHERE json_extract(event, '$.type') = ? AND vault_id = ?",
        (str(kind), bench.vault.id),
    )
    return int(cursor.fetchone()[0])


def in_another_vault(bench: Bench) -> Vault:
    """The same certificate in a vault with an issuer at the same CA by another name."""
    other = bench.core.broker.vaults.create(bench.caller, "other")
    channel = Channel(other.id, "all", "test", events=("*",))
    bench.store.write(lambda transaction: transaction.channels.add(channel))
    backups = bench.core.broker.backups
    backups.restore(
        bench.caller, other, Kind.CERTIFICATE, backups.backup(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    )
    bench.issuers.set(bench.caller, other, "theirs", IssuerChanges(provider="Scripted"))
    return other


def seen(bench: Bench, vault: Vault, name: str = "c") -> Revocation | None:
    return bench.certificates.get(vault, name, "").revocation


def wish(bench: Bench, vault: Vault) -> Wish | None:
    care = bench.store.glance().lifecycles.get(vault.id, "c")
    assert care is not None
    return care.lifecycle.wish


def public_of(bench: Bench, version: Version) -> bytes:
    key = bench.store.glance().objects.get(bench.vault.id, Kind.KEY, version.name, version.version)
    assert key is not None
    assert key.key is not None
    return key.key.public


def take_over(bench: Bench, name: str, identity: Identity) -> Version:
    imported = take_apart(identity.pem().encode(), None)
    view = bench.certificates.import_(
        bench.caller, bench.vault, name, imported, lambda stored: stored or CertificatePolicy(KeySpec("EC")), Changes()
    )
    return view.version


def test_the_ca_gets_the_certificate_the_code_of_the_reason_and_its_key(bench: Bench) -> None:
    version = issued(bench)
    done = revoke(bench, version, Reason.CESSATION_OF_OPERATION)
    ((certificate, reason, key),) = bench.kind.revoked

    assert version.certificate is not None
    assert (version.certificate.leaf, 5) == (certificate, reason)
    assert key is not None
    assert Progress.REVOKED is done.progress
    assert done == known(bench, version)
    assert 1 == told(bench, EventType.CERTIFICATE_REVOKED)


def test_a_repetition_is_a_success_that_nobody_is_bothered_with(bench: Bench) -> None:
    version = issued(bench)
    first, second = revoke(bench, version), revoke(bench, version, Reason.UNSPECIFIED)

    assert first == second
    assert 1 == len(bench.kind.revoked) == told(bench, EventType.CERTIFICATE_REVOKED)


def test_a_compromise_that_is_found_later_is_told_to_the_ca_too(bench: Bench) -> None:
    version = issued(bench)
    revoke(bench, version)
    later = revoke(bench, version, Reason.KEY_COMPROMISE, renew=False)

    assert [4, 1] == [reason for _, reason, _ in bench.kind.revoked]
    assert (True, Reason.KEY_COMPROMISE) == (later.compromised, later.reason)


def test_a_compromise_that_the_ca_has_not_heard_of_is_not_replaced_by_a_weaker_reason(bench: Bench) -> None:
    version = issued(bench)
    bench.issuers.set(bench.caller, bench.vault, "spare", IssuerChanges(provider="Scripted"))
    bench.kind.answers = [DOWN, DOWN]
    revoke(bench, version, Reason.KEY_COMPROMISE, renew=False)
    weaker = revoke(bench, version, Reason.CESSATION_OF_OPERATION, issuer="spare", renew=False)
    bench.clock.moment += HOUR
    go_on(bench)
    done = known(bench, version)

    assert (Progress.PENDING, Reason.KEY_COMPROMISE, "ca") == (weaker.progress, weaker.reason, weaker.issuer)
    assert [1, 1, 1] == [reason for _, reason, _ in bench.kind.revoked]
    assert (Progress.REVOKED, Reason.KEY_COMPROMISE) == (done.progress, done.reason)


def test_a_compromise_is_told_although_whoever_runs_the_ca_revokes_for_a_weaker_reason_meanwhile(bench: Bench) -> None:
    version = issued(bench)
    bench.kind.answers = [DOWN]
    revoke(bench, version, Reason.KEY_COMPROMISE, renew=False)
    now = bench.clock.now()
    bench.store.write(
        lambda transaction: enter(transaction, bench.caller, bench.vault.id, version, Reason.SUPERSEDED, now)
    )
    entered = known(bench, version)
    bench.clock.moment += HOUR
    go_on(bench)
    done = known(bench, version)

    assert (Progress.REVOKED, True) == (entered.progress, entered.act_at is not None)
    assert [1, 1] == [reason for _, reason, _ in bench.kind.revoked]
    assert (Reason.KEY_COMPROMISE, None) == (done.reason, done.act_at)
    assert 2 == told(bench, EventType.CERTIFICATE_REVOKED)


def test_a_compromise_that_the_ca_has_refused_to_hear_of_can_be_told_again(bench: Bench) -> None:
    version = issued(bench)
    revoke(bench, version)
    bench.kind.answers = [NO]
    with pytest.raises(Invalid, match="no such thing"):
        revoke(bench, version, Reason.KEY_COMPROMISE, renew=False)
    again = revoke(bench, version, Reason.KEY_COMPROMISE, renew=False)
    revoke(bench, version, Reason.KEY_COMPROMISE, renew=False)

    assert [4, 1, 1] == [reason for _, reason, _ in bench.kind.revoked]
    assert (Progress.REVOKED, None) == (again.progress, again.problem)


def test_a_compromise_is_told_to_a_ca_that_has_revoked_for_a_weaker_reason_after_it_had_refused(bench: Bench) -> None:
    version = issued(bench)
    bench.kind.answers = [NO]
    with pytest.raises(Invalid, match="no such thing"):
        revoke(bench, version, Reason.KEY_COMPROMISE, renew=False)
    revoke(bench, version, Reason.SUPERSEDED)
    revoke(bench, version, Reason.KEY_COMPROMISE, renew=False)

    assert [1, 4, 1] == [reason for _, reason, _ in bench.kind.revoked]


def test_a_refusal_is_the_answer_and_may_be_followed_by_another_try(bench: Bench) -> None:
    version = issued(bench)
    bench.kind.answers = [NO]
    with pytest.raises(Invalid, match="no such thing"):
        revoke(bench, version)
    refused = known(bench, version)
    again = revoke(bench, version)

    assert (Progress.REFUSED, Progress.REVOKED) == (refused.progress, again.progress)
    assert 0 == told(bench, EventType.CERTIFICATE_REVOCATION_FAILED)


def test_a_ca_that_is_away_is_asked_again_until_it_answers(bench: Bench) -> None:
    version = issued(bench)
    bench.kind.answers = [DOWN, DOWN]
    pending = revoke(bench, version)
    at_once = go_on(bench)
    bench.clock.moment += HOUR
    go_on(bench)
    still = known(bench, version)
    bench.clock.moment += HOUR
    go_on(bench)

    assert (Progress.PENDING, "The CA is down.", 0) == (pending.progress, pending.problem, at_once)
    assert (Progress.PENDING, 2) == (still.progress, still.attempts)
    assert Progress.REVOKED is known(bench, version).progress
    assert 0 == go_on(bench)
    assert 1 == told(bench, EventType.CERTIFICATE_REVOKED)


def test_a_refusal_that_nobody_waits_for_is_told(bench: Bench) -> None:
    version = issued(bench)
    bench.kind.answers = [DOWN, NO]
    revoke(bench, version)
    bench.clock.moment += HOUR
    go_on(bench)

    assert Progress.REFUSED is known(bench, version).progress
    assert 1 == told(bench, EventType.CERTIFICATE_REVOCATION_FAILED)
    bench.kind.answers = [DOWN, NO]
    revoke(bench, version)
    bench.clock.moment += HOUR
    go_on(bench)
    assert 2 == told(bench, EventType.CERTIFICATE_REVOCATION_FAILED)


def test_nobody_asks_any_more_when_the_certificate_has_expired(bench: Bench) -> None:
    version = issued(bench)
    bench.kind.answers = [DOWN]
    revoke(bench, version)
    bench.clock.moment += timedelta(days=91)
    go_on(bench)

    assert 1 == len(bench.kind.revoked)
    assert "expired before it could be revoked. The CA is down." in (known(bench, version).problem or "")
    with pytest.raises(Invalid, match="has expired"):
        revoke(bench, version)


def test_what_is_asked_again_is_the_certificate_whatever_has_its_name_by_then(bench: Bench) -> None:
    version = issued(bench)
    bench.kind.answers = [DOWN]
    revoke(bench, version)
    deletions = bench.core.broker.deletions
    deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    deletions.purge(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    other = issued(bench)
    bench.clock.moment += HOUR
    go_on(bench)

    assert version.certificate is not None
    assert {version.certificate.leaf} == {certificate for certificate, _, _ in bench.kind.revoked}
    assert bench.kind.revoked[-1][2] is None
    assert other.version == bench.current().version


def test_what_a_dead_process_had_taken_is_due_again(bench: Bench) -> None:
    version = issued(bench)
    bench.kind.answers = [SystemExit()]  # type: ignore[list-item]  # It ends the thread as a crash would.
    with pytest.raises(SystemExit):
        revoke(bench, version)
    taken = go_on(bench)
    bench.store.write(lambda transaction: transaction.revocations.release_all(bench.clock.now()))

    assert 0 == taken
    assert 1 == go_on(bench)
    assert Progress.REVOKED is known(bench, version).progress


def test_a_clock_that_went_back_delays_nothing_for_long(bench: Bench) -> None:
    version = issued(bench)
    bench.kind.answers = [DOWN]
    bench.clock.moment += timedelta(days=30)
    revoke(bench, version)
    bench.clock.moment -= timedelta(days=29)

    assert 1 == go_on(bench)


def test_a_compromised_key_gets_a_successor_with_another_key_though_the_policy_reuses_keys(bench: Bench) -> None:
    version = issued(bench, reuse_key=True, activation_delay_hours=24)
    bench.kind.steps.append(bench.issued_for(90))
    revoke(bench, version, Reason.KEY_COMPROMISE)
    bench.until(bench.clock.now() + timedelta(minutes=1))
    operation = bench.store.glance().operations.pending(bench.vault.id, "c")

    assert operation is not None
    assert operation.cause is not None
    assert (Trigger.REVOKED, version.version) == (operation.cause.trigger, operation.cause.replaces)
    assert operation.version == bench.current().version
    assert public_of(bench, version) != public_of(bench, bench.current())


@pytest.mark.parametrize(("renew", "expected"), [(None, 1), (True, 2)])
def test_other_reasons_get_a_successor_only_where_one_is_wanted(
    bench: Bench, renew: bool | None, expected: int
) -> None:
    version = issued(bench)
    bench.kind.steps.append(bench.issued_for(90))
    revoke(bench, version, renew=renew)
    bench.until(bench.clock.now() + timedelta(minutes=1))

    assert expected == len(bench.kind.requests)


def test_a_successor_can_be_asked_for_afterwards(bench: Bench) -> None:
    version = issued(bench)
    bench.kind.steps.append(bench.issued_for(90))
    revoke(bench, version)
    revoke(bench, version, renew=True)
    bench.until(bench.clock.now() + timedelta(minutes=1))

    assert version.version != bench.current().version
    assert 1 == len(bench.kind.revoked)


def test_a_version_that_rests_does_not_keep_the_successor_away(bench: Bench) -> None:
    version = issued(bench, reuse_key=True, activation_delay_hours=24)
    bench.kind.steps += [bench.issued_for(90), bench.issued_for(90)]
    bench.renewals.request(bench.caller, bench.vault, "c", "")
    bench.turn()
    resting = bench.current().version
    revoke(bench, version, Reason.KEY_COMPROMISE, issuer="ca")
    bench.until(bench.clock.now() + timedelta(days=2))

    assert version.version == resting
    assert 3 == len(bench.kind.requests)
    assert public_of(bench, version) != public_of(bench, bench.current())


def test_a_key_that_was_reported_is_not_reused_by_a_later_renewal(bench: Bench) -> None:
    version = issued(bench, reuse_key=True)
    bench.kind.steps += [bench.issued_for(90), bench.issued_for(90)]
    revoke(bench, version, Reason.KEY_COMPROMISE, renew=False)
    bench.renewals.request(bench.caller, bench.vault, "c", "")
    bench.turn()
    second = bench.current()
    bench.renewals.request(bench.caller, bench.vault, "c", "")
    bench.turn()

    assert public_of(bench, version) != public_of(bench, second) == public_of(bench, bench.current())


def test_a_key_that_was_made_to_stay_is_not_reused_where_the_secret_would_hold_it(bench: Bench) -> None:
    """Whatever way the policy came to say so."""
    version = issued(bench, reuse_key=True, exportable=False)
    policy = bench.store.glance().objects.policy(bench.vault.id, "c")
    assert policy is not None
    bench.store.write(
        lambda transaction: transaction.objects.put_policy(bench.vault.id, "c", replace(policy, exportable=True))
    )
    bench.kind.steps.append(bench.issued_for(90))
    bench.renewals.request(bench.caller, bench.vault, "c", "")
    bench.turn()

    assert version.version != bench.current().version
    assert public_of(bench, version) != public_of(bench, bench.current())


def test_a_request_that_has_the_key_already_ends_before_the_ca_is_asked(bench: Bench) -> None:
    version = issued(bench, reuse_key=True)
    bench.kind.steps.append(wait(60))
    bench.renewals.request(bench.caller, bench.vault, "c", "")
    bench.turn()
    asked = len(bench.kind.requests)
    revoke(bench, version, Reason.KEY_COMPROMISE)
    operation = bench.store.glance().operations.pending(bench.vault.id, "c")
    assert operation is not None
    bench.clock.moment += HOUR
    bench.turn()

    state = bench.now(operation).state
    assert isinstance(state, states.Failed)
    assert "KeyCompromised" == state.problem.code
    assert asked == len(bench.kind.requests)
    assert 1 == len(bench.kind.abandoned)


def test_a_key_that_was_reported_cannot_be_imported_in_any_vault_even_after_a_purge(bench: Bench) -> None:
    identity = Authority().issue()
    version = take_over(bench, "brought", identity)
    revoke(bench, version, Reason.KEY_COMPROMISE, issuer="ca")
    bench.core.broker.deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "brought")
    bench.core.broker.deletions.purge(bench.caller, bench.vault, Kind.CERTIFICATE, "brought")
    bench.vault = bench.core.broker.vaults.create(bench.caller, "another")

    with pytest.raises(Invalid, match="never used again"):
        take_over(bench, "again", Authority().issue(key=identity.key))


def test_a_report_counts_although_the_ca_refuses(bench: Bench) -> None:
    identity = Authority().issue()
    version = take_over(bench, "brought", identity)
    bench.kind.answers = [NO]
    with pytest.raises(Invalid, match="no such thing"):
        revoke(bench, version, Reason.KEY_COMPROMISE, issuer="ca")

    with pytest.raises(Invalid, match="never used again"):
        take_over(bench, "again", Authority().issue(key=identity.key))


def test_what_came_from_elsewhere_needs_an_issuer_by_name(bench: Bench) -> None:
    version = take_over(bench, "brought", Authority().issue())
    with pytest.raises(Invalid, match="name it as issuer"):
        revoke(bench, version)

    assert Progress.REVOKED is revoke(bench, version, issuer="CA").progress


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ({"issuer": "nobody"}, NotFound, "no issuer named"),
        ({"issuer": "Self"}, Invalid, "cannot revoke"),
        ({"issuer": "Unknown"}, Invalid, "cannot revoke"),
    ],
)
def test_an_issuer_that_cannot_is_refused_and_nothing_is_kept(
    bench: Bench, wanted: dict[str, Any], error: type[Exception], message: str
) -> None:
    version = issued(bench)

    with pytest.raises(error, match=message):
        revoke(bench, version, Reason.KEY_COMPROMISE, **wanted)
    with pytest.raises(AssertionError):
        known(bench, version)


def test_a_self_signed_certificate_cannot_be_revoked(bench: Bench) -> None:
    policy = replace(bench.policy(), issuer="Self")
    bench.certificates.create(bench.caller, bench.vault, "own", lambda stored: policy, Changes())
    bench.clock.moment += HOUR
    bench.turn()

    with pytest.raises(Invalid, match="self-signed"):
        revoke(bench, bench.current("own"))


def test_a_version_that_is_not_there_cannot_be_revoked(bench: Bench) -> None:
    version = issued(bench)

    with pytest.raises(NotFound):
        revoke(bench, replace(version, version="0" * 32))


def test_an_old_version_can_be_revoked_and_has_no_successor(bench: Bench) -> None:
    old = issued(bench)
    bench.kind.steps.append(bench.issued_for(90))
    bench.renewals.request(bench.caller, bench.vault, "c", "")
    bench.turn()
    with pytest.raises(Invalid, match="not the one in use"):
        revoke(bench, old, renew=True)

    done = revoke(bench, old, Reason.KEY_COMPROMISE)
    assert (Progress.REVOKED, False) == (done.progress, done.renew)


def test_a_successor_that_nobody_can_make_is_refused(bench: Bench) -> None:
    imported = take_over(bench, "brought", Authority().issue())
    version = issued(bench)
    bench.certificates.update(bench.caller, bench.vault, "c", "", Changes(enabled=False))

    with pytest.raises(Invalid, match="a person brings its certificates"):
        revoke(bench, imported, issuer="ca", renew=True)
    with pytest.raises(Invalid, match="disabled: enable it first"):
        revoke(bench, version, renew=True)


def test_the_successor_is_made_where_it_is_wanted_and_not_where_the_certificate_was_revoked_before(
    bench: Bench,
) -> None:
    version = issued(bench)
    other, home = in_another_vault(bench), bench.vault
    revoke(bench, version, renew=False)
    bench.vault = other
    done = revoke(bench, version, issuer="theirs", renew=True)
    wished = wish(bench, home), wish(bench, other)

    assert (Progress.REVOKED, other.id, True) == (done.progress, done.vault_id, done.renew)
    assert done == known(bench, version) == seen(bench, other)
    assert wished[0] is None
    assert wished[1] is not None
    assert Trigger.REVOKED is wished[1].trigger


def test_that_another_vault_has_it_revoked_does_not_keep_the_ca_from_being_told(bench: Bench) -> None:
    """The issuer there may be one that says yes to everything, in the hands of whoever has stolen the key."""
    version = issued(bench)
    other = in_another_vault(bench)
    bench.vault, home = other, bench.vault
    revoke(bench, version, Reason.KEY_COMPROMISE, "theirs", renew=False)
    bench.vault = home
    revoke(bench, version, Reason.KEY_COMPROMISE)

    assert [1, 1] == [reason for _, reason, _ in bench.kind.revoked]
    assert wish(bench, home) is not None
    assert wish(bench, other) is None


def test_who_wants_no_successor_has_none_though_it_was_revoked_at_another_place(bench: Bench) -> None:
    version = issued(bench)
    other = in_another_vault(bench)
    revoke(bench, version, renew=True)
    bench.vault = other
    done = revoke(bench, version, issuer="theirs", renew=False)

    assert (False, "theirs") == (done.renew, done.issuer)
    assert done == known(bench, version)
    assert wish(bench, other) is None


def test_a_ca_that_is_away_is_asked_again_by_the_issuer_of_the_vault_that_asked_and_that_is_told(bench: Bench) -> None:
    version = issued(bench)
    other, home = in_another_vault(bench), bench.vault
    revoke(bench, version, renew=False)
    bench.kind.answers = [DOWN]
    bench.vault = other
    pending = revoke(bench, version, Reason.KEY_COMPROMISE, "theirs")
    bench.clock.moment += HOUR
    worked = go_on(bench)
    done = known(bench, version)

    assert (True, 1) == (pending.act_at is not None, worked)
    assert [4, 1, 1] == [reason for _, reason, _ in bench.kind.revoked]
    assert all(key is not None for _, _, key in bench.kind.revoked)
    assert (Reason.KEY_COMPROMISE, "theirs", None) == (done.reason, done.issuer, done.act_at)
    assert 1 == told(bench, EventType.CERTIFICATE_REVOKED)
    assert wish(bench, other) is not None
    assert wish(bench, home) is None


def test_what_is_revoked_is_so_wherever_it_lies_and_what_is_only_wanted_shows_where_it_is(bench: Bench) -> None:
    version = issued(bench)
    other = in_another_vault(bench)
    bench.kind.answers = [DOWN]
    revoke(bench, version, Reason.KEY_COMPROMISE, renew=True)
    wanted = seen(bench, other)
    bench.clock.moment += HOUR
    go_on(bench)
    shown = seen(bench, other)

    assert wanted is None
    assert shown is not None
    assert (Progress.REVOKED, Reason.KEY_COMPROMISE) == (shown.progress, shown.reason)
    assert ("", False, None) == (shown.issuer, shown.renew, shown.problem)


def test_a_refusal_at_one_place_does_not_hide_that_it_was_revoked_at_another(bench: Bench) -> None:
    version = issued(bench)
    other, home = in_another_vault(bench), bench.vault
    bench.kind.answers = [NO]
    with pytest.raises(Invalid, match="no such thing"):
        revoke(bench, version, Reason.CESSATION_OF_OPERATION)
    bench.vault = other
    revoke(bench, version, issuer="theirs")
    shown = seen(bench, home)

    assert shown is not None
    assert (Progress.REVOKED, Reason.SUPERSEDED, None) == (shown.progress, shown.reason, shown.problem)
    assert "ca" == shown.issuer


def test_a_certificate_under_two_names_is_revoked_under_each(bench: Bench) -> None:
    identity = Authority().issue()
    one, two = take_over(bench, "One", identity), take_over(bench, "two", identity)
    revoke(bench, one, issuer="ca")
    before = seen(bench, bench.vault, "two")
    again = revoke(bench, two, issuer="ca")

    assert before is not None
    assert ("two", Progress.REVOKED) == (before.name, before.progress)
    assert again == known(bench, two)
    assert "One" == known(bench, replace(one, name="one")).name


def test_a_name_that_is_written_in_another_way_is_the_same_place(bench: Bench) -> None:
    identity = Authority().issue()
    bench.kind.answers = [DOWN]
    revoke(bench, take_over(bench, "One", identity), issuer="ca")
    bench.core.broker.deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "One")
    bench.core.broker.deletions.purge(bench.caller, bench.vault, Kind.CERTIFICATE, "One")
    version = take_over(bench, "ONE", identity)
    done = revoke(bench, version)

    assert version.certificate is not None
    assert [done] == bench.store.glance().revocations.of(version.certificate.sha256)
    assert (Progress.REVOKED, version.version) == (done.progress, done.version)


def test_two_places_that_wait_for_the_same_ca_are_claimed_one_by_one(bench: Bench) -> None:
    version = issued(bench)
    other = in_another_vault(bench)
    bench.kind.answers = [DOWN, DOWN]
    revoke(bench, version)
    bench.vault = other
    revoke(bench, version, issuer="theirs")
    bench.clock.moment += HOUR
    claimed = [each for _ in range(3) for each in bench.revocations.claim(1)]

    assert {"ca", "theirs"} == {each.issuer for each in claimed}
    assert 2 == len(claimed)
