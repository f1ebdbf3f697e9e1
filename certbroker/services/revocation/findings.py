"""What is done when a certificate is found revoked: put on record, told once, and replaced where the policy says so."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from cryptography import x509
from msgspec.structs import replace

from certbroker.domain.audit import engine_caller, record
from certbroker.domain.errors import BrokerError
from certbroker.domain.keys import subject_public_key_info
from certbroker.domain.objects import Kind, object_path
from certbroker.domain.policy import AUTO_RENEW
from certbroker.domain.records import CertificateFacts, Version
from certbroker.domain.renewal import Revoked, Trigger, Wish
from certbroker.domain.revocation import Progress, Reason, Revocation, key_digest
from certbroker.domain.revocation_status import Judged, Standing, Watched, told
from certbroker.services.issuers.issuers import Issuers
from certbroker.services.notification.outbox import publish
from certbroker.services.renewal import events
from certbroker.store.transaction import SQLTransaction

_BAD: Final = (Standing.REVOKED, Standing.ON_HOLD)


class RevocationFindings:
    """Acts on verdicts, in the transaction in which they are stored."""

    def __init__(self, issuers: Issuers, *, replacing: bool) -> None:
        self._issuers = issuers
        self._replacing = replacing

    def act(
        self,
        transaction: SQLTransaction,
        vault_id: int,
        version: Version,
        before: Watched,
        now_known: Watched,
        now: datetime,
    ) -> tuple[str, ...] | None:
        """Do what is to be done about a verdict; None when that is nothing.

        Otherwise the issuers' certificates for whose revocation a successor was made, up to now.
        """
        worst, old = now_known.verdict.worst, before.verdict.worst
        found = worst if worst is not None and worst.answer.standing in _BAD else None
        was = old if old is not None and old.answer.standing in _BAD else None
        if (found and (found.sha256, found.answer.standing)) == (was and (was.sha256, was.answer.standing)):
            return None
        if found is None:
            self._take_back(transaction, vault_id, version, now)
            return None
        return self._found(transaction, vault_id, version, found, now_known.replaced_for, now)

    def _found(
        self,
        transaction: SQLTransaction,
        vault_id: int,
        version: Version,
        found: Judged,
        replaced_for: tuple[str, ...],
        now: datetime,
    ) -> tuple[str, ...]:
        message = told(found)
        known = transaction.revocations.get(found.sha256, vault_id, version.name) if found.is_leaf else None
        wished = known is not None and bool(known.issuer) and known.progress is not Progress.REFUSED
        replacing = found.answer.standing is Standing.REVOKED and found.sha256 not in replaced_for
        if wished and known is not None:
            # Somebody here has asked for it, and has said whether there is to be a successor.
            replacing = replacing and known.renew
        else:
            replacing = replacing and self._is_replaced(transaction, vault_id, version)
            message += self._what_next(found, replaced_for, replacing=replacing)
            caller = engine_caller("CertificateRevocationFound", str(vault_id), "")
            path = object_path(Kind.CERTIFICATE, version.name, version.version)
            transaction.audit(record(caller, now, path, str(found.answer.standing)))
            publish(transaction, events.revocation_found(vault_id, version, found, message, now))
        if found.is_leaf and version.certificate is not None and found.answer.standing is Standing.REVOKED:
            self._remember(transaction, vault_id, version, version.certificate, known, found, now, renew=replacing)
        care = transaction.lifecycles.get(vault_id, version.name)
        if care is None:
            return replaced_for
        lifecycle = replace(care.lifecycle, revoked=Revoked(version.version, told(found)))
        if replacing:
            wish = Wish(Trigger.REVOKED, told(found), version.version, new_key=True)
            lifecycle = replace(lifecycle, wish=wish, setback=None)
        transaction.lifecycles.rewrite(replace(care, lifecycle=lifecycle), now)
        return (*replaced_for, found.sha256) if replacing and not found.is_leaf else replaced_for

    def _take_back(self, transaction: SQLTransaction, vault_id: int, version: Version, now: datetime) -> None:
        """What was on hold is so no more."""
        care = transaction.lifecycles.get(vault_id, version.name)
        if care is None or care.lifecycle.revoked is None or care.lifecycle.revoked.version != version.version:
            return
        caller = engine_caller("CertificateRevocationFound", str(vault_id), "")
        path = object_path(Kind.CERTIFICATE, version.name, version.version)
        transaction.audit(record(caller, now, path, str(Standing.GOOD)))
        lifecycle = replace(care.lifecycle, revoked=None)
        transaction.lifecycles.rewrite(replace(care, lifecycle=lifecycle), now)

    def _is_replaced(self, transaction: SQLTransaction, vault_id: int, version: Version) -> bool:
        """Whether the policy has it renewed by itself, and a machine is the issuer."""
        policy = transaction.objects.policy(vault_id, version.name)
        if not self._replacing or policy is None or not version.attributes.enabled:
            return False
        if not any(action.action == AUTO_RENEW for action in policy.lifetime_actions):
            return False
        try:
            return not self._issuers.kind(vault_id, policy.issuer).manual
        except BrokerError:
            return False

    def _what_next(self, found: Judged, replaced_for: tuple[str, ...], *, replacing: bool) -> str:
        if replacing:
            return " A successor with a new key is being made."
        if found.answer.standing is Standing.ON_HOLD:
            return " It is not replaced for that: ask the CA, or renew it."
        if found.sha256 in replaced_for:
            return " Its successor has the same issuer: choose another issuer, and renew it."
        return " Nobody replaces it by itself: make, merge or import a new version."

    def _remember(
        self,
        transaction: SQLTransaction,
        vault_id: int,
        version: Version,
        facts: CertificateFacts,
        known: Revocation | None,
        found: Judged,
        now: datetime,
        *,
        renew: bool,
    ) -> None:
        """Put it with the revocations: it shows there, and a key that is compromised is never used again."""
        try:
            reason = Reason(found.answer.reason)
        except ValueError:
            reason = Reason.UNSPECIFIED
        compromised, at = reason is Reason.KEY_COMPROMISE, found.answer.at or now
        if known is None:
            public = x509.load_der_x509_certificate(facts.leaf).public_key()
            digest = key_digest(subject_public_key_info(public))
            transaction.revocations.put(
                Revocation(
                    facts.sha256,
                    vault_id,
                    version.name,
                    version.version,
                    facts.leaf,
                    digest,
                    "",
                    reason,
                    renew,
                    compromised,
                    requested=now,
                    act_at=None,
                    revoked=at,
                )
            )
        elif (compromised and not known.compromised) or known.revoked is None:
            # One that is still asked for stays so: the CA's answer to it is that it is revoked already, and is told.
            known = replace(known, compromised=known.compromised or compromised)
            if known.act_at is None:
                known = replace(known, reason=reason, revoked=known.revoked or at, problem=None)
            transaction.revocations.put(known)
