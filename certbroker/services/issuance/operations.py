"""Certificate operations as a queue: how they come into it, are claimed, and end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Final

import structlog

from certbroker.domain import operation as states
from certbroker.domain.errors import BrokerError, LeaseLost
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import Cause, Operation, Turn
from certbroker.domain.urgency import Urgency
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.issuer import IssuerKind
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.health.meters import Meters
from certbroker.services.issuance.journal import LEASE
from certbroker.services.issuance.steps import Settlement, Steps
from certbroker.services.issuers.issuers import Issuers
from certbroker.services.issuers.reports import report
from certbroker.services.objects.naming import new_version
from certbroker.store.database import SQLiteStore
from certbroker.store.operations import Due
from certbroker.store.transaction import SQLTransaction

_BRING_AT_ONCE: Final = 1000

_OUTCOMES: Final[Mapping[type[object], str]] = {
    states.Completed: "succeeded",
    states.Failed: "failed",
    states.Cancelled: "cancelled",
}
_log = structlog.get_logger("certbroker.operations")


class Operations:
    """Plans operations, claims those that are due, and stores what came of the `steps` that were taken."""

    def __init__(
        self,
        store: SQLiteStore,
        seal: Seal,
        keystore: KeyStore,
        issuers: Issuers,
        clock: Clock,
        owner: str,
        meters: Meters,
    ) -> None:
        self._store = store
        self._issuers = issuers
        self._clock = clock
        self._owner = owner
        self._meters = meters
        self.steps = Steps(store, seal, keystore, issuers, clock, meters)

    def due(self, count: int, passed_over: Collection[tuple[int, str]] = (), *, by_age: bool = False) -> list[Due]:
        """Operations that could be claimed now, but for those at issuers (vault id and name) that are passed over.

        The most urgent come first and then the longest due, or, `by_age`, the longest due alone.
        """
        now, operations = self._clock.now(), self._store.glance().operations
        urgent = [] if by_age else operations.urgent(now, count, passed_over)
        if len(urgent) == count:
            return urgent
        return list(dict.fromkeys([*urgent, *operations.due(now, count, passed_over)]))[:count]

    def claim(self, due: list[Due]) -> list[Operation]:
        """Claim those of the operations that are still due and that nobody else has claimed meanwhile."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> list[Operation]:
            claimed = (transaction.operations.claim(each.id, self._owner, now, LEASE) for each in due)
            return [operation for operation in claimed if operation is not None]

        return self._store.write(work) if due else []

    def plan(
        self,
        vault_id: int,
        name: str,
        policy: CertificatePolicy,
        now: datetime,
        *,
        tags: dict[str, str],
        enabled: bool = True,
        preserve_order: bool = False,
        cause: Cause | None = None,
    ) -> Operation:
        """An operation that makes a new version of the certificate by this policy.

        One that needs this machine only is claimed from the beginning, to be worked on at once.
        """
        kind = self._kind(vault_id, policy.issuer)
        return Operation(
            id=new_version(),
            vault_id=vault_id,
            name=name,
            version=new_version(),
            policy=policy,
            state=states.Prepared(now),
            created=now,
            deadline=now + states.DEADLINE,
            tags=tags,
            enabled=enabled,
            preserve_order=preserve_order,
            cause=cause,
            turn=Turn(since=now),
            fence=int(kind is not None and kind.local),
        )

    def begin(
        self,
        transaction: SQLTransaction,
        vault_id: int,
        name: str,
        policy: CertificatePolicy,
        now: datetime,
        *,
        tags: dict[str, str],
        enabled: bool = True,
        preserve_order: bool = False,
        cause: Cause | None = None,
        urgency: Urgency | None = Urgency.AWAITED,
    ) -> Operation:
        """Plan an operation and store it."""
        planned = self.plan(
            vault_id, name, policy, now, tags=tags, enabled=enabled, preserve_order=preserve_order, cause=cause
        )
        self.add(transaction, planned, urgency)
        return planned

    def add(self, transaction: SQLTransaction, operation: Operation, urgency: Urgency | None = Urgency.AWAITED) -> None:
        """Store an operation that was planned, and claim it where it is to be worked on at once."""
        if operation.fence and not states.is_finished(operation.state):
            transaction.operations.add(operation, self._owner, operation.created + LEASE, urgency)
        else:
            transaction.operations.add(operation, urgency=urgency)

    def next_due(self) -> datetime | None:
        """When there is work again, as far as is known now."""
        return self._store.glance().operations.next_due(self._clock.now())

    def bring_forward(self) -> int:
        """Make due what a clock that was ahead has planned or leased, and return how much that was.

        Nobody waits for so long otherwise. What is due twice for that is worked on once: the fence sees to it.
        """
        now = self._clock.now()
        latest, longest = now + 2 * states.LONGEST_WAIT, now + 10 * LEASE
        found = self._store.glance().operations.astray(latest, longest, _BRING_AT_ONCE)

        def work(transaction: SQLTransaction) -> None:
            for operation_id in found:
                transaction.operations.bring_forward(operation_id, now)

        if found:
            _log.warning("the clock was set back; operations were brought forward", count=len(found))
            self._store.write(work)
        return len(found)

    def is_local(self, due: Due) -> bool:
        """Whether the operation needs this machine only, if only to find out that its issuer is gone."""
        kind = self._kind(due.vault_id, due.issuer)
        return kind is None or kind.local

    def _kind(self, vault_id: int, issuer: str) -> IssuerKind | None:
        try:
            return self._issuers.kind(vault_id, issuer)
        except BrokerError:
            return None

    def work(self, operation: Operation) -> None:
        """Take a step and store what came of it."""
        self.settle([self.steps.take(operation)])

    def settle(self, settlements: list[Settlement]) -> None:
        """Store what came of steps, each for itself, and give the leases back."""
        failpoint("operation.settle.before")
        outcomes = self._store.write_all([self._ending(settlement) for settlement in settlements])
        failpoint("operation.settle.after")
        for settlement, outcome in zip(settlements, outcomes, strict=True):
            if outcome is None:
                self.count(settlement)
            elif isinstance(outcome, LeaseLost):
                _log.info("operation was deleted or taken over", operation=settlement.operation.id)
            elif isinstance(outcome, BaseException):
                # Its lease runs out, and somebody takes the step again.
                _log.error("operation could not be stored", operation=settlement.operation.id, exc_info=outcome)

    def _ending(self, settlement: Settlement) -> Callable[[SQLTransaction], None]:
        """The write that ends a step, with what it has shown of the issuer."""
        operation, finding, after = settlement.operation, settlement.finding, settlement.after
        now = self._clock.now()

        def write(transaction: SQLTransaction) -> None:
            if after is not None:
                transaction.operations.save(after)
            settlement.write(transaction)
            if finding is not None:
                report(transaction, operation.vault_id, operation.issuer, finding, now)

        return write

    def count(self, settlement: Settlement) -> None:
        """Count an operation that has ended, once that is stored."""
        outcome = _OUTCOMES.get(type(settlement.state))
        if outcome is not None:
            operation = settlement.operation
            trigger = operation.cause.trigger if operation.cause else None
            self._meters.operation_ended(operation.vault_id, operation.issuer, outcome, trigger)

    def extend(self, operations: list[Operation]) -> None:
        """Keep the leases of operations that are still worked on, as far as they have not been given back since."""
        until = self._clock.now() + LEASE
        works = [_extension(operation, until) for operation in operations]
        self._store.write_all(works)


def _extension(operation: Operation, until: datetime) -> Callable[[SQLTransaction], None]:
    return lambda transaction: transaction.operations.extend(operation, until)
