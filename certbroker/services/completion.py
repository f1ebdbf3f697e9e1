"""A finished certificate becomes a key, a secret and a certificate of one name and one version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certbroker.domain.chain import facts_of
from certbroker.domain.keys import PrivateKey, operations_for
from certbroker.domain.objects import Attributes, Kind
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import CertificateFacts, KeyFacts, Operation, Version
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.store.transaction import SQLTransaction


@dataclass(frozen=True, slots=True)
class Completion:
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
        policy = operation.policy
        facts = facts_of(ordered, exportable=policy.exportable, given=given if operation.preserve_order else None)
        return cls(
            operation.vault_id, operation.name, operation.version, policy, facts, operation.enabled, operation.tags
        )

    def store(
        self, transaction: SQLTransaction, seal: Seal, keystore: KeyStore, key: PrivateKey, now: datetime
    ) -> Version:
        """Store the three objects in this transaction and return the certificate.

        The secret holds no value of its own: it is made from the other two when it is read, so that the private key is at
        rest once.
        """
        seconds = int(now.timestamp())
        attributes = Attributes(seconds, seconds, self.enabled, self.facts.not_before, self.facts.not_after)
        head = transaction.objects.head(self.vault_id, Kind.CERTIFICATE, self.name)
        previous = head.current if head and head.current else None
        spec = self.policy.key
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        backing = Version(
            Kind.KEY,
            self.name,
            self.version,
            attributes,
            self.tags,
            managed=True,
            key=KeyFacts(
                spec.kty, spec.size, spec.curve, operations_for(self.policy.key_usage), self.policy.exportable, public
            ),
        )
        sealed = seal.close(backing.identity(self.vault_id), keystore.encode(key))
        secret = Version(
            Kind.SECRET,
            self.name,
            self.version,
            attributes,
            self.tags,
            self.policy.content_type,
            managed=True,
            previous=previous,
        )
        certificate = Version(
            Kind.CERTIFICATE,
            self.name,
            self.version,
            attributes,
            self.tags,
            self.policy.content_type,
            certificate=self.facts,
        )
        transaction.objects.add(self.vault_id, backing, sealed)
        transaction.objects.add(self.vault_id, secret)
        transaction.objects.add(self.vault_id, certificate)
        return certificate
