"""Certificates as they arrive: put in order, matched with their key, and checked before anything is stored."""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha1, sha256
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from certbroker.domain.csr import names_of
from certbroker.domain.errors import Invalid
from certbroker.domain.keys import KEY_USAGES, PublicKey, same_public_key, spec_of
from certbroker.domain.policy import (
    EMAIL_CONTACTS,
    MAX_VALIDITY_MONTHS,
    PKCS12,
    UNKNOWN,
    CertificatePolicy,
    LifetimeAction,
    SubjectAlternativeNames,
)
from certbroker.domain.records import CertificateFacts

MAX_CHAIN = 16

# Whoever polls for a certificate would get one that is over, and it would have taken the place of a good one.
_LEAST_LIFE = timedelta(minutes=1)
# Clocks differ by minutes; a certificate that begins later than this is for another time.
_CLOCKS_DIFFER = timedelta(days=1)


def parse(certificates: tuple[bytes, ...]) -> list[x509.Certificate]:
    """The certificates in DER, parsed. Invalid when one is not a certificate, or there are too many."""
    if not certificates:
        raise Invalid("There is no certificate in the request.")
    if len(certificates) > MAX_CHAIN:
        raise Invalid(f"A chain has at most {MAX_CHAIN} certificates; {len(certificates)} were given.")
    try:
        parsed = [x509.load_der_x509_certificate(der) for der in certificates]
        for certificate in parsed:
            # The library reads these when they are asked for. What is malformed in them has to show here.
            _ = certificate.subject, certificate.issuer, certificate.extensions
        return parsed
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise Invalid("One of the certificates is not an X.509 certificate in DER.") from None


def in_order(certificates: list[x509.Certificate], key: object) -> list[x509.Certificate]:
    """The end entity's certificate, the one for `key`; then its issuers; then whatever is not on that path.

    Raises Invalid when no certificate is for the key.
    """
    path = path_of(certificates, key)
    return path + [certificate for certificate in certificates if certificate not in path]


def path_of(certificates: list[x509.Certificate], key: object) -> list[x509.Certificate]:
    """The certificate for `key` and its issuers, each once, without whatever else there is. Raises Invalid likewise."""
    mine = [certificate for certificate in certificates if _is_for(certificate, key)]
    if not mine:
        raise Invalid("None of the certificates belongs to the private key: their public keys differ.")
    path = [max(mine, key=lambda certificate: certificate.not_valid_before_utc)]
    others = [certificate for certificate in certificates if certificate != path[0]]
    while issuer := next((other for other in others if issued(other, path[-1])), None):
        path.append(issuer)
        others = [other for other in others if other != issuer]
    return path


def check_issued(leaf: x509.Certificate, now: datetime) -> None:
    """Raise Invalid when a certificate that was just issued is over, or nearly, or is for a time to come."""
    start, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if end < now + _LEAST_LIFE or start > now + _CLOCKS_DIFFER:
        raise Invalid(
            f"The certificate is valid from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, and here it is "
            f"{now:%Y-%m-%d %H:%M}. Check the clocks here and at the issuer."
        )


def check_leaf(leaf: x509.Certificate, now: datetime) -> None:
    """Raise Invalid when the certificate has expired or its key is too weak to be kept."""
    spec_of(public_key(leaf))
    if leaf.not_valid_after_utc <= now:
        raise Invalid(
            f"The certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}; import one that is still valid."
        )


def missing_names(leaf: x509.Certificate, wanted: SubjectAlternativeNames) -> list[str]:
    """The DNS names and addresses that were wanted and are not in the certificate."""
    if not wanted.dns_names and not wanted.ip_addresses:
        return []
    try:
        have = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [*wanted.dns_names, *wanted.ip_addresses]
    dns = {name.lower() for name in have.get_values_for_type(x509.DNSName)} if wanted.dns_names else set()
    addresses = have.get_values_for_type(x509.IPAddress) if wanted.ip_addresses else []
    return [name for name in wanted.dns_names if name.lower() not in dns] + [
        address for address in wanted.ip_addresses if ip_address(address) not in addresses
    ]


def facts_of(
    ordered: list[x509.Certificate],
    *,
    exportable: bool,
    given: list[x509.Certificate] | None = None,
    issuer: str | None = None,
    made_by: str = "",
) -> CertificateFacts:
    """What is stored about a chain whose first certificate is the end entity's.

    `given` is an order to keep, `issuer` the issuer's name as RFC 4514 has it, where that is known. `made_by` is the
    issuer of the vault that has brought it, if one has.
    """
    leaf = ordered[0]
    chain = given or ordered
    encoded = tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)
    position = chain.index(leaf)
    return CertificateFacts(
        chain=encoded,
        # x5t (RFC 7517 section 4.8) is SHA-1; it protects nothing.
        sha1=sha1(encoded[position], usedforsecurity=False).hexdigest(),
        sha256=sha256(encoded[position]).hexdigest(),
        serial=f"{leaf.serial_number:x}",
        not_before=int(leaf.not_valid_before_utc.timestamp()),
        not_after=int(leaf.not_valid_after_utc.timestamp()),
        exportable=exportable,
        preserve_order=given is not None,
        position=position,
        issuer=leaf.issuer.rfc4514_string() if issuer is None else issuer,
        made_by=made_by,
    )


def policy_of(leaf: x509.Certificate) -> CertificatePolicy:
    """The policy that an imported certificate gets: read from the certificate, with a mail at 80 % of its life."""
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    try:
        ekus = tuple(oid.dotted_string for oid in leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        ekus = ()
    return CertificatePolicy(
        key=spec_of(public_key(leaf)),
        content_type=PKCS12,
        subject=leaf.subject.rfc4514_string(),
        sans=names_of(leaf),
        ekus=ekus,
        key_usage=_key_usage(leaf),
        validity_months=min(MAX_VALIDITY_MONTHS, max(1, round(lifetime / timedelta(days=30.44)))),
        lifetime_actions=(LifetimeAction(EMAIL_CONTACTS, lifetime_percentage=80),),
        issuer=UNKNOWN,
    )


def public_key(certificate: x509.Certificate) -> PublicKey:
    """The certificate's key; Invalid when it is of a kind that is not supported."""
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise Invalid("The certificate's key is of a kind that is not supported: use RSA or EC.")
    return key


def _is_for(certificate: x509.Certificate, key: object) -> bool:
    try:
        mine = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    return isinstance(mine, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) and same_public_key(mine, key)


def issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether the one has signed the other. A certificate that is its own issuer has none."""
    if issuer.subject != certificate.issuer or certificate.subject == certificate.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _key_usage(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return ()
    agreement = usage.key_agreement
    flags = (
        usage.digital_signature,
        usage.content_commitment,
        usage.key_encipherment,
        usage.data_encipherment,
        agreement,
        usage.key_cert_sign,
        usage.crl_sign,
        agreement and usage.encipher_only,
        agreement and usage.decipher_only,
    )
    return tuple(name for name, flag in zip(KEY_USAGES, flags, strict=True) if flag)
