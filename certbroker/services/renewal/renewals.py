"""Looking after certificates: what the engine does with a lifecycle that is due.

A look gathers facts, asks the issuer for its renewal window where that is due, decides, and ends in one transaction:
the operation that renews, what people are told, the health that operators see, and when to look again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Final

import structlog
from msgspec.structs import replace

from certbroker.domain import lifecycle as lives
from certbroker.domain import operation as states
from certbroker.domain import renewal
from certbroker.domain.audit import Caller, engine_caller, record
from certbroker.domain.backoff import doubled
from certbroker.domain.errors import BrokerError, Invalid, OperationInProgress
from certbroker.domain.issuer_health import WORKS, Finding
from certbroker.domain.lifecycle import Health
from certbroker.domain.objects import Kind, Vault
from certbroker.domain.policy import AUTO_RENEW, CertificatePolicy
from certbroker.domain.records import Cause, Operation, Version
from certbroker.domain.renewal import Renew, Suggestion, Trigger, Wait, Wish
from certbroker.domain.urgency import urgency_of
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.issuer import IssuerKind, IssuerUnavailable
from certbroker.ports.issuer_abilities import RenewalWindow, suggests_renewal
from certbroker.services.health.meters import Meters
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.issuance.operations import Operations
from certbroker.services.issuers.issuers import Issuers
from certbroker.services.issuers.reports import failure, report
from certbroker.services.notification.outbox import publish
from certbroker.services.objects import succession
from certbroker.services.objects.certificates import without_version
from certbroker.services.objects.naming import live, not_found, with_backing
from certbroker.services.renewal import events
from certbroker.services.renewal.looks import Look, gather, in_progress
from certbroker.store.database import SQLiteStore
from certbroker.store.lifecycles import Care
from certbroker.store.transaction import SQLTransaction

# Longer than a question to an issuer may take, a minute, with its wait for a thread behind 64 others, four at a time:
# were it over before, all of that would be done in vain, and again.
LEASE: Final = timedelta(minutes=20)

# An issuer that says nothing about a certificate is asked again after a day; one that could not be asked, after waits
# that double from the first to the last.
_SILENT: Final = timedelta(days=1)
_FIRST_ASK: Final = timedelta(minutes=5)
_LAST_ASK: Final = timedelta(hours=6)

# Between two looks at one certificate, whatever the reasons: no mistake of ours makes the engine turn in circles.
_SOONEST: Final = timedelta(seconds=1)

# So many looks end in one commit. Each costs a millisecond where it begins a renewal, and who wants to write meanwhile
# waits for them.
_TOGETHER: Final = 16

_log = structlog.get_logger("certbroker.renewals")


class Renewals:
    """Renews certificates in time, and says how each is."""

    def __init__(
        self,
        store: SQLiteStore,
        issuers: Issuers,
        operations: Operations,
        clock: Clock,
        inbox: Inbox,
        meters: Meters,
    ) -> None:
        self._store = store
        self._issuers = issuers
        self._operations = operations
        self._clock = clock
        self._inbox = inbox
        self._meters = meters

    def next_due(self) -> datetime | None:
        """When the next certificate is to be looked at."""
        return self._store.glance().lifecycles.next_due()

    def claim(self, count: int) -> list[Care]:
        """Take what is due; nobody else looks at it before the lease is over."""
        now = self._clock.now()
        due = self.next_due()
        if due is None or due > now:
            return []
        failpoint("renewal.claim.before")
        return self._store.write(lambda transaction: transaction.lifecycles.claim(now, now + LEASE, count))

    def look(self, claimed: list[Care]) -> list[Look]:
        """Gather the facts about certificates."""
        now = self._clock.now()
        # Many certificates have few issuers, and each read of one costs as much as a read of a certificate.
        kind_of = cache(self._kind)
        with self._store.read() as transaction:
            return [gather(transaction, care, now, kind_of) for care in claimed]

    def is_question_due(self, look: Look) -> bool:
        """Whether the issuer is to be asked for its window, which is an outside call."""
        facts, ask_at, now = look.facts, look.care.lifecycle.ask_at, self._clock.now()
        if facts is None or facts.manual or facts.in_progress or not facts.enabled or now >= facts.not_after:
            return False
        if not look.outside or facts.wish is not None:  # Whose answer would change nothing.
            return False
        if not any(action.action == AUTO_RENEW for action in facts.policy.lifetime_actions):
            return False
        # A time further away than any answer asks for comes from a clock that was wrong.
        return ask_at is None or not now < ask_at <= now + _SILENT

    def ask(self, look: Look) -> Look:
        """Ask the issuer for its window. Raises nothing: what goes wrong is tried again later."""
        version, facts, lifecycle, now = look.version, look.facts, look.care.lifecycle, self._clock.now()
        if version is None or version.certificate is None or facts is None:
            return look
        before, pause, failures = lifecycle.suggestion, _SILENT, 0
        suggestion = before
        finding: Finding | None = None
        try:
            issuer = self._issuers.open(look.care.vault_id, look.issuer)
            if suggests_renewal(issuer):
                failpoint("renewal.ask.before")
                with self._meters.calling(look.care.vault_id, look.issuer, "window"):
                    window = issuer.renewal_window(version.certificate.leaf)
                failpoint("renewal.ask.after-call")
                suggestion, finding = None, WORKS
                if window is not None:
                    pause = min(window.ask_again, _SILENT)
                    suggestion = _suggestion(version.certificate.sha256, window, before)
            else:
                # It says nothing about any certificate, so no look is worth it before the next one for another reason.
                suggestion, pause = None, facts.not_after - now
        except IssuerUnavailable as unavailable:
            failures = lifecycle.ask_failures + 1
            pause = doubled(_FIRST_ASK, _LAST_ASK, failures)
            if unavailable.retry_at is not None:
                pause = min(_SILENT, max(pause, unavailable.retry_at - now))
            finding = failure(unavailable, now + pause)
        except BrokerError as error:
            _log.warning("issuer cannot be asked for renewal windows", issuer=look.issuer, reason=error.message)
        except Exception:
            _log.exception("issuer could not be asked for a renewal window", issuer=look.issuer)
            failures, pause = lifecycle.ask_failures + 1, _LAST_ASK
        lifecycle = replace(lifecycle, suggestion=suggestion, ask_at=now + pause, ask_failures=failures)
        return replace(
            look,
            care=replace(look.care, lifecycle=lifecycle),
            facts=facts if suggestion == facts.suggestion else replace(facts, suggestion=suggestion),
            explained=suggestion is not None and suggestion != before and suggestion.explanation is not None,
            finding=finding,
        )

    def put_off(self, look: Look) -> Look:
        """Leave the question for later, because its issuer has too many to answer already."""
        lifecycle = replace(look.care.lifecycle, ask_at=self._clock.now() + _FIRST_ASK)
        return replace(look, care=replace(look.care, lifecycle=lifecycle))

    def attend(self, looks: list[Look]) -> int:
        """End the looks: decide, start what is to be started, and store when to look again. Returns how many began."""
        return sum(self._attend(looks[first : first + _TOGETHER]) for first in range(0, len(looks), _TOGETHER))

    def _attend(self, looks: list[Look]) -> int:
        failpoint("renewal.attend.before")
        outcomes = self._store.write_all([self._work(look) for look in looks])
        failpoint("renewal.attend.after")
        started = 0
        for look, outcome in zip(looks, outcomes, strict=True):
            if isinstance(outcome, Operation):
                started += 1
                self._started(outcome)
            elif isinstance(outcome, BaseException):
                # It is due again when the lease is over.
                _log.error("certificate could not be looked after", certificate=look.care.name, exc_info=outcome)
        return started

    def request(self, caller: Caller, vault: Vault, name: str, reason: str) -> Operation:
        """Renew now because somebody wants it. If that fails it is tried again, as any renewal is.

        Raises NotFound, Invalid, OperationInProgress.
        """
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> Operation:
            head = live(transaction, vault.id, Kind.CERTIFICATE, name)
            version = transaction.objects.get(vault.id, Kind.CERTIFICATE, name)
            policy = transaction.objects.policy(vault.id, name)
            if version is None or policy is None:
                raise Invalid(f"The certificate {head.name} has no version to renew yet: create one.")
            kind = self._kind(vault.id, policy.issuer)
            if kind is not None and kind.manual:
                raise Invalid(f"A person is the issuer of {head.name}: create a new version and merge the answer.")
            if in_progress(transaction.operations.pending(vault.id, name)):
                raise OperationInProgress(f"A new version of {head.name} is being made already.")
            wish = Wish(Trigger.OPERATOR, reason or "An operator asked for it.", version.version)
            care = transaction.lifecycles.get(vault.id, name)
            if care is None:
                raise not_found(Kind.CERTIFICATE, name)
            lifecycle = replace(care.lifecycle, wish=wish, setback=None)
            transaction.lifecycles.rewrite(replace(care, lifecycle=lifecycle), now + renewal.RECHECK)
            transaction.audit(record(caller, now, f"/certificates/{head.name}/pending", status=202))
            return self._begin(transaction, version, policy, Renew(wish.trigger, wish.reason), vault.id, now)

        operation = self._store.write(work)
        self._started(operation)
        return operation

    def _started(self, operation: Operation) -> None:
        """Count a renewal that is stored, and let the engine go on with it."""
        if operation.cause is not None:
            self._meters.renewal_started(operation.vault_id, operation.issuer, operation.cause.trigger)
        if operation.fence:
            self._inbox.put(operation)
        else:
            self._inbox.wake()

    def _work(self, look: Look) -> Callable[[SQLTransaction], Operation | None]:
        now = self._clock.now()
        return lambda transaction: self._end(transaction, look, now)

    def _end(self, transaction: SQLTransaction, look: Look, now: datetime) -> Operation | None:
        """What a look comes to, in one transaction. Returns the operation that it has started, if it has."""
        care, facts, version, policy = look.care, look.facts, look.version, look.policy
        if look.finding is not None:
            report(transaction, care.vault_id, look.issuer, look.finding, now)
        if care.staged is not None and care.activate_at is not None and care.activate_at <= now:
            self._activate(transaction, care, care.staged, now)
            return None
        if facts is None or version is None or policy is None:
            self._wait_for_first(transaction, look, now)
            return None
        decision = renewal.decide(facts, now)
        # One that rests may have the key of the one that was revoked.
        if care.staged is not None and not (isinstance(decision, Renew) and decision.trigger is Trigger.REVOKED):
            decision = Wait(care.activate_at or now, "A new version is there and becomes current then.")
        steps = [step for step in lives.steps(facts) if step.name not in care.lifecycle.told]
        due = sorted((step for step in steps if step.at <= now), key=lambda step: step.at)
        lifecycle = lives.judged(care.lifecycle, facts, decision, now)
        if due:
            lifecycle = replace(lifecycle, told=(*lifecycle.told, *(step.name for step in due)))
        # A question that was due and not asked is not ours to ask now.
        times = [moment for moment in (lifecycle.next_action, lifecycle.ask_at) if moment is not None and moment > now]
        times += [step.at for step in steps if step.at > now]
        act_at = max(min(times), now + _SOONEST) if times else None
        if not transaction.lifecycles.save(replace(care, lifecycle=lifecycle), act_at):
            return None
        vault_id = care.vault_id
        watch = transaction.watches.get(vault_id, care.name)
        if watch is None or not watch.is_about(version.version):
            transaction.watches.disturb(vault_id, care.name, now)
        if due:
            # Where several have passed unseen the last says it all.
            publish(transaction, events.warning(vault_id, version, due[-1], lifecycle.reason, now))
        if look.explained and facts.suggestion is not None:
            publish(transaction, events.suggested(vault_id, version, facts.suggestion, now))
        publish(transaction, *events.troubles(vault_id, version, lifecycle, now))
        if not isinstance(decision, Renew) or in_progress(transaction.operations.pending(vault_id, version.name)):
            return None
        operation = self._begin(transaction, version, policy, decision, vault_id, now)
        caller = engine_caller("CertificateRenew", str(vault_id), operation.id)
        transaction.audit(record(caller, now, f"/certificates/{version.name}/pending", status=202))
        publish(transaction, events.started(vault_id, version, operation, decision, now))
        return operation

    def _activate(self, transaction: SQLTransaction, care: Care, staged: str, now: datetime) -> None:
        """Make the staged version the current one, and look again; not if a newer one was made since we looked."""
        if not transaction.lifecycles.save(care, now, activated=True):
            return
        for kind in with_backing(Kind.CERTIFICATE):
            transaction.objects.set_current(care.vault_id, kind, care.name, staged)
        caller = engine_caller("CertificateActivate", str(care.vault_id), "")
        transaction.audit(record(caller, now, f"/certificates/{care.name}/{staged}"))
        succession.follow(transaction, care.vault_id, care.name, now)
        version = transaction.objects.get(care.vault_id, Kind.CERTIFICATE, care.name)
        if version is not None:
            publish(transaction, events.activated(care.vault_id, version, now))

    def _wait_for_first(self, transaction: SQLTransaction, look: Look, now: datetime) -> None:
        """Say how a certificate is that has no version yet. The end of its operation wakes us."""
        care, operation = look.care, look.operation
        state = operation.state if operation else None
        match state:
            case states.Failed(problem):
                health, reason = Health.NEEDS_PERSON, f"Its first version could not be made. {problem.message}"
            case None | states.Cancelled():
                health, reason = Health.NEEDS_PERSON, "It has no version: create one, or delete it."
            case _:
                health, reason = Health.RENEWING, "Its first version is being made."
        lifecycle = lives.Lifecycle(health=health, reason=reason, since=now)
        saved = transaction.lifecycles.save(replace(care, lifecycle=lifecycle), None)
        if saved and operation is not None and isinstance(state, states.Failed):
            version = without_version(operation.name, look.policy)
            publish(transaction, events.never_issued(care.vault_id, version, operation, reason, now))

    def _begin(
        self,
        transaction: SQLTransaction,
        version: Version,
        policy: CertificatePolicy,
        renew: Renew,
        vault_id: int,
        now: datetime,
    ) -> Operation:
        transaction.operations.retire(vault_id, version.name)
        begin, end = version.attributes.not_before or 0, version.attributes.expires or 0
        remaining, life = timedelta(seconds=end - now.timestamp()), timedelta(seconds=end - begin)
        return self._operations.begin(
            transaction,
            vault_id,
            version.name,
            policy,
            now,
            tags=version.tags,
            enabled=version.attributes.enabled,
            preserve_order=version.certificate is not None and version.certificate.preserve_order,
            cause=Cause(renew.trigger, renew.reason, version.version, renew.new_key),
            urgency=urgency_of(renew.trigger, remaining, life),
        )

    def _kind(self, vault_id: int, issuer: str) -> IssuerKind | None:
        try:
            return self._issuers.kind(vault_id, issuer)
        except BrokerError:
            return None


def _suggestion(sha256: str, window: RenewalWindow, before: Suggestion | None) -> Suggestion:
    """What a window means for a certificate; what is known already, where nothing has changed."""
    said = (sha256, window.start, window.end, window.explanation)
    if before is not None and said == (before.sha256, before.start, before.end, before.explanation):
        return before
    pick = renewal.pick(sha256, window.start, window.end)
    return Suggestion(sha256, window.start, window.end, pick, window.explanation)
