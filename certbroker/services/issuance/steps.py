"""One step of an operation: what is asked of the issuer, and what its reply means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog
from msgspec import Struct
from msgspec.structs import replace

from certbroker.domain import chain as chains
from certbroker.domain import operation as states
from certbroker.domain.audit import engine_caller, record
from certbroker.domain.authority import Issued
from certbroker.domain.errors import BrokerError, Invalid, LeaseLost, NotFound
from certbroker.domain.issuer_health import WORKS, Finding, IssuerState
from certbroker.domain.keys import PrivateKey
from certbroker.domain.objects import Kind
from certbroker.domain.operation import Problem
from certbroker.domain.policy import SELF
from certbroker.domain.records import Operation, Turn
from certbroker.domain.revocation import KEY_COMPROMISED
from certbroker.domain.turns import is_too_long, next_turn
from certbroker.ports.clock import Clock
from certbroker.ports.issuer import (
    CertificateIssued,
    IssuanceRequest,
    IssuerUnavailable,
    Reply,
    RequestRefused,
    StillWaiting,
)
from certbroker.ports.issuer_abilities import Abandons, answers_at_once
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.health.meters import Meters
from certbroker.services.issuance.completion import Completion, store
from certbroker.services.issuance.journal import OperationJournal
from certbroker.services.issuance.operation_keys import OperationKeys
from certbroker.services.issuers.issuers import Issuers
from certbroker.services.issuers.reports import failure
from certbroker.services.renewal.breaker import count_renewal, stopped
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

_UNEXPECTED: Final = Problem(
    "InternalError", "An unexpected error happened; the log has the details. It is tried again."
)
_log = structlog.get_logger("certbroker.operations")


class Settlement(Struct, frozen=True):
    """What came of a step: the operation as it was claimed, and the write that ends the step.

    `state` is the one that is stored, where it has changed; `finding` is what the step has shown of the issuer. The
    write leaves it to others to store `after`, the operation that has ended.
    """

    operation: Operation
    write: Callable[[SQLTransaction], None]
    state: states.State | None = None
    finding: Finding | None = None
    after: Operation | None = None


class Steps:
    """Takes the next step of an operation that was claimed, without storing what comes of it."""

    def __init__(
        self, store: SQLiteStore, seal: Seal, keystore: KeyStore, issuers: Issuers, clock: Clock, meters: Meters
    ) -> None:
        self._store = store
        self._seal = seal
        self._keystore = keystore
        self._issuers = issuers
        self._clock = clock
        self._keys = OperationKeys(store, seal, keystore, clock)
        self._meters = meters

    def take(self, operation: Operation) -> Settlement:
        """Bring a claimed operation as far as it goes now; what came of it is still to be stored.

        Raises nothing: what goes wrong becomes the operation's state.
        """
        try:
            return self._step(operation)
        except LeaseLost:
            _log.warning("operation taken over by another worker", operation=operation.id)
            return came_to_nothing(operation)
        except Exception:
            _log.exception("operation failed unexpectedly", operation=operation.id, certificate=operation.name)
        try:
            # A key that was saved meanwhile, and may be known outside, must not be lost.
            saved = self._store.glance().operations.get(operation.id)
            if saved is None or not isinstance(saved.state, states.Prepared | states.AwaitingIssuer):
                return came_to_nothing(operation)
            return self._settlement(replace(saved, fence=operation.fence), states.Unavailable(_UNEXPECTED))
        except Exception:
            _log.exception("operation could not be put off", operation=operation.id, certificate=operation.name)
            return came_to_nothing(operation)

    def at_once(self, operation: Operation) -> Settlement | None:
        """Take the only step of an operation that is planned, where that is quick enough for the event loop.

        That is a P-256 certificate signed by its own key or by a quick one of ours: half a millisecond to one and a
        half, in which another thread would hold the interpreter as well. None where it takes longer, or has not
        succeeded.
        """
        policy = operation.policy
        if policy.key.curve != "P-256" or policy.reuse_key:
            return None
        try:
            kind = self._issuers.kind(operation.vault_id, operation.issuer)
            issuer = self._issuers.open(operation.vault_id, operation.issuer) if kind.local else None
            if issuer is None or not answers_at_once(issuer):
                return None
            made, key = self._keys.make(operation, kind)
            reply = issuer.advance(self._request(made, key), OperationJournal(self._store, self._clock, made))
            if not isinstance(reply, CertificateIssued):
                return None
            if policy.issuer.lower() == SELF.lower():
                # It is what was asked for, since nobody else has made it.
                completed = self._completed(made, key, Completion.self_signed(made, reply.chain[0]))
            else:
                completed = self._completion(made, key, reply.chain, reply.entry)
        except BrokerError:
            # The engine finds the same, and says so where it is looked for.
            return None
        except Exception:
            _log.exception("certificate could not be made at once", certificate=operation.name)
            return None
        return replace(completed, operation=operation)

    def _step(self, operation: Operation) -> Settlement:
        now = self._clock.now()
        if operation.cancellation_requested:
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
        cleaned = self._abandon(operation)
        after = replace(operation, turn=turn)
        detail = f"The issuer {operation.issuer} could not be used; {after.issuer} is asked instead. {problem.message}"
        state = states.advance(operation.state, states.HandedOver(detail, problem), self._clock.now())
        after = replace(after, state=state)

        def write(transaction: SQLTransaction) -> None:
            transaction.operations.take_turn(after)
            transaction.operations.save(after)
            if not cleaned:
                _give_back(transaction, operation)

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
            store(transaction, operation.vault_id, versions, now, rest=operation.rest)
            if entry is not None:
                place = (operation.vault_id, operation.name, operation.version)
                transaction.authorities.record(entry.at(*place))
            transaction.audit(record(caller, now, f"/certificates/{operation.name}/{operation.version}"))

        return Settlement(operation, write, done.state, after=done)

    def _abandon(self, operation: Operation) -> bool:
        """Let the issuer clean up after a request that ends here, and say whether it has.

        That it cannot is no reason to go on; that somebody has disabled it is no reason to leave things behind.
        """
        if operation.sealed_key is None or not isinstance(operation.state, states.AwaitingIssuer):
            return True  # Nobody outside knows of it.
        try:
            issuer = self._issuers.open_to_clean_up(operation.vault_id, operation.issuer)
            if isinstance(issuer, Abandons):
                request = self._request(operation, self._keys.load(operation))
                issuer.abandon(request, OperationJournal(self._store, self._clock, operation))
        except (BrokerError, IssuerUnavailable) as error:
            _log.warning("issuer could not clean up", operation=operation.id, reason=str(error))
            return False
        except Exception:
            _log.exception("issuer failed unexpectedly while cleaning up", operation=operation.id)
            return False
        return True

    def _settlement(self, operation: Operation, event: states.Event) -> Settlement:
        """The state after the event; an end goes on record, and the issuer cleans up.

        The deadline is looked at when the issuer has been asked: the certificate may be ready, and only the broker was
        away.
        """
        now = self._clock.now()
        if isinstance(event, states.Waiting | states.Unavailable) and now >= operation.deadline:
            # What this attempt found is told with the end.
            operation = replace(operation, state=states.advance(operation.state, event, now))
            event = states.DeadlinePassed()
        state = states.advance(operation.state, event, now)
        finished = states.is_finished(state)
        cleaned = not finished or self._abandon(operation)
        after = replace(operation, state=state, sealed_key=None if finished else operation.sealed_key)

        def write(transaction: SQLTransaction) -> None:
            transaction.operations.save(after)
            if not cleaned:
                _give_back(transaction, operation)
            if finished:
                shown = transaction.operations.pending(operation.vault_id, operation.name)
                if shown is not None and shown.id == operation.id:
                    transaction.lifecycles.disturb(operation.vault_id, operation.name, now)
                caller = engine_caller("CertificateIssue", str(operation.vault_id), operation.id)
                outcome = state.problem.code if isinstance(state, states.Failed) else type(state).__name__
                transaction.audit(record(caller, now, f"/certificates/{operation.name}/pending", outcome, 0))

        return Settlement(operation, write, state)


def _give_back(transaction: SQLTransaction, operation: Operation) -> None:
    """Undo what an issuer that could not clean up has left in the database."""
    transaction.budgets.release_all(operation.id)
    transaction.issuers.remove_challenges_of(operation.id)


def came_to_nothing(operation: Operation) -> Settlement:
    """What came of a step that somebody else takes, now or when the operation's lease has run out."""
    return Settlement(operation, _nothing)


def _nothing(transaction: SQLTransaction) -> None:
    """Write nothing: somebody else does."""
