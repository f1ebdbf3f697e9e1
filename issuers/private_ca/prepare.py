"""What is to be signed: a certificate put together, but for the signature.

Nothing here signs. What `prepare` returns goes to `lint`, and what comes back from there to `sign`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from msgspec import Struct

from certbroker.domain.authority import AuthoritySettings, shard_of
from certbroker.domain.csr import encoded_extension, subject_alternative_names
from certbroker.domain.errors import Invalid
from certbroker.domain.keys import SigningKey, VerifyingKey, key_identifier, subject_public_key_info
from certbroker.domain.policy import SubjectAlternativeNames
from certbroker.domain.signing import scheme_of
from certbroker.domain.tbs_certificate import subject_key_identifier, tbs_certificate
from certbroker.ports.authority import Signer
from certbroker.randomness import random_bytes
from issuers.private_ca.constraints import name_constraints
from issuers.private_ca.profiles import Profile
from issuers.private_ca.urls import publication_urls

# Clocks of the machines that will check the certificate may be slow.
BACKDATE: Final = timedelta(minutes=10)

_CA_USAGE: Final = x509.KeyUsage(
    # Who answers OCSP by the CA's own key signs something that is neither a certificate nor a CRL.
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
_NO_CA: Final = x509.BasicConstraints(ca=False, path_length=None)


class Prepared(Struct, frozen=True):
    """A certificate without its signature. `key` is what will sign it: the signer's, or a new root's own.

    `tbs` is the TBSCertificate, and `public` the SubjectPublicKeyInfo in it, in DER. `signer` is None for a root, and
    `profile` for a CA.
    """

    tbs: bytes
    public: bytes
    key: SigningKey
    signer: Signer | None
    profile: Profile | None
    serial: int
    shard: int
    not_after: datetime


class CASubject(Struct, frozen=True):
    """The CA that a certificate is for. `identifier` is its subject key identifier, where it has one already."""

    name: x509.Name
    key: VerifyingKey
    settings: AuthoritySettings
    identifier: x509.SubjectKeyIdentifier | None = None


def prepare_leaf(
    signer: Signer,
    profile: Profile,
    subject: x509.Name,
    sans: SubjectAlternativeNames,
    key: VerifyingKey,
    now: datetime,
    life: timedelta,
) -> Prepared:
    """A certificate for an end entity, valid for the shortest of `life`, the profile's and the CA's. Raises Invalid."""
    has_subject = bool(subject.rdns)
    profile.check_names(sans, has_subject=has_subject)
    most = timedelta(days=profile.max_days)
    start, end = _validity(signer, now, min(life, most), most)
    serial = new_serial()
    shard = shard_of(serial, signer.authority.settings.shards)
    public = subject_public_key_info(key)
    try:
        names = subject_alternative_names(sans, has_subject=has_subject)
    except ValueError as error:
        raise Invalid(f"The certificate cannot have these names: {error}") from None
    extensions = (
        *_of_profile(profile, profile.key_usage(key)),
        *names,
        subject_key_identifier(key_identifier(public)),
        *_of_issuer(signer, shard),
    )
    algorithm = scheme_of(signer.key).algorithm
    tbs = tbs_certificate(serial, algorithm, _name_of(signer), (start, end), subject.public_bytes(), public, extensions)
    return Prepared(tbs, public, signer.key, signer, profile, serial, shard, end)


def prepare_ca(signer: Signer, wanted: CASubject, now: datetime, life: timedelta) -> Prepared:
    """A certificate by which one CA vouches for another: an intermediate, or a cross certificate. Raises Invalid."""
    start, end = _validity(signer, now, life, None)
    serial = new_serial()
    shard = shard_of(serial, signer.authority.settings.shards)
    public, algorithm = subject_public_key_info(wanted.key), scheme_of(signer.key).algorithm
    extensions = (*_of_ca(wanted, public), *_of_issuer(signer, shard))
    subject = wanted.name.public_bytes()
    tbs = tbs_certificate(serial, algorithm, _name_of(signer), (start, end), subject, public, extensions)
    return Prepared(tbs, public, signer.key, signer, None, serial, shard, end)


def prepare_root(wanted: CASubject, key: SigningKey, now: datetime, life: timedelta) -> Prepared:
    """A certificate that a CA makes for itself."""
    start = now.replace(microsecond=0) - BACKDATE
    end = start + life
    name, public, serial = wanted.name.public_bytes(), subject_public_key_info(wanted.key), new_serial()
    algorithm = scheme_of(key).algorithm
    tbs = tbs_certificate(serial, algorithm, name, (start, end), name, public, _of_ca(wanted, public))
    return Prepared(tbs, public, key, None, None, serial, 0, end)


def new_serial() -> int:
    """128 random bits, positive and of a fixed length (RFC 5280 section 4.1.2.2): a leading 1 is put before them."""
    return int.from_bytes(b"\x01" + random_bytes(16), "big")


@lru_cache(maxsize=64)
def _name_of(signer: Signer) -> bytes:
    return signer.certificate.subject.public_bytes()


@lru_cache(maxsize=256)
def _of_profile(profile: Profile, usage: x509.KeyUsage) -> tuple[bytes, ...]:
    """What an end entity may be used for, in DER."""
    found = [encoded_extension(_NO_CA, critical=True), encoded_extension(usage, critical=True)]
    if profile.ekus:
        # RFC 3161 section 2.3 wants it critical for time stamping alone.
        critical = ExtendedKeyUsageOID.TIME_STAMPING in profile.ekus
        found.append(encoded_extension(x509.ExtendedKeyUsage(profile.ekus), critical=critical))
    return tuple(found)


def _of_ca(wanted: CASubject, public: bytes) -> list[bytes]:
    """What makes a CA of it, in DER."""
    settings = wanted.settings
    basic = x509.BasicConstraints(ca=True, path_length=settings.path_length)
    found = [encoded_extension(basic, critical=True), encoded_extension(_CA_USAGE, critical=True)]
    constraints = name_constraints(settings.permitted, settings.excluded)
    if constraints is not None:
        found.append(encoded_extension(constraints, critical=True))
    digest = key_identifier(public) if wanted.identifier is None else wanted.identifier.digest
    return [*found, subject_key_identifier(digest)]


def _validity(signer: Signer, now: datetime, life: timedelta, most: timedelta | None) -> tuple[datetime, datetime]:
    """From when until when. Nothing outlives its issuer, and backdating does not lengthen what a profile allows."""
    certificate = signer.certificate
    start, end = holds_from(signer, now), holds_until(signer, now + life)
    if most is not None:
        end = min(end, start + most)
    if end <= now:
        raise Invalid(
            f"The CA {signer.authority.name} expired on {certificate.not_valid_after_utc:%Y-%m-%d}: renew it with "
            f"`certbroker ca renew {signer.authority.name}`."
        )
    return start, end


def holds_from(signer: Signer, now: datetime) -> datetime:
    """From when on something holds that the CA says now: clocks of those who check may be slow."""
    return max(now.replace(microsecond=0) - BACKDATE, signer.certificate.not_valid_before_utc)


def holds_until(signer: Signer, end: datetime) -> datetime:
    """Until then, or for as long as the CA's own certificate is valid."""
    return min(end.replace(microsecond=0), signer.certificate.not_valid_after_utc)


# The same for every certificate of a CA, but for the shard.
@lru_cache(maxsize=512)
def _of_issuer(signer: Signer, shard: int) -> tuple[bytes, ...]:
    """What a certificate says about its issuer, in DER: whose key signed it, and where to ask about it."""
    found: list[x509.ExtensionType] = [
        x509.AuthorityKeyIdentifier(identifier_of(signer.certificate).digest, None, None)
    ]
    if signer.url is not None:
        authority = signer.authority
        urls = publication_urls(signer.url, authority.id, shard if authority.settings.shards > 1 else None)
        found.append(
            x509.AuthorityInformationAccess(
                [
                    _access(AuthorityInformationAccessOID.OCSP, urls.ocsp),
                    _access(AuthorityInformationAccessOID.CA_ISSUERS, urls.certificate),
                ]
            )
        )
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(urls.crl)], None, None, None)
        found.append(x509.CRLDistributionPoints([point]))
    return tuple(map(encoded_extension, found))


def _access(method: x509.ObjectIdentifier, url: str) -> x509.AccessDescription:
    return x509.AccessDescription(method, x509.UniformResourceIdentifier(url))


def identifier_of(certificate: x509.Certificate) -> x509.SubjectKeyIdentifier:
    """The key identifier of a CA: the one that it has, or that it would have."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier(key_identifier(subject_public_key_info(certificate.public_key())))


def verifying_key(key: object) -> VerifyingKey:
    """The key, which must be of a kind that signs here. Raises Invalid."""
    if not isinstance(key, VerifyingKey):
        raise Invalid("The key is of a kind that is not supported: use RSA, EC, Ed25519 or ML-DSA.")
    return key
