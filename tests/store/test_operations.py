"""Leases, fences, and finding what is due."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy.dialects import sqlite

from certbroker.domain import operation as states
from certbroker.domain.errors import LeaseLost
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import Operation, SealedBytes
from certbroker.services.objects.naming import new_version
from certbroker.store import objects, operations
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=60)


def _operation(name: str = "c", due: datetime = NOW, **changes: object) -> Operation:
    policy = CertificatePolicy(subject="CN=x", issuer="ca")
    made = Operation(new_version(), 1, name, new_version(), policy, states.Prepared(due), NOW, NOW + states.DEADLINE)
    return replace(made, **changes)


def _add(store: SQLiteStore, *added: Operation) -> None:
    def work(transaction: SQLTransaction) -> None:
        for each in added:
            transaction.operations.retire(each.vault_id, each.name)
            transaction.operations.add(each)

    store.write(work)


def _claim(store: SQLiteStore, operation: Operation, now: datetime = NOW, owner: str = "one") -> Operation | None:
    return store.write(lambda transaction: transaction.operations.claim(operation.id, owner, now, LEASE))


def test_an_operation_comes_back_as_it_was_stored(store: SQLiteStore) -> None:
    kek = store.write(lambda transaction: transaction.vaults.add_kek(1, "seal", b"wrapped", 0))
    for state in (
        states.Prepared(NOW),
        states.AwaitingIssuer(b"csr", NOW, "…", 3, states.Problem("Code", "Text.", "More.")),
        states.AwaitingMerge(b"csr"),
        states.Completed(b"csr"),
        states.Failed(states.Problem("Code", "Text.")),
        states.Cancelled(None),
    ):
        made = _operation("Name", state=state, tags={"a": "ü"}, enabled=False, preserve_order=True)
        made = replace(made, sealed_key=SealedBytes(kek, b"dek", b"payload"))
        _add(store, made)
        assert made == store.glance().operations.get(made.id) == store.glance().operations.pending(1, "NAME")
        completed = isinstance(state, states.Completed)
        assert (None if completed else made) == store.glance().operations.unsettled(1, "NAME")


def test_a_lease_keeps_others_out_until_it_ends(store: SQLiteStore) -> None:
    made = _operation()
    _add(store, made)
    claimed = _claim(store, made)

    assert claimed is not None
    assert 1 == claimed.fence
    assert _claim(store, made, NOW + LEASE - timedelta(microseconds=1), "two") is None
    taken_over = _claim(store, made, NOW + LEASE, "two")
    assert taken_over is not None
    assert 2 == taken_over.fence


@pytest.mark.parametrize("what", ["save", "intend", "record"])
def test_a_former_owner_changes_nothing(store: SQLiteStore, what: str) -> None:
    made = _operation()
    _add(store, made)
    former = _claim(store, made)
    _claim(store, made, NOW + LEASE, "two")
    assert former is not None
    before = store.glance().operations.get(made.id)
    late = NOW + 9 * LEASE

    with pytest.raises(LeaseLost):
        store.write(
            {
                "save": lambda tx: tx.operations.save(replace(former, state=states.Cancelled())),
                "intend": lambda tx: tx.operations.intend(former, "order", {"url": "x"}, late),
                "record": lambda tx: tx.operations.record(former, "order", {"url": "x"}, late),
            }[what]
        )
    assert before == store.glance().operations.get(made.id)
    assert (None, None) == store.glance().operations.entry(made.id, "order")
    assert _claim(store, made, NOW + 2 * LEASE, "three") is not None


def test_a_lease_is_extended_for_its_owner_only_and_while_it_lasts(store: SQLiteStore) -> None:
    made = _operation()
    _add(store, made)
    former = _claim(store, made)
    assert former is not None
    store.write(lambda tx: tx.operations.extend(former, NOW + 2 * LEASE))
    extended = _claim(store, made, NOW + LEASE, "two")
    owned = _claim(store, made, NOW + 2 * LEASE, "two")
    assert owned is not None
    store.write(lambda tx: tx.operations.extend(former, NOW + 9 * LEASE))
    store.write(lambda tx: tx.operations.save(owned))
    store.write(lambda tx: tx.operations.extend(owned, NOW + 9 * LEASE))

    assert extended is None
    assert [made.id] == [due.id for due in store.glance().operations.due(NOW, 10)]


def test_the_journal_keeps_intent_and_reply_side_by_side(store: SQLiteStore) -> None:
    made = _operation()
    _add(store, made)
    owned = _claim(store, made)
    assert owned is not None
    store.write(lambda tx: tx.operations.intend(owned, "order", {"names": "a"}, NOW + LEASE))
    assert ({"names": "a"}, None) == store.glance().operations.entry(made.id, "order")
    store.write(lambda tx: tx.operations.record(owned, "order", {"url": "u"}, NOW + LEASE))
    store.write(lambda tx: tx.operations.intend(owned, "order", {"names": "b"}, NOW + LEASE))

    assert ({"names": "b"}, {"url": "u"}) == store.glance().operations.entry(made.id, "order")
    store.write(lambda tx: tx.operations.remove(1, "C", NOW))
    assert (None, None) == store.glance().operations.entry(made.id, "order")
    with pytest.raises(LeaseLost):
        store.write(lambda tx: tx.operations.save(owned))


def test_what_is_due_comes_oldest_first_and_only_that(store: SQLiteStore) -> None:
    late = [_operation(f"n{number}", NOW - timedelta(seconds=number)) for number in range(4)]
    soon = _operation("soon", NOW + timedelta(microseconds=1))
    merge = _operation("merge", state=states.AwaitingMerge(b"csr"))
    _add(store, *late, soon, merge)

    assert [each.id for each in reversed(late)] == [due.id for due in store.glance().operations.due(NOW, 10)]
    assert [late[3].id] == [due.id for due in store.glance().operations.due(NOW, 1)]
    assert NOW - timedelta(seconds=3) == store.glance().operations.next_due(NOW)


def test_what_is_due_can_be_looked_for_past_issuers_that_are_busy(store: SQLiteStore) -> None:
    made = _operation()
    _add(store, made)
    issuer = made.policy.issuer.lower()
    operations = store.glance().operations

    assert [] == operations.due(NOW, 10, [(9, "other"), (1, issuer)])
    assert [made.id] == [due.id for due in operations.due(NOW, 10, [(2, issuer), (1, f"{issuer}-2")])]


def test_a_new_operation_takes_the_place_of_an_earlier_one(store: SQLiteStore) -> None:
    first, second = _operation("C"), _operation("c")
    _add(store, first)
    _add(store, second)

    assert second == store.glance().operations.pending(1, "C")
    assert [second.id] == [due.id for due in store.glance().operations.due(NOW, 10)]


def test_cancelling_makes_it_due_at_once(store: SQLiteStore) -> None:
    made = _operation(due=NOW + timedelta(days=1))
    _add(store, made)
    store.write(lambda tx: tx.operations.request_cancellation(made.id, NOW))

    assert [made.id] == [due.id for due in store.glance().operations.due(NOW, 10)]
    claimed = _claim(store, made)
    assert claimed is not None
    assert claimed.cancellation_requested


@pytest.mark.parametrize(
    "state",
    [
        states.Prepared(NOW + timedelta(hours=20)),
        states.AwaitingIssuer(b"csr", NOW + timedelta(hours=20), "…"),
        states.AwaitingMerge(b"csr"),
    ],
    ids=lambda state: type(state).__name__,
)
def test_what_is_cancelled_while_somebody_works_on_it_is_due_when_that_is_stored(
    store: SQLiteStore, state: states.State
) -> None:
    made = _operation()
    _add(store, made)
    owned = _claim(store, made)
    assert owned is not None
    store.write(lambda tx: tx.operations.request_cancellation(made.id, NOW))
    meanwhile = store.glance().operations.due(NOW, 10)
    store.write(lambda tx: tx.operations.save(replace(owned, state=state), NOW + LEASE))
    held = store.glance().operations.due(NOW, 10)
    store.write(lambda tx: tx.operations.save(replace(owned, state=state)))

    assert [] == meanwhile == held
    assert [made.id] == [due.id for due in store.glance().operations.due(NOW, 10)]
    claimed = _claim(store, made)
    assert claimed is not None
    assert claimed.cancellation_requested


def test_what_is_cancelled_while_it_ends_is_not_due_any_more(store: SQLiteStore) -> None:
    made = _operation()
    _add(store, made)
    owned = _claim(store, made)
    assert owned is not None
    store.write(lambda tx: tx.operations.request_cancellation(made.id, NOW))
    store.write(lambda tx: tx.operations.save(replace(owned, state=states.Completed(b"csr"))))

    assert [] == store.glance().operations.due(NOW + timedelta(days=30), 10)


def test_a_start_ends_all_leases(store: SQLiteStore) -> None:
    made = _operation()
    _add(store, made)
    _claim(store, made)
    store.write(lambda tx: tx.operations.release_all())

    assert [made.id] == [due.id for due in store.glance().operations.due(NOW, 10)]


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (operations._CANDIDATES, "operations_due"),
        (operations._NEXT, "operations_due"),
        (operations._PENDING, "operations_pending"),
        (objects._DUE_PURGES, "objects_purge"),
        (objects._GET_CURRENT, "sqlite_autoindex_objects_1"),
        (objects._LIST, "sqlite_autoindex_objects_1"),
        (objects._LIST_VERSIONS, "sqlite_autoindex_versions_1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_work_is_found_by_index(database: Path, statement: object, index: str) -> None:
    """An idle tick has to cost the same at a million certificates as at none."""
    sql = str(statement._clause.compile(dialect=sqlite.dialect(paramstyle="qmark")))
    connection = sqlite3.connect(database)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", [0] * sql.count("?"))]
    connection.close()

    assert [step for step in plan if index in step], plan
    assert not [step for step in plan if step.startswith("SCAN") and "INDEX" not in step], plan
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan
