"""Lifecycles in the database: found by index, taken once, and never overwritten by who has lost them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from certbroker.domain.lifecycle import Health, Lifecycle
from certbroker.store import lifecycles as statements
from certbroker.store.database import SQLiteStore
from certbroker.store.lifecycles import Care
from certbroker.store.transaction import SQLTransaction

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def three(store: SQLiteStore) -> SQLiteStore:
    """Three certificates, of which two are due."""
    for name, hours in (("first", -2), ("second", -1), ("third", 1)):
        at = NOW + hours * HOUR
        store.write(lambda transaction, name=name, at=at: transaction.lifecycles.made(1, name, "ca", at))  # type: ignore[misc]
    return store


def claim(store: SQLiteStore, count: int = 10, now: datetime = NOW) -> list[Care]:
    return store.write(lambda transaction: transaction.lifecycles.claim(now, now + HOUR, count))


def test_what_is_due_is_taken_once_the_longest_due_first(three: SQLiteStore) -> None:
    first, rest = claim(three, 1), claim(three)

    assert ["first"] == [care.name for care in first]
    assert ["second"] == [care.name for care in rest]
    assert [] == claim(three)
    assert ["first", "second", "third"] == sorted(care.name for care in claim(three, now=NOW + HOUR))


def test_what_was_disturbed_meanwhile_is_not_overwritten(three: SQLiteStore) -> None:
    """Somebody changed the policy while the engine was deciding on the old one."""
    care = claim(three, 1)[0]
    three.write(lambda transaction: transaction.lifecycles.disturb(1, "FIRST", NOW))
    later = replace(care, lifecycle=Lifecycle(health=Health.HEALTHY))

    assert not three.write(lambda transaction: transaction.lifecycles.save(later, NOW + 9 * HOUR))
    assert "first" in [again.name for again in claim(three)]


def test_a_disturbance_never_puts_off_what_is_due_earlier(three: SQLiteStore) -> None:
    three.write(lambda transaction: transaction.lifecycles.disturb(1, "first", NOW + 5 * HOUR))

    assert NOW - 2 * HOUR == three.glance().lifecycles.next_due()


def test_a_staged_version_stays_until_it_is_activated(three: SQLiteStore) -> None:
    three.write(lambda transaction: transaction.lifecycles.stage(1, "first", "ca", "v2", NOW + HOUR, NOW))
    care = next(care for care in claim(three) if care.name == "first")
    three.write(lambda transaction: transaction.lifecycles.save(care, NOW))
    kept = claim(three, 1)[0]
    three.write(lambda transaction: transaction.lifecycles.save(kept, NOW, activated=True))

    assert ("v2", NOW + HOUR) == (kept.staged, kept.activate_at)
    after = three.glance().lifecycles.get(1, "first")
    assert after is not None
    assert (None, None, "ca") == (after.staged, after.activate_at, after.issuer)


def test_health_is_counted_and_listed(three: SQLiteStore) -> None:
    for care, health in zip(
        claim(three, now=NOW + HOUR), (Health.HEALTHY, Health.FAILING, Health.HEALTHY), strict=True
    ):
        well = replace(care, lifecycle=Lifecycle(health=health, reason="Because."))
        three.write(lambda transaction, well=well: transaction.lifecycles.save(well, None))  # type: ignore[misc]

    counts = three.glance().lifecycles.counts()
    assert {Health.HEALTHY: 2, Health.FAILING: 1} == counts
    assert ["Because."] == [care.lifecycle.reason for care in three.glance().lifecycles.unwell(Health.FAILING, 10)]


def test_what_is_counted_is_what_there_is_whatever_becomes_of_it(three: SQLiteStore) -> None:
    def fail(transaction: SQLTransaction) -> None:
        transaction.lifecycles.remove(1, "second")
        raise RuntimeError

    three.write(lambda transaction: transaction.lifecycles.made(1, "first", None, NOW))  # It is there already.
    three.write(lambda transaction: transaction.lifecycles.disturb(2, "another", NOW))
    three.write(lambda transaction: transaction.lifecycles.remove(1, "first"))
    three.write(lambda transaction: transaction.lifecycles.remove(1, "first"))
    with pytest.raises(RuntimeError):
        three.write(fail)
    rows = three.glance().lifecycles._cursor.execute("SELECT health, count(*) FROM lifecycles GROUP BY health")

    assert {**dict(rows.fetchall()), Health.HEALTHY: 0} == three.glance().lifecycles.counts()
    assert {Health.UNKNOWN: 3, Health.HEALTHY: 0} == three.glance().lifecycles.counts()


def test_after_the_clock_went_back_everything_is_looked_at_within_the_time(three: SQLiteStore) -> None:
    three.write(lambda transaction: transaction.lifecycles.call_back(NOW - 100 * HOUR, HOUR))

    assert 3 == len(claim(three, now=NOW - 99 * HOUR))


@pytest.mark.parametrize("name", ["_CLAIM", "_DUE"])
def test_what_is_due_is_found_by_index(store: SQLiteStore, name: str) -> None:
    cursor = store.glance().lifecycles._cursor
    statement = getattr(statements, name)
    statement._sql or statement._compile()
    count = statement._sql.count("?")
    plan = cursor.execute(f"EXPLAIN QUERY PLAN {statement._sql}", (0,) * count).fetchall()

    assert any("lifecycles_due" in row[3] for row in plan), plan
    assert not any(row[3].startswith("SCAN lifecycles") and "INDEX" not in row[3] for row in plan), plan
