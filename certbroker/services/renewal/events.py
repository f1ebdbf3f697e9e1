"""What people are told of a certificate's life. The same happening always makes the same event id."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from cryptography import x509
from msgspec.structs import replace

from certbroker.domain.events import Event, EventType, event_id
from certbroker.domain.lifecycle import EXPIRED, Lifecycle, Step
from certbroker.domain.objects import Kind
from certbroker.domain.records import Operation, Version
from certbroker.domain.renewal import LOOP_STOPPED, Renew, Suggestion
from certbroker.domain.revocation import Reason, Revocation
from certbroker.domain.revocation_status import Judged

# Failures in a row that are told: the first, and one more in case that nobody has acted. Then the end comes near.
_TOLD_FAILURES: Final = (1, 5)


def started(vault_id: int, version: Version, operation: Operation, renew: Renew, now: datetime) -> Event:
    """A renewal has begun."""
    event = _event(EventType.CERTIFICATE_RENEWAL_STARTED, vault_id, version, operation.id, renew.reason, now)
    return replace(event, details={"trigger": str(renew.trigger), "operation": operation.id})


def activated(vault_id: int, version: Version, now: datetime) -> Event:
    """A version that rested has become the current one."""
    message = "The version that was made before has become the current one."
    return _event(EventType.CERTIFICATE_ACTIVATED, vault_id, version, "activated", message, now)


def never_issued(vault_id: int, version: Version, operation: Operation, reason: str, now: datetime) -> Event:
    """The first version could not be made."""
    return _event(EventType.CERTIFICATE_NEEDS_PERSON, vault_id, version, operation.id, reason, now)


def warning(vault_id: int, version: Version, step: Step, reason: str, now: datetime) -> Event:
    """The end is near, or has come."""
    over = step.name == EXPIRED
    kind = EventType.CERTIFICATE_EXPIRED if over else EventType.CERTIFICATE_NEAR_EXPIRY
    return replace(_event(kind, vault_id, version, step.name, reason, now), step=step.name)


def troubles(vault_id: int, version: Version, lifecycle: Lifecycle, now: datetime) -> Iterator[Event]:
    """Renewals that fail. May be told at every look: it is the same event."""
    setback = lifecycle.setback
    if setback is not None and setback.failures in _TOLD_FAILURES:
        stopped = setback.problem.code == LOOP_STOPPED
        kind = EventType.CERTIFICATE_RENEWAL_STOPPED if stopped else EventType.CERTIFICATE_RENEWAL_FAILED
        event = _event(kind, vault_id, version, setback.operation, setback.problem.message, now)
        yield replace(event, details={"code": setback.problem.code, "failures": str(setback.failures)})


def suggested(vault_id: int, version: Version, suggestion: Suggestion, now: datetime) -> Event:
    """The CA wants a renewal and says why."""
    key = f"suggested-{int(suggestion.start.timestamp())}-{int(suggestion.end.timestamp())}"
    message = f"The CA asks for a renewal and explains why at {suggestion.explanation}."
    return _event(EventType.CERTIFICATE_RENEWAL_SUGGESTED, vault_id, version, key, message, now)


def revoked(revocation: Revocation, reason: Reason, now: datetime) -> Event:
    """The CA has revoked a certificate, for that reason."""
    message = f"The reason given is {reason}. Clients that check refuse it from now on."
    return _of_revocation(EventType.CERTIFICATE_REVOKED, revocation, str(reason), message, now)


def revocation_found(vault_id: int, version: Version, judged: Judged, message: str, now: datetime) -> Event:
    """The CA says that a certificate, or an issuer's, is revoked or on hold, and nobody here has asked for it."""
    answer = judged.answer
    key = f"{judged.sha256}-{answer.standing}"
    event = _event(EventType.CERTIFICATE_REVOCATION_FOUND, vault_id, version, key, message, now)
    details = {
        "revoked": "certificate" if judged.is_leaf else "issuer",
        "subject": judged.subject,
        "serial": judged.serial,
        "standing": str(answer.standing),
        "reason": answer.reason,
        "source": answer.source,
    }
    return replace(event, details=details)


def revocation_failed(revocation: Revocation, problem: str, now: datetime) -> Event:
    """A certificate that somebody wanted revoked is not, and nobody goes on trying."""
    key = f"{int(revocation.requested.timestamp())}"
    return _of_revocation(EventType.CERTIFICATE_REVOCATION_FAILED, revocation, key, problem, now)


def _of_revocation(kind: EventType, revocation: Revocation, key: str, message: str, now: datetime) -> Event:
    leaf = x509.load_der_x509_certificate(revocation.certificate)
    return Event(
        event_id(kind, revocation.vault_id, Kind.CERTIFICATE, revocation.name, revocation.version, key),
        kind,
        revocation.vault_id,
        Kind.CERTIFICATE,
        revocation.name,
        revocation.version,
        now,
        int(leaf.not_valid_before_utc.timestamp()),
        int(leaf.not_valid_after_utc.timestamp()),
        message=message,
        details={
            "reason": str(revocation.reason),
            "issuer": leaf.issuer.rfc4514_string(),
            "serial": f"{leaf.serial_number:x}",
        },
    )


def _event(kind: EventType, vault_id: int, version: Version, key: str, message: str, now: datetime) -> Event:
    return Event(
        event_id(kind, vault_id, Kind.CERTIFICATE, version.name, version.version, key),
        kind,
        vault_id,
        Kind.CERTIFICATE,
        version.name,
        version.version,
        now,
        version.attributes.not_before,
        version.attributes.expires,
        message=message,
    )
