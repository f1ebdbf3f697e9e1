"""CAs and their ledgers in the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from certbroker.domain.authority import Authority, AuthoritySettings, AuthorityState, Issued, serial_text
from certbroker.store.database import SQLiteStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
SECONDS = int(NOW.timestamp())
SETTINGS = AuthoritySettings(0, ("dns:corp.example",), shards=4, lent_to=("other",))
CA = Authority(
    "a" * 32,
    1,
    "Issuing",
    "1" * 32,
    b"\x30",
    "5" * 64,
    "CN=Issuing",
    "6" * 64,
    SECONDS + 1000,
    None,
    AuthorityState.ACTIVE,
    SETTINGS,
    SECONDS,
    crl_act_at=NOW + WEEK,
)
ENTRY = Issued(CA.id, serial_text(0xABC), "7" * 64, 1, "www", "2" * 32, "server", SECONDS + 500, 3)


def keep(store: SQLiteStore, *authorities: Authority, entries: tuple[Issued, ...] = ()) -> None:
    for authority in authorities:
        store.write(lambda transaction, each=authority: transaction.authorities.add(each))  # type: ignore[misc]
    for entry in entries:
        store.write(lambda transaction, each=entry: transaction.authorities.record(each))  # type: ignore[misc]


def test_a_ca_is_found_by_all_that_it_is_known_by(store: SQLiteStore) -> None:
    old = replace(CA, id="b" * 32, sha256="8" * 64, state=AuthorityState.RETIRED, created=SECONDS - 1)
    below = replace(CA, id="c" * 32, sha256="9" * 64, name="below", parent=CA.id)
    keep(store, old, CA, below)
    found = store.glance().authorities

    assert CA == found.get(CA.id) == found.active(1, "ISSUING") == found.of_certificate(CA.sha256)
    assert [CA, old] == found.generations(1, "issuing")
    assert [below, CA, old] == found.listing(1)
    assert [below] == found.children(CA.id)
    assert found.active(2, "issuing") is None


def test_a_retired_ca_does_not_sign(store: SQLiteStore) -> None:
    keep(store, CA)
    store.write(lambda transaction: transaction.authorities.set_state(CA.id, AuthorityState.RETIRED))

    assert store.glance().authorities.active(1, "issuing") is None


def test_a_certificate_is_entered_once(store: SQLiteStore) -> None:
    keep(store, CA, entries=(ENTRY, replace(ENTRY, name="again", shard=0)))

    assert ENTRY == store.glance().authorities.issued(CA.id, ENTRY.serial)
    assert [ENTRY] == store.glance().authorities.ledger(CA.id, "", 10)


def test_a_revocation_is_entered_once_and_published_at_once(store: SQLiteStore) -> None:
    keep(store, CA, entries=(ENTRY,))
    first = store.write(lambda transaction: transaction.authorities.revoke(CA.id, ENTRY.serial, NOW, 4))
    again = store.write(lambda transaction: transaction.authorities.revoke(CA.id, ENTRY.serial, NOW + WEEK, 1))
    found = store.glance().authorities
    entry, authority = found.issued(CA.id, ENTRY.serial), found.get(CA.id)

    assert (True, False) == (first, again)
    assert entry is not None
    assert (SECONDS, 4) == (entry.revoked, entry.reason)
    assert authority is not None
    assert authority.crl_act_at is not None
    assert authority.crl_act_at <= NOW


def test_a_ca_that_publishes_nothing_does_not_begin_to(store: SQLiteStore) -> None:
    keep(store, replace(CA, crl_act_at=None, state=AuthorityState.CROSS), entries=(ENTRY,))
    store.write(lambda transaction: transaction.authorities.publish_soon(CA.id, NOW))
    found = store.glance().authorities.get(CA.id)

    assert found is not None
    assert found.crl_act_at is None


def test_entries_are_forgotten_when_they_are_over_and_not_before(store: SQLiteStore) -> None:
    late = replace(ENTRY, serial=serial_text(0xDEF), not_after=SECONDS + 5000)
    keep(store, CA, entries=(ENTRY, late))

    assert not store.glance().authorities.has_expired(ENTRY.not_after)
    assert store.glance().authorities.has_expired(ENTRY.not_after + 1)
    assert 1 == store.write(lambda transaction: transaction.authorities.forget_expired(ENTRY.not_after + 1, 10))
    assert [late] == store.glance().authorities.ledger(CA.id, "", 10)
