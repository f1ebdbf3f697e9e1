"""What is urgent goes before what has time, however much of that there is, and what has time is not forgotten."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.lifecycle import Lifecycle
from certbroker.domain.objects import Changes, Vault
from certbroker.domain.records import Cause, Operation
from certbroker.domain.renewal import Trigger, Wish
from certbroker.domain.urgency import Urgency, urgency_of
from certbroker.store.lifecycles import Care
from certbroker.store.transaction import SQLTransaction
from tests.support.issuer_bench import Bench

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    return Bench(core, caller, vault)


def backlog(bench: Bench, count: int) -> None:
    """Certificates that are due for a look, since a while."""

    def work(transaction: SQLTransaction) -> None:
        for number in range(count):
            transaction.lifecycles.disturb(bench.vault.id, f"routine-{number}", bench.clock.now() - MINUTE)

    bench.store.write(work)


def wish(bench: Bench, name: str, trigger: Trigger) -> None:
    def work(transaction: SQLTransaction) -> None:
        transaction.lifecycles.disturb(bench.vault.id, name, bench.clock.now() + DAY)
        care = transaction.lifecycles.get(bench.vault.id, name)
        assert care is not None
        wished = replace(care, lifecycle=Lifecycle(wish=Wish(trigger, "A test.", "v")))
        transaction.lifecycles.rewrite(wished, bench.clock.now())

    bench.store.write(work)


def begun(bench: Bench, name: str, trigger: Trigger, urgency: Urgency | None) -> Operation:
    """A renewal that is due a little later than those before it."""
    bench.clock.moment += timedelta(milliseconds=1)
    return bench.store.write(
        lambda transaction: bench.operations.begin(
            transaction,
            bench.vault.id,
            name,
            bench.policy(),
            bench.clock.now(),
            tags={},
            cause=Cause(trigger, "A test.", "v"),
            urgency=urgency,
        )
    )


def names(cares: list[Care]) -> list[str]:
    return [care.name for care in cares]


def test_a_revoked_certificate_is_looked_at_before_all_that_have_time(bench: Bench) -> None:
    backlog(bench, 50)
    wish(bench, "incident", Trigger.INCIDENT)
    wish(bench, "revoked", Trigger.REVOKED)

    found = names(bench.renewals.claim(8))
    assert {"revoked", "incident"} <= set(found)
    assert 8 == len(found)
    # Of the rest a part was taken too: the urgent ones never have all places.
    assert 6 == sum(name.startswith("routine") for name in found)


def test_the_urgent_ones_never_have_all_places(bench: Bench) -> None:
    backlog(bench, 20)
    for number in range(20):
        wish(bench, f"revoked-{number}", Trigger.REVOKED)

    assert 6 == sum(name.startswith("revoked") for name in names(bench.renewals.claim(8)))


def test_operations_go_by_urgency_and_every_few_times_by_age(bench: Bench) -> None:
    routine = [begun(bench, f"routine-{number}", Trigger.LIFETIME_ACTION, None) for number in range(10)]
    incident = begun(bench, "incident", Trigger.INCIDENT, Urgency.INCIDENT)
    expiring = begun(bench, "expiring", Trigger.LIFETIME_ACTION, Urgency.EXPIRING)
    revoked = begun(bench, "revoked", Trigger.REVOKED, Urgency.REVOKED)
    wanted = bench.policy()
    awaited = bench.certificates.create(bench.caller, bench.vault, "awaited", lambda stored: wanted, Changes())
    bench.clock.moment += MINUTE
    urgent = [awaited.id, revoked.id, expiring.id, incident.id]

    assert [*urgent, routine[0].id] == [due.id for due in bench.operations.due(5)]
    assert [each.id for each in routine[:5]] == [due.id for due in bench.operations.due(5, by_age=True)]
    assert [*urgent, *(each.id for each in routine)] == [due.id for due in bench.operations.due(100)]
    assert urgent[:2] == [due.id for due in bench.operations.due(2)]
    assert [] == bench.operations.due(100, {(bench.vault.id, "ca")})


def test_what_waits_for_its_issuer_is_not_due_however_urgent_it_is(bench: Bench) -> None:
    begun(bench, "revoked", Trigger.REVOKED, Urgency.REVOKED)
    bench.clock.moment -= MINUTE

    assert [] == bench.operations.due(5)


@pytest.mark.parametrize(
    ("trigger", "left", "expected"),
    [
        (Trigger.LIFETIME_ACTION, 0.3, None),
        (Trigger.LIFETIME_ACTION, 0.1, Urgency.EXPIRING),
        (Trigger.LIFETIME_ACTION, -1, Urgency.EXPIRING),
        (Trigger.INCIDENT, 0.3, Urgency.INCIDENT),
        (Trigger.INCIDENT, 0.05, Urgency.EXPIRING),
        (Trigger.REVOKED, 0.05, Urgency.REVOKED),
        (Trigger.OPERATOR, 0.9, Urgency.AWAITED),
    ],
)
def test_how_urgent_a_renewal_is(trigger: Trigger, left: float, expected: Urgency | None) -> None:
    assert expected == urgency_of(trigger, 90 * DAY * left, 90 * DAY)
