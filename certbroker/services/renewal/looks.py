"""One look at a certificate: the facts that its renewal is decided on, gathered from the database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from msgspec import Struct
from msgspec.structs import replace

from certbroker.domain import operation as states
from certbroker.domain import renewal
from certbroker.domain.backoff import fraction
from certbroker.domain.chain import missing_names
from certbroker.domain.issuer_health import Finding
from certbroker.domain.lifecycle import Lifecycle
from certbroker.domain.objects import Kind
from certbroker.domain.operation import Problem
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import KeyFacts, Operation, Version
from certbroker.domain.renewal import Facts, Setback
from certbroker.ports.issuer import IssuerKind
from certbroker.services.renewal.breaker import closes_at
from certbroker.store.lifecycles import Care
from certbroker.store.transaction import SQLTransaction

_CANCELLED: Final = Problem("Cancelled", "The renewal was cancelled by its owner.")


class Look(Struct, frozen=True):
    """A look at one certificate. `version` and `facts` are None while it has no version.

    `outside` means that its issuer can be asked for a renewal window, by an outside call; `explained` that it has just
    given a new one, with a reason for people; `finding` is what the question about it has shown of the issuer.
    """

    care: Care
    operation: Operation | None
    policy: CertificatePolicy | None = None
    version: Version | None = None
    facts: Facts | None = None
    outside: bool = False
    explained: bool = False
    finding: Finding | None = None

    @property
    def issuer(self) -> str:
        """The name of the issuer that knows when the current version should be renewed, as the policy spells it."""
        spelled = self.policy.issuers if self.policy else ("",)
        made_by = (self.care.issuer or spelled[0]).lower()
        return next((each for each in spelled if each.lower() == made_by), made_by)


def gather(
    transaction: SQLTransaction, care: Care, now: datetime, kind_of: Callable[[int, str], IssuerKind | None]
) -> Look:
    """Gather the facts. `kind_of` tells the kind of a vault's issuer, and None where there is no such issuer."""
    vault_id, name = care.vault_id, care.name
    policy = transaction.objects.policy(vault_id, name)
    operation = transaction.operations.unsettled(vault_id, name)
    version = transaction.objects.get(vault_id, Kind.CERTIFICATE, name)
    if version is None or version.certificate is None or policy is None:
        return Look(care, operation, policy)
    lifecycle = care.lifecycle
    if lifecycle.version != version.version:
        # What was remembered is about another version, and must not decide about this one.
        wish = lifecycle.wish if lifecycle.wish and lifecycle.wish.version == version.version else None
        revoked = lifecycle.revoked if lifecycle.revoked and lifecycle.revoked.version == version.version else None
        lifecycle = Lifecycle(
            version=version.version, wish=wish, revoked=revoked, health=lifecycle.health, since=lifecycle.since
        )
    setback = _setback(transaction, lifecycle, operation, version, now)
    if setback is not lifecycle.setback:
        lifecycle = replace(lifecycle, setback=setback)
    kind = kind_of(vault_id, policy.issuer)
    asked = kind_of(vault_id, care.issuer or policy.issuer)
    facts = Facts(
        policy,
        datetime.fromtimestamp(version.certificate.not_before, UTC),
        datetime.fromtimestamp(version.certificate.not_after, UTC),
        fraction(str(vault_id), name, version.version),
        enabled=version.attributes.enabled,
        manual=kind is not None and kind.manual,
        in_progress=in_progress(operation),
        mismatch=_mismatch(transaction, vault_id, version, policy),
        suggestion=lifecycle.suggestion,
        wish=lifecycle.wish,
        setback=lifecycle.setback,
        revoked=lifecycle.revoked,
        undeployed=transaction.endpoints.alarm(vault_id, name) or transaction.deployments.alarm(vault_id, name),
    )
    outside = asked is not None and not asked.local and not asked.manual
    return Look(replace(care, lifecycle=lifecycle), operation, policy, version, facts, outside)


def in_progress(operation: Operation | None) -> bool:
    """Whether a new version is being made."""
    return operation is not None and not states.is_finished(operation.state)


def _setback(
    transaction: SQLTransaction, lifecycle: Lifecycle, operation: Operation | None, version: Version, now: datetime
) -> Setback | None:
    """What is known of failures in a row, with the operation that has just failed, if it was a renewal."""
    before = lifecycle.setback
    if operation is None or operation.cause is None or operation.cause.replaces != version.version:
        return before
    if before is not None and before.operation == operation.id:
        return before
    match operation.state:
        case states.Failed(problem):
            pass
        case states.Cancelled():
            problem = _CANCELLED
        case _:
            return before
    failures = before.failures + 1 if before is not None else 1
    remaining = datetime.fromtimestamp(version.attributes.expires or 0, UTC) - now
    retry_at = now + renewal.retry_after(failures, remaining)
    if problem.code == renewal.LOOP_STOPPED:
        # Every try before that would be stopped again.
        retry_at = max(retry_at, closes_at(transaction, operation, now))
    return Setback(operation.id, failures, retry_at, problem)


def _mismatch(transaction: SQLTransaction, vault_id: int, version: Version, policy: CertificatePolicy) -> str | None:
    """In which way a version is not what its policy asks for, where the policy has changed since."""
    if policy.updated <= version.attributes.created or version.certificate is None:
        return None
    leaf = x509.load_der_x509_certificate(version.certificate.leaf)
    missing = missing_names(leaf, policy.sans)
    if missing:
        return f"the certificate lacks the name {missing[0]}"
    key = transaction.objects.get(vault_id, Kind.KEY, version.name, version.version)
    if key is not None and key.key is not None and not _is_wanted(key.key, policy):
        return "it asks for another key"
    return None


def _is_wanted(key: KeyFacts, policy: CertificatePolicy) -> bool:
    return (key.kty, key.size, key.curve) == (policy.key.kty, policy.key.size, policy.key.curve)
