"""What is to be revoked is asked for until the CA answers, and a key that was reported is never used again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.errors import Invalid, NotFound
from certbroker.domain.events import EventType
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.domain.revocation import Progress, Reason
from certbroker.services.issuers.issuers import IssuerChanges
from certbroker.services.revocation.revocations import enter
from tests.support.certificates import Authority
from tests.support.issuer_bench import Bench
from tests.support.revoking import (
    DOWN,
    HOUR,
    NO,
    go_on,
    issued,
    known,
    listening,
    revoke,
    take_over,
    told,
)


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    return listening(core, caller, vault)


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
