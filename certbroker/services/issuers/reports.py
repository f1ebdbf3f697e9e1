"""What requests to issuers show of them, noted in the transactions that store the outcome."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from certbroker.domain.events import Event, EventType, event_id
from certbroker.domain.issuer_health import Finding, IssuerState, noted
from certbroker.domain.objects import Kind
from certbroker.ports.issuer import IssuerUnavailable
from certbroker.services.notification.outbox import publish
from certbroker.store.transaction import SQLTransaction

# Reasons to wait that say nothing about the issuer: budgets and pauses are shown for themselves, and the others are
# about one name.
_NOT_ITS_FAULT: Final = frozenset({"RateBudget", "RateLimited", "ChallengePlaceTaken", "DNSDelegationBroken"})


def failure(unavailable: IssuerUnavailable, next_try: datetime | None) -> Finding | None:
    """What it shows that an issuer was unavailable, and is asked again then; None where that was not its fault."""
    problem = unavailable.problem
    if problem.code in _NOT_ITS_FAULT:
        return None
    return Finding(IssuerState.FAILING, problem.message, next_try)


def report(transaction: SQLTransaction, vault_id: int, issuer: str, finding: Finding, now: datetime) -> None:
    """Note a finding, where it changes what is known of an issuer that somebody has configured.

    Where its settings have ceased to hold, people are told.
    """
    before = transaction.issuers.health(vault_id, issuer)
    if before is None:
        return
    after = noted(before, finding, now)
    if after is not before:
        transaction.issuers.put_health(vault_id, issuer, after)
    if after.state is IssuerState.NEEDS_PERSON and before.state is not after.state:
        publish(transaction, _warning(vault_id, issuer, after.reason, now))


def _warning(vault_id: int, issuer: str, reason: str, now: datetime) -> Event:
    kind = EventType.ISSUER_WARNING
    identity = event_id(kind, vault_id, Kind.CERTIFICATE, issuer, "", now.isoformat())
    return Event(identity, kind, vault_id, Kind.CERTIFICATE, issuer, "", now, message=reason)
