"""A certificate that lies in several places is revoked in each, and each has its own request and successor."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.errors import Invalid
from certbroker.domain.events import EventType
from certbroker.domain.objects import Kind, Vault
from certbroker.domain.renewal import Trigger
from certbroker.domain.revocation import Progress, Reason
from tests.support.certificates import Authority
from tests.support.issuer_bench import Bench
from tests.support.revoking import (
    DOWN,
    HOUR,
    NO,
    go_on,
    in_another_vault,
    issued,
    known,
    listening,
    revoke,
    seen,
    take_over,
    told,
    wish,
)


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    return listening(core, caller, vault)


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
