"""What happens to objects, as others are told of it.

The types are those of Azure Event Grid for Key Vault, and our own for what Key Vault has no word for.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from msgspec import Struct, field

from certbroker.domain.objects import Kind
from certbroker.domain.records import Version


class EventType(StrEnum):
    """What happened."""

    CERTIFICATE_NEW_VERSION = "Microsoft.KeyVault.CertificateNewVersionCreated"
    CERTIFICATE_NEAR_EXPIRY = "Microsoft.KeyVault.CertificateNearExpiry"
    CERTIFICATE_EXPIRED = "Microsoft.KeyVault.CertificateExpired"
    KEY_NEW_VERSION = "Microsoft.KeyVault.KeyNewVersionCreated"
    KEY_NEAR_EXPIRY = "Microsoft.KeyVault.KeyNearExpiry"
    KEY_EXPIRED = "Microsoft.KeyVault.KeyExpired"
    SECRET_NEW_VERSION = "Microsoft.KeyVault.SecretNewVersionCreated"  # noqa: S105  # An event.
    SECRET_NEAR_EXPIRY = "Microsoft.KeyVault.SecretNearExpiry"  # noqa: S105  # An event.
    SECRET_EXPIRED = "Microsoft.KeyVault.SecretExpired"  # noqa: S105  # An event.
    CERTIFICATE_RENEWAL_STARTED = "Certbroker.CertificateRenewalStarted"
    CERTIFICATE_RENEWAL_FAILED = "Certbroker.CertificateRenewalFailed"
    CERTIFICATE_RENEWAL_SUGGESTED = "Certbroker.CertificateRenewalSuggested"
    CERTIFICATE_RENEWAL_STOPPED = "Certbroker.CertificateRenewalStopped"
    CERTIFICATE_ACTIVATED = "Certbroker.CertificateActivated"
    CERTIFICATE_NEEDS_PERSON = "Certbroker.CertificateNeedsPerson"
    CERTIFICATE_REVOKED = "Certbroker.CertificateRevoked"
    CERTIFICATE_REVOCATION_FOUND = "Certbroker.CertificateRevocationFound"
    CERTIFICATE_REVOCATION_FAILED = "Certbroker.CertificateRevocationFailed"
    REVOCATION_UNKNOWN = "Certbroker.RevocationUnknown"
    CERTIFICATE_NOT_DEPLOYED = "Certbroker.CertificateNotDeployed"
    CERTIFICATE_DEPLOYED = "Certbroker.CertificateDeployed"
    UNKNOWN_CERTIFICATE = "Certbroker.UnknownCertificateFound"
    ISSUER_WARNING = "Certbroker.IssuerWarning"
    VAULT_DIGEST = "Certbroker.VaultDigest"
    CHANNEL_TEST = "Certbroker.ChannelTest"


# What somebody should look at. These are about the version that is in use: once another is, they are not told any more.
WARNINGS: Final = frozenset(
    {
        EventType.CERTIFICATE_NEAR_EXPIRY,
        EventType.CERTIFICATE_EXPIRED,
        EventType.SECRET_NEAR_EXPIRY,
        EventType.SECRET_EXPIRED,
        EventType.CERTIFICATE_RENEWAL_FAILED,
        EventType.CERTIFICATE_RENEWAL_STOPPED,
        EventType.CERTIFICATE_NEEDS_PERSON,
        EventType.CERTIFICATE_NOT_DEPLOYED,
    }
)

# What people are told unless they ask for more. A certificate's key and secret expire with it, and tell nothing new.
FOR_PEOPLE: Final = frozenset(
    {
        EventType.CERTIFICATE_NEAR_EXPIRY,
        EventType.CERTIFICATE_EXPIRED,
        EventType.CERTIFICATE_RENEWAL_FAILED,
        EventType.CERTIFICATE_RENEWAL_STOPPED,
        EventType.CERTIFICATE_NEEDS_PERSON,
        EventType.CERTIFICATE_REVOKED,
        EventType.CERTIFICATE_REVOCATION_FOUND,
        EventType.CERTIFICATE_REVOCATION_FAILED,
        EventType.REVOCATION_UNKNOWN,
        EventType.CERTIFICATE_NOT_DEPLOYED,
        EventType.CERTIFICATE_DEPLOYED,
        EventType.UNKNOWN_CERTIFICATE,
        EventType.ISSUER_WARNING,
        EventType.VAULT_DIGEST,
    }
)


class Event(Struct, frozen=True):
    """One happening. `id` is made from what happened, so that the same happening has the same id: it is told once.

    `step` tells apart the mails about one certificate version, such as `80%` and `expired`. `message` is for people,
    one or two sentences; `details` are for machines. Neither holds a secret. Times of validity in Unix seconds.
    """

    id: str
    type: EventType
    vault_id: int
    kind: Kind
    name: str
    version: str
    at: datetime
    not_before: int | None = None
    not_after: int | None = None
    step: str = ""
    message: str = ""
    details: dict[str, str] = field(default_factory=dict)


_NEW_VERSION: Final = {
    Kind.CERTIFICATE: EventType.CERTIFICATE_NEW_VERSION,
    Kind.KEY: EventType.KEY_NEW_VERSION,
    Kind.SECRET: EventType.SECRET_NEW_VERSION,
}


def event_id(type: EventType, vault_id: int, kind: Kind, name: str, version: str, step: str = "") -> str:  # noqa: A002
    """The id of what happened to a version: the same for the same, in 32 hexadecimal digits."""
    said = "\0".join((type, str(vault_id), kind, name.lower(), version, step))
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def version_created(vault_id: int, version: Version) -> Event:
    """That a version has been made."""
    at = datetime.fromtimestamp(version.attributes.created, UTC)
    return version_event(_NEW_VERSION[version.kind], vault_id, version, at)


def version_event(type: EventType, vault_id: int, version: Version, at: datetime) -> Event:  # noqa: A002
    """What has happened to a version, once at most."""
    return Event(
        id=event_id(type, vault_id, version.kind, version.name, version.version),
        type=type,
        vault_id=vault_id,
        kind=version.kind,
        name=version.name,
        version=version.version,
        at=at,
        not_before=version.attributes.not_before,
        not_after=version.attributes.expires,
    )
