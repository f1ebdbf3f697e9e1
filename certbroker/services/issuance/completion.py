"""A finished certificate becomes a key, a secret and a certificate of one name and one version."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from msgspec import Struct
from msgspec.structs import replace

from certbroker.domain.chain import facts_of
from certbroker.domain.errors import Invalid
from certbroker.domain.keys import PrivateKey, operations_for, subject_public_key_info
from certbroker.domain.objects import Attributes, Kind
from certbroker.domain.policy import CertificatePolicy, written_subject
from certbroker.domain.records import CertificateFacts, Identity, KeyFacts, Operation, Version
from certbroker.domain.revocation import KEY_COMPROMISED, key_digest
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.notification.outbox import publish_versions
from certbroker.services.objects import succession
from certbroker.store.transaction import SQLTransaction

# Between the making of a certificate and the first look at how it is to be renewed: nothing is due that early, and
# those who wait for other certificates go first.
FIRST_LOOK: Final = timedelta(seconds=5)


class Completion(Struct, frozen=True):
    """Everything but the key that a new version is made of."""

    vault_id: int
    name: str
    version: str
    policy: CertificatePolicy
    facts: CertificateFacts
    enabled: bool
    tags: dict[str, str]

    @classmethod
    def of(cls, operation: Operation, ordered: list[x509.Certificate], given: list[x509.Certificate]) -> Completion:
        """The completion of an operation by a chain, in our order and as it was given."""
        exportable, keep = operation.policy.exportable, given if operation.preserve_order else None
        return cls._by(operation, facts_of(ordered, exportable=exportable, given=keep, made_by=operation.issuer))

    @classmethod
    def self_signed(cls, operation: Operation, encoded: bytes) -> Completion:
        """The completion of an operation by a certificate in DER that its own key has just signed here."""
        policy, chain = operation.policy, [x509.load_der_x509_certificate(encoded)]
        given, issuer = chain if operation.preserve_order else None, written_subject(policy.subject)
        facts = facts_of(chain, exportable=policy.exportable, given=given, issuer=issuer, made_by=operation.issuer)
        return cls._by(operation, facts)

    @classmethod
    def _by(cls, operation: Operation, facts: CertificateFacts) -> Completion:
        return cls(
            operation.vault_id,
            operation.name,
            operation.version,
            operation.policy,
            facts,
            operation.enabled,
            operation.tags,
        )

    def versions(
        self, seal: Seal, keystore: KeyStore, key: PrivateKey, now: datetime
    ) -> tuple[Version, Version, Version]:
        """The certificate, its key and its secret.

        The secret holds no value of its own: it is made from the other two when it is read, so that the private key
        is at rest once.
        """
        seconds = int(now.timestamp())
        attributes = Attributes(seconds, seconds, self.enabled, self.facts.not_before, self.facts.not_after)
        spec, content_type = self.policy.key, self.policy.content_type
        public = subject_public_key_info(key.public_key())
        operations = operations_for(self.policy.key_usage)
        certificate = Version(
            Kind.CERTIFICATE, self.name, self.version, attributes, self.tags, content_type, certificate=self.facts
        )
        identity = Identity(self.vault_id, Kind.KEY, self.name, self.version)
        backing = Version(
            Kind.KEY,
            self.name,
            self.version,
            attributes,
            self.tags,
            managed=True,
            key=KeyFacts(spec.kty, spec.size, spec.curve, operations, self.policy.exportable, public),
            sealed=seal.close(identity, keystore.encode(key)),
        )
        secret = Version(Kind.SECRET, self.name, self.version, attributes, self.tags, content_type, managed=True)
        return certificate, backing, secret


def store(
    transaction: SQLTransaction,
    vault_id: int,
    versions: tuple[Version, Version, Version],
    now: datetime,
    *,
    rest: timedelta = timedelta(0),
) -> Version:
    """Store a certificate with its key and secret, tell who wants to know, and return it.

    It becomes the current version after `rest`: at once, or while the version before it is still valid for as long
    again. Raises Invalid when the key was reported as compromised.
    """
    certificate, backing, secret = versions
    name, facts = certificate.name, certificate.certificate
    issuer = (facts.made_by or None) if facts else None
    if backing.key is not None and transaction.revocations.is_compromised(key_digest(backing.key.public)):
        raise Invalid(KEY_COMPROMISED)
    head = transaction.objects.head(vault_id, Kind.CERTIFICATE, name)
    previous = head.current if head and head.current else None
    stored = (certificate, backing, replace(secret, previous=previous))
    remaining = _remaining(transaction, vault_id, name, now) if rest else timedelta(0)
    if remaining > timedelta(0):
        activate_at = now + min(rest, remaining / 2)
        transaction.objects.stage(vault_id, *stored)
        transaction.lifecycles.stage(vault_id, name, issuer, certificate.version, activate_at, now + FIRST_LOOK)
    else:
        transaction.objects.add(vault_id, *stored)
        transaction.lifecycles.made(vault_id, name, issuer, now + FIRST_LOOK)
        succession.follow(transaction, vault_id, name, now)
    publish_versions(transaction, vault_id, *versions)
    return certificate


def _remaining(transaction: SQLTransaction, vault_id: int, name: str, now: datetime) -> timedelta:
    """For how long the current version is valid."""
    current = transaction.objects.get(vault_id, Kind.CERTIFICATE, name)
    if current is None or current.certificate is None:
        return timedelta(0)
    return datetime.fromtimestamp(current.certificate.not_after, now.tzinfo) - now
