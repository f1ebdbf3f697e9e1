"""Working on certificate operations: what the engine does with one that is due."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog

from certbroker.domain import chain as chains
from certbroker.domain import operation as states
from certbroker.domain.audit import engine_caller, record
from certbroker.domain.authority import Issued
from certbroker.domain.errors import BrokerError, Invalid, LeaseLost, NotFound
from certbroker.domain.issuer_health import WORKS, Finding, IssuerState
from certbroker.domain.keys import PrivateKey
from certbroker.domain.objects import Kind
from certbroker.domain.operation import Problem
from certbroker.domain.policy import SELF, CertificatePolicy
from certbroker.domain.records import Cause, Operation, Turn
from certbroker.domain.revocation import KEY_COMPROMISED
from certbroker.domain.turns import is_too_long, next_turn
from certbroker.domain.urgency import Urgency
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.issuer import (
    Abandons,
    CertificateIssued,
    IssuanceRequest,
    IssuerKind,
    IssuerUnavailable,
    Reply,
    RequestRefused,
    StillWaiting,
)
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.health.meters import Meters
from certbroker.services.issuance.completion import Completion, store
from certbroker.services.issuance.journal import LEASE, OperationJournal
from certbroker.services.issuance.operation_keys import OperationKeys
from certbroker.services.issuers.issuers import Issuers
from certbroker.services.issuers.reports import failure, report
from certbroker.services.objects.naming import new_version
from certbroker.services.renewal.breaker import count_renewal, stopped
from certbroker.store.database import SQLiteStore
from certbroker.store.operations import Due
from certbroker.store.transaction import SQLTransaction

_BRING_AT_ONCE: Final = 1000

_UNEXPECTED: Final = Problem(
    "InternalError", "An unexpected error happened; the log has the details. It is tried again."
)
_OUTCOMES: Final = {states.Completed: "succeeded", states.Failed: "failed", states.Cancelled: "cancelled"}
_log = structlog.get_logger("certbroker.operations")


@dataclass(frozen=True, slots=True)
class Settlement:
    """What came of a step: the operation as it was claimed, and the write that ends the step.

    `state` is the one that is stored, where it has changed; `finding` is what the step has shown of the issuer. The
    write leaves it to others to store `after`, the operation that has ended.
    """

    operation: Operation
    write: Callable[[SQLTransaction], None]
    state: states.State | None = None
    finding: Finding | None = None
    after: Operation | None = None


class Operations:
    """Claims operations that are due and brings each as far as it goes now."""

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
        self._seal = seal
        self._keystore = keystore
        self._issuers = issuers
        self._clock = clock
        self._owner = owner
        self._keys = OperationKeys(store, seal, keystore, clock)
        self._meters = meters

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

    def at_once(self, operation: Operation) -> Settlement | None:
        """Take the only step of an operation that is planned, where that is quick enough for the event loop.

        That is a certificate signed by its own P-256 key: half a millisecond, in which another thread would hold the
        interpreter as well. None where it takes longer, or has not succeeded.
        """
        policy = operation.policy
        if policy.issuer.lower() != SELF.lower() or policy.key.curve != "P-256" or policy.reuse_key:
            return None
        try:
            made, key = self._keys.make(operation, self._issuers.kind(operation.vault_id, operation.issuer))
            issuer = self._issuers.open(operation.vault_id, operation.issuer)
            reply = issuer.advance(self._request(made, key), OperationJournal(self._store, self._clock, made))
        except Exception:
            _log.exception("certificate could not be made at once", certificate=operation.name)
            return None
        if not isinstance(reply, CertificateIssued):
            return None
        # It is what was asked for, since nobody else has made it.
        completion = Completion.self_signed(made, reply.chain[0])
        return replace(self._completed(made, key, completion), operation=operation)

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
        self.settle([self.step(operation)])

    def step(self, operation: Operation) -> Settlement:
        """Bring a claimed operation as far as it goes now; what came of it is still to be stored by `settle`.

        Raises nothing: what goes wrong becomes the operation's state.
        """
        try:
            return self._step(operation)
        except LeaseLost:
            _log.warning("operation taken over by another worker", operation=operation.id)
            return Settlement(operation, _nothing)
        except Exception:
            _log.exception("operation failed unexpectedly", operation=operation.id, certificate=operation.name)
            # A key that was saved meanwhile, and may be known outside, must not be lost.
            saved = self._store.glance().operations.get(operation.id)
            if saved is None or not isinstance(saved.state, states.Prepared | states.AwaitingIssuer):
                return Settlement(operation, _nothing)
            return self._settlement(replace(saved, fence=operation.fence), states.Unavailable(_UNEXPECTED))

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
        """Keep the leases of operations that are still worked on."""
        until = self._clock.now() + LEASE
        works = [_extension(operation, until) for operation in operations]
        self._store.write_all(works)

    def _step(self, operation: Operation) -> Settlement:
        now = self._clock.now()
        if operation.cancellation_requested:
            self._abandon(operation)
            return self._settlement(operation, states.CancelRequested())
        if now >= operation.deadline and isinstance(operation.state, states.Prepared):
            return self._settlement(operation, states.DeadlinePassed())
        try:
            kind = self._issuers.kind(operation.vault_id, operation.issuer)
            if isinstance(operation.state, states.Prepared):
                problem = stopped(self._store, operation, now)
                if problem is not None:
                    return self._settlement(operation, states.Refused(problem))
                operation, key = self._keys.make(operation, kind)
                if kind.manual:
                    return Settlement(operation, lambda transaction: transaction.operations.save(operation))
            else:
                key = self._keys.load(operation)
                if self._keys.is_compromised(key):
                    self._abandon(operation)
                    return self._settlement(operation, states.Refused(Problem("KeyCompromised", KEY_COMPROMISED)))
            issuer = self._issuers.open(operation.vault_id, operation.issuer)
            request, journal = self._request(operation, key), OperationJournal(self._store, self._clock, operation)
            if kind.local:
                return self._taken(operation, key, issuer.advance(request, journal))
            with self._meters.calling(operation.vault_id, operation.issuer, "advance") as call:
                reply = issuer.advance(request, journal)
                call.outcome = "refused" if isinstance(reply, RequestRefused) else "ok"
            return replace(self._taken(operation, key, reply), finding=WORKS)
        except IssuerUnavailable as unavailable:
            settlement = self._unavailable(operation, unavailable)
            next_try = None if settlement.state is None else states.act_at(settlement.state)
            return replace(settlement, finding=failure(unavailable, next_try))
        except (Invalid, NotFound) as refusal:
            settlement = self._refused(operation, Problem("IssuerSettingsInvalid", refusal.message))
            return replace(settlement, finding=self._unusable(operation))

    def _unusable(self, operation: Operation) -> Finding | None:
        """That the issuer's settings do not hold, if they do not."""
        try:
            self._issuers.open(operation.vault_id, operation.issuer)
        except BrokerError as error:
            return Finding(IssuerState.NEEDS_PERSON, error.message)
        return None

    def _request(self, operation: Operation, key: PrivateKey) -> IssuanceRequest:
        """What the issuer is asked for. A version to replace means something to the issuer that made it only."""
        replaces = None
        if operation.cause is not None and operation.turn.issuer == 0:
            replaced = self._store.glance().objects.get(
                operation.vault_id, Kind.CERTIFICATE, operation.name, operation.cause.replaces
            )
            replaces = replaced.certificate.leaf if replaced is not None and replaced.certificate is not None else None
        return IssuanceRequest(operation.id, states.csr_of(operation.state) or b"", operation.policy, key, replaces)

    def _unavailable(self, operation: Operation, unavailable: IssuerUnavailable) -> Settlement:
        """Wait, or ask a standby issuer when the wait is too long."""
        now = self._clock.now()
        following = next_turn(operation, now)
        if following is None or unavailable.committed or not is_too_long(operation, unavailable.retry_at, now):
            return self._settlement(operation, states.Unavailable(unavailable.problem, unavailable.retry_at))
        return self._handed_over(operation, following, unavailable.problem)

    def _refused(self, operation: Operation, problem: Problem) -> Settlement:
        """The end, unless there is an issuer that has not refused."""
        turn = replace(operation.turn, refused=(*operation.turn.refused, operation.turn.issuer))
        following = next_turn(replace(operation, turn=turn), self._clock.now())
        if following is None:
            return self._settlement(operation, states.Refused(problem))
        return self._handed_over(operation, following, problem)

    def _handed_over(self, operation: Operation, turn: Turn, problem: Problem) -> Settlement:
        """It is another issuer's turn. The one that had it cleans up; it is not asked to finish what it has begun."""
        if self._clock.now() >= operation.deadline:
            return self._settlement(operation, states.Unavailable(problem))
        self._abandon(operation)
        after = replace(operation, turn=turn)
        detail = f"The issuer {operation.issuer} could not be used; {after.issuer} is asked instead. {problem.message}"
        state = states.advance(operation.state, states.HandedOver(detail, problem), self._clock.now())
        after = replace(after, state=state)

        def write(transaction: SQLTransaction) -> None:
            transaction.operations.take_turn(after)
            transaction.operations.save(after)

        return Settlement(operation, write)

    def _taken(self, operation: Operation, key: PrivateKey, reply: Reply) -> Settlement:
        """What the issuer's reply means for the operation."""
        match reply:
            case StillWaiting(pause, detail):
                return self._settlement(operation, states.Waiting(self._clock.now() + pause, detail))
            case RequestRefused(problem):
                return self._refused(operation, problem)
            case CertificateIssued(chain, entry):
                try:
                    return self._completion(operation, key, chain, entry)
                except Invalid as refusal:
                    # It was issued all the same, and would be again.
                    now = self._clock.now()
                    self._store.write(lambda transaction: count_renewal(transaction, operation, now))
                    problem = Problem(
                        "IssuedCertificateInvalid", f"The issuer's answer is not usable. {refusal.message}"
                    )
                    return self._refused(operation, problem)

    def _completion(
        self, operation: Operation, key: PrivateKey, chain: tuple[bytes, ...], entry: Issued | None
    ) -> Settlement:
        """Check what was issued; it is stored in one transaction with the operation's end. Raises Invalid."""
        now = self._clock.now()
        parsed = chains.parse(chain)
        # What else the issuer sent would only be served to everybody who reads the certificate.
        ordered = chains.path_of(parsed, key.public_key())
        given = [certificate for certificate in dict.fromkeys(parsed) if certificate in ordered]
        chains.check_issued(ordered[0], now)
        missing = chains.missing_names(ordered[0], operation.policy.sans)
        if missing:
            raise Invalid(f"The certificate lacks names that were asked for: {', '.join(missing[:5])}.")
        return self._completed(operation, key, Completion.of(operation, ordered, given), entry)

    def _completed(
        self, operation: Operation, key: PrivateKey, completion: Completion, entry: Issued | None = None
    ) -> Settlement:
        """The end of an operation, by a certificate that is what was asked for."""
        now = self._clock.now()
        versions = completion.versions(self._seal, self._keystore, key, now)
        done = replace(operation, state=states.advance(operation.state, states.Issued(), now), sealed_key=None)
        caller = engine_caller("CertificateIssue", str(operation.vault_id), operation.id)

        def write(transaction: SQLTransaction) -> None:
            count_renewal(transaction, operation, now)
            store(transaction, operation.vault_id, versions, now, issuer=operation.issuer, rest=operation.rest)
            if entry is not None:
                place = (operation.vault_id, operation.name, operation.version)
                transaction.authorities.record(entry.at(*place))
            transaction.audit(record(caller, now, f"/certificates/{operation.name}/{operation.version}"))

        return Settlement(operation, write, done.state, after=done)

    def _abandon(self, operation: Operation) -> None:
        """Let the issuer clean up after a request that ends here; that it cannot is no reason to go on."""
        if not isinstance(operation.state, states.AwaitingIssuer):
            return
        try:
            issuer = self._issuers.open(operation.vault_id, operation.issuer)
            if isinstance(issuer, Abandons):
                request = self._request(operation, self._keys.load(operation))
                issuer.abandon(request, OperationJournal(self._store, self._clock, operation))
        except (BrokerError, IssuerUnavailable) as error:
            _log.warning("issuer could not clean up", operation=operation.id, reason=str(error))

    def _settlement(self, operation: Operation, event: states.Event) -> Settlement:
        """The state after the event; an end goes on record.

        The deadline is looked at when the issuer has been asked: the certificate may be ready, and only the broker was
        away.
        """
        now = self._clock.now()
        if isinstance(event, states.Waiting | states.Unavailable) and now >= operation.deadline:
            self._abandon(operation)
            # What this attempt found is told with the end.
            operation = replace(operation, state=states.advance(operation.state, event, now))
            event = states.DeadlinePassed()
        state = states.advance(operation.state, event, now)
        finished = states.is_finished(state)
        after = replace(operation, state=state, sealed_key=None if finished else operation.sealed_key)

        def write(transaction: SQLTransaction) -> None:
            transaction.operations.save(after)
            if finished:
                shown = transaction.operations.pending(operation.vault_id, operation.name)
                if shown is not None and shown.id == operation.id:
                    transaction.lifecycles.disturb(operation.vault_id, operation.name, now)
                caller = engine_caller("CertificateIssue", str(operation.vault_id), operation.id)
                outcome = state.problem.code if isinstance(state, states.Failed) else type(state).__name__
                transaction.audit(record(caller, now, f"/certificates/{operation.name}/pending", outcome, 0))

        return Settlement(operation, write, state)


def _extension(operation: Operation, until: datetime) -> Callable[[SQLTransaction], None]:
    return lambda transaction: transaction.operations.extend(operation, until)


def _nothing(transaction: SQLTransaction) -> None:
    """Write nothing: somebody else does."""
