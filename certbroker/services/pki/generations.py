"""Making a generation of a CA: its certificate, checked and signed, and all that is stored with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from certbroker.domain.authority import Authority, AuthoritySettings, AuthorityState, Issued, serial_text
from certbroker.domain.chain import facts_of
from certbroker.domain.keys import KeySpec, PrivateKey, SigningKey, subject_public_key_info
from certbroker.domain.objects import Attributes, Kind
from certbroker.domain.policy import EMAIL_CONTACTS, MAX_VALIDITY_MONTHS, UNKNOWN, CertificatePolicy, LifetimeAction
from certbroker.domain.records import Version
from certbroker.domain.revocation import key_digest
from certbroker.ports.authority import Signer
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.issuance.completion import FIRST_LOOK, Completion, store
from certbroker.services.notification.outbox import publish_versions
from certbroker.services.objects.naming import new_version
from certbroker.services.pki.signers import key_identity
from certbroker.store.transaction import SQLTransaction
from issuers.private_ca.checks import room_below
from issuers.private_ca.lint import lint
from issuers.private_ca.prepare import CASubject, Prepared, prepare_ca, prepare_root
from issuers.private_ca.signing import sign

# The profile under which a CA's certificate stands in the ledger of its issuer.
CA_PROFILE: Final = "ca"

# A CA lives for as long as all that it issues: whoever looks after it is told early.
_WARNED_AT: Final = 75


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation that is made and not stored yet, with its entry in the ledger of its issuer."""

    authority: Authority
    path: tuple[x509.Certificate, ...]
    entry: Issued | None
    key: SigningKey
    spec: KeySpec


@dataclass(frozen=True, slots=True)
class Place:
    """Where a generation belongs."""

    vault_id: int
    name: str
    state: AuthorityState = AuthorityState.ACTIVE


def make(
    place: Place,
    subject: CASubject,
    key: SigningKey,
    spec: KeySpec,
    signer: Signer | None,
    now: datetime,
    life: timedelta,
) -> Generation:
    """A generation of a CA for that key: a root, or a CA below `signer`. Raises Invalid, saying what is wrong."""
    if signer is None:
        prepared = prepare_root(subject, key, now, life)
    else:
        subject = replace(subject, settings=_below(signer, subject.settings))
        prepared = prepare_ca(signer, subject, now, life)
    certificate = x509.load_der_x509_certificate(sign(lint(prepared)))
    certificate.verify_directly_issued_by(certificate if signer is None else signer.certificate)
    parent = None if signer is None else signer.authority.id
    authority = describe(place, certificate, subject.settings, parent, now)
    entry = None if signer is None else _entry(signer, prepared, authority)
    return Generation(authority, (certificate, *(signer.path if signer else ())), entry, key, spec)


def describe(
    place: Place, certificate: x509.Certificate, settings: AuthoritySettings, parent: str | None, now: datetime
) -> Authority:
    """What is stored about a CA's certificate. Its first CRL is due at once, unless it is a cross certificate."""
    public = subject_public_key_info(certificate.public_key())
    publishes = place.state is not AuthorityState.CROSS
    return Authority(
        id=new_version(),
        vault_id=place.vault_id,
        name=place.name,
        version=new_version(),
        certificate=certificate.public_bytes(Encoding.DER),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        subject=certificate.subject.rfc4514_string(),
        key_sha256=key_digest(public),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
        parent=parent,
        state=place.state,
        settings=settings,
        created=int(now.timestamp()),
        crl_act_at=now if publishes else None,
    )


def keep(transaction: SQLTransaction, made: Generation, seal: Seal, keystore: KeyStore, now: datetime) -> Authority:
    """Store a generation: the certificate with its key in the vault, and the CA. Raises Invalid.

    A key of a kind that Key Vault does not know is no object of the vault: its clients would fail on it. It is sealed
    with the CA instead.
    """
    authority, key = made.authority, made.key
    policy = policy_of_ca(made.path[0], made.spec, now)
    facts = facts_of(list(made.path), exportable=False)
    transaction.objects.put_policy(authority.vault_id, authority.name, policy)
    if isinstance(key, PrivateKey):
        completion = Completion(authority.vault_id, authority.name, authority.version, policy, facts, True, {})
        store(transaction, authority.vault_id, completion.versions(seal, keystore, key, now), now)
    else:
        seconds = int(now.timestamp())
        attributes = Attributes(seconds, seconds, True, facts.not_before, facts.not_after)
        version = Version(
            Kind.CERTIFICATE,
            authority.name,
            authority.version,
            attributes,
            content_type=policy.content_type,
            certificate=facts,
        )
        transaction.objects.add(authority.vault_id, version)
        transaction.lifecycles.made(authority.vault_id, authority.name, None, now + FIRST_LOOK)
        publish_versions(transaction, authority.vault_id, version)
        authority = replace(authority, sealed_key=seal.close(key_identity(authority), keystore.encode(key)))
    transaction.authorities.add(authority)
    if made.entry is not None:
        transaction.authorities.record(made.entry)
    return authority


def policy_of_ca(certificate: x509.Certificate, spec: KeySpec, now: datetime) -> CertificatePolicy:
    """How a CA's certificate is looked after: a person renews it, and is told in time."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    seconds = int(now.timestamp())
    return CertificatePolicy(
        key=spec,
        exportable=False,
        subject=certificate.subject.rfc4514_string(),
        ekus=(),
        key_usage=("digitalSignature", "keyCertSign", "cRLSign"),
        validity_months=min(MAX_VALIDITY_MONTHS, max(1, round(life / timedelta(days=30.44)))),
        lifetime_actions=(LifetimeAction(EMAIL_CONTACTS, lifetime_percentage=_WARNED_AT),),
        issuer=UNKNOWN,
        created=seconds,
        updated=seconds,
    )


def _below(signer: Signer, settings: AuthoritySettings) -> AuthoritySettings:
    """The settings of a CA below another one: as many CAs may follow as that one allows, if nobody says otherwise."""
    room = room_below(signer)
    if settings.path_length is not None or room is None:
        return settings
    return replace(settings, path_length=max(0, room - 1))


def _entry(signer: Signer, prepared: Prepared, authority: Authority) -> Issued:
    return Issued(
        signer.authority.id,
        serial_text(prepared.serial),
        authority.sha256,
        authority.vault_id,
        authority.name,
        authority.version,
        CA_PROFILE,
        authority.not_after,
        prepared.shard,
    )
