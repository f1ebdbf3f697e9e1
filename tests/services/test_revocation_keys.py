"""What follows from a revocation for keys: the successor has another, and one that was reported is never used again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from certbroker.app import Core
from certbroker.domain import operation as states
from certbroker.domain.audit import Caller
from certbroker.domain.errors import Invalid
from certbroker.domain.objects import Kind, Vault
from certbroker.domain.renewal import Trigger
from certbroker.domain.revocation import Reason
from tests.support.certificates import Authority
from tests.support.issuer_bench import Bench, wait
from tests.support.revoking import (
    HOUR,
    NO,
    issued,
    listening,
    public_of,
    revoke,
    take_over,
)


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    return listening(core, caller, vault)


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
