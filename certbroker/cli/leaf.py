"""What a certificate says about itself, read from its DER."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa


@dataclass(frozen=True, slots=True)
class Leaf:
    """The facts that people look for. Times in Unix seconds, digests in hexadecimal digits."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    serial: str
    not_before: int
    not_after: int
    sha1: str
    sha256: str
    key: str


def read_leaf(der: bytes) -> Leaf:
    """The facts of a certificate. Raises ValueError."""
    certificate = x509.load_der_x509_certificate(der)
    return Leaf(
        subject=certificate.subject.rfc4514_string(),
        issuer=_short(certificate.issuer),
        names=tuple(_names(certificate)),
        serial=f"{certificate.serial_number:X}",
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
        sha1=hashlib.sha1(der, usedforsecurity=False).hexdigest().upper(),
        sha256=hashlib.sha256(der).hexdigest().upper(),
        key=_key(certificate),
    )


def _short(name: x509.Name) -> str:
    """The common name, or the whole where there is none."""
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def _names(certificate: x509.Certificate) -> Iterable[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return ()
    return (str(name.value) for name in names if not isinstance(name, x509.OtherName))


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return f"EC {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
