"""The engine as a whole: what goes wrong in one of its parts stops no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from certbroker.app import Core
from certbroker.domain import operation as states
from certbroker.domain.audit import Caller
from certbroker.domain.keys import KeySpec
from certbroker.domain.lifecycle import Health, Lifecycle
from certbroker.domain.objects import Changes, Vault
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import Operation
from certbroker.engine.issue import IssueSweep
from certbroker.engine.renew import RenewSweep
from certbroker.engine.scheduler import Engine
from certbroker.engine.workbench import Workbench
from certbroker.ports.issuer import THREADS_PER_ISSUER
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.issuance.steps import Settlement
from certbroker.services.renewal.looks import Look
from certbroker.services.renewal.renewals import LEASE
from certbroker.store.lifecycles import Care
from certbroker.store.operations import Due
from tests.support.wire import until

POLICY = CertificatePolicy(KeySpec("EC"), subject="CN=www.example.com", issuer="Self")
NOW = datetime(2030, 1, 1, tzinfo=UTC)
OPERATION = Operation("id", 1, "c", "version", POLICY, states.Prepared(NOW), NOW, NOW + states.DEADLINE)


def test_a_chore_that_fails_or_hangs_silences_nothing_else(core: Core, caller: Caller, vault: Vault) -> None:
    done, release = threading.Event(), threading.Event()

    def fail() -> None:
        raise RuntimeError("a bug")

    def hang() -> None:
        done.set()
        release.wait(60)

    with _running(core, fail, hang):
        assert done.wait(20)
        core.broker.certificates.create(caller, vault, "c", lambda stored: POLICY, Changes())
        # Issued, and looked at some seconds later, while the chore still hangs.
        until("looked after", lambda: _health(core, vault) is Health.HEALTHY or None)
        release.set()


def test_looks_that_fail_leave_the_places_at_their_issuer_to_others() -> None:
    renewals = FailingRenewals()
    sweep = RenewSweep(renewals)
    for _ in range(10):
        sweep.sweep()
        until("asked", lambda: renewals.asked == renewals.claimed or None)
    sweep.stop()

    assert 10 == renewals.asked


class FailingRenewals:
    """One certificate is due at each sweep, its issuer is to be asked, and what comes of it cannot be stored."""

    def __init__(self) -> None:
        self.claimed = self.asked = 0

    def claim(self, count: int) -> list[Care]:
        self.claimed += 1
        return [Care(1, "c", 0, Lifecycle(), "ca")]

    def look(self, claimed: list[Care]) -> list[Look]:
        return [Look(care, None) for care in claimed]

    def is_question_due(self, look: Look) -> bool:
        return True

    def ask(self, look: Look) -> Look:
        self.asked += 1
        return look

    def attend(self, looks: list[Look]) -> int:
        raise OSError("The disk is full.")


def test_steps_that_fail_leave_the_places_at_their_issuer_to_others() -> None:
    operations = FailingOperations()
    sweep = IssueSweep(operations, Inbox())
    for _ in range(THREADS_PER_ISSUER + 1):
        until("claimed", lambda: sweep.sweep() or None)
    until("taken", lambda: operations.taken == THREADS_PER_ISSUER + 1 or None)
    sweep.stop()


class FailingOperations:
    """One operation at an issuer outside is due at each sweep, and its step fails."""

    def __init__(self) -> None:
        self.steps = self
        self.taken = 0

    def due(self, count: int, passed_over: Collection[tuple[int, str]] = (), *, by_age: bool = False) -> list[Due]:
        return [Due("id", 1, "ca")]

    def is_local(self, due: Due) -> bool:
        return False

    def claim(self, due: list[Due]) -> list[Operation]:
        return [OPERATION for _ in due]

    def take(self, operation: Operation) -> Settlement:
        self.taken += 1
        raise OSError("The disk is full.")

    def work(self, operation: Operation) -> None:
        self.take(operation)


def test_a_claim_that_fails_costs_no_place_and_nothing_that_was_claimed_before_it() -> None:
    operations = SparseOperations()
    sweep = IssueSweep(operations, Inbox())
    for _ in range(2 * THREADS_PER_ISSUER):
        with pytest.raises(OSError, match="disk is full"):
            sweep.sweep()
    operations.failing = False
    until("claimed", lambda: sweep.sweep() or None)
    until("taken", lambda: operations.taken or None)
    sweep.stop()


class SparseOperations(FailingOperations):
    """The same, where nothing can be claimed while it is `failing`."""

    failing = True

    def claim(self, due: list[Due]) -> list[Operation]:
        if self.failing:
            raise OSError("The disk is full.")
        return super().claim(due)


def test_a_step_that_fails_on_this_machine_costs_what_was_done_before_it_nothing() -> None:
    settled: list[Settlement] = []

    def step(operation: Operation) -> Settlement:
        if operation.name == "b":
            raise OSError("The disk is full.")
        return Settlement(operation, lambda transaction: None, operation.state)

    bench = Workbench("bench", step, settled.extend, threads=1, at_once=1)
    bench.put([replace(OPERATION, name=name) for name in "abc"])
    until("settled", lambda: len(settled) == 3 or None)
    bench.stop()

    assert [("a", True), ("b", False), ("c", True)] == [
        (each.operation.name, each.state is not None) for each in settled
    ]


def test_a_start_makes_due_what_a_dead_process_was_looking_at(core: Core, caller: Caller, vault: Vault) -> None:
    store, now = core.broker.store, datetime.now(UTC)
    store.write(lambda transaction: transaction.lifecycles.disturb(vault.id, "c", now))
    claimed = core.broker.renewals.claim(10)
    hidden = core.broker.renewals.next_due()
    store.write(lambda transaction: transaction.lifecycles.release(datetime.now(UTC), LEASE))

    assert 1 == len(claimed)
    assert hidden is not None
    assert hidden > now + timedelta(minutes=1)
    assert 1 == len(core.broker.renewals.claim(10))


def _health(core: Core, vault: Vault) -> Health | None:
    care = core.broker.store.glance().lifecycles.get(vault.id, "c")
    return None if care is None else care.lifecycle.health


class _running:  # noqa: N801  # Reads as a phrase where it is used.
    """The engine with these chores."""

    def __init__(self, core: Core, *chores: Callable[[], None]) -> None:
        self._engine = Engine(core.broker, core.inbox, chores)

    def __enter__(self) -> None:
        self._engine.start()

    def __exit__(self, *_: object) -> None:
        self._engine.stop()
