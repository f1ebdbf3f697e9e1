"""Certificates made on the spot: authorities, chains, and the files that people import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
AnyKey = Key | ed25519.Ed25519PrivateKey


@cache
def weak_rsa_key() -> rsa.RSAPrivateKey:
    """An RSA key that nobody should accept."""
    return rsa.generate_private_key(65537, 1024)


@dataclass(frozen=True)
class Identity:
    """A key with the certificate for it and the certificates of its issuers, nearest first."""

    key: AnyKey
    certificate: x509.Certificate
    issuers: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return (self.certificate, *self.issuers)

    def pfx(self, password: str | None = None, *, chain: bool = True) -> bytes:
        """A PKCS#12 file."""
        encryption: KeySerializationEncryption = NoEncryption()
        if password is not None:
            encryption = (
                PrivateFormat.PKCS12.encryption_builder()
                .kdf_rounds(1000)
                .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
                .build(password.encode())
            )
        others = list(self.issuers) if chain else None
        return pkcs12.serialize_key_and_certificates(b"imported", self.key, self.certificate, others, encryption)

    def pem(self, password: str | None = None) -> str:
        """The key and then the chain."""
        return self.key_pem(password) + "".join(map(pem, self.chain))

    def key_pem(self, password: str | None = None) -> str:
        encryption = NoEncryption() if password is None else BestAvailableEncryption(password.encode())
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


class Authority:
    """A certification authority, below another one if that is given."""

    def __init__(
        self,
        name: str = "Test CA",
        above: Authority | None = None,
        more: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._above = above
        self.certificate: x509.Certificate = _sign(
            _name(name),
            self.key.public_key(),
            above.certificate.subject if above else _name(name),
            above.key if above else self.key,
            timedelta(days=3650),
            [(x509.BasicConstraints(ca=True, path_length=None), True), *more],
        )

    @property
    def path(self) -> tuple[x509.Certificate, ...]:
        """This authority's certificate and those above it, the root last."""
        return (self.certificate, *(self._above.path if self._above else ()))

    def issue(
        self,
        name: str = "www.example.com",
        *,
        key: AnyKey | None = None,
        life: timedelta = timedelta(days=90),
        extensions: list[tuple[x509.ExtensionType, bool]] | None = None,
    ) -> Identity:
        """A certificate for a host, by default with a fresh P-256 key."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        if extensions is None:
            extensions = [(x509.SubjectAlternativeName([x509.DNSName(name)]), False)]
        signed = _sign(_name(name), key.public_key(), self.certificate.subject, self.key, life, extensions)
        return Identity(key, signed, self.path)

    def answer(
        self,
        csr: bytes,
        life: timedelta = timedelta(days=90),
        now: datetime | None = None,
        more: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> x509.Certificate:
        """The certificate for a PKCS#10 request in DER, with `more` extensions than were asked for."""
        request = x509.load_der_x509_csr(csr)
        public = request.public_key()
        assert isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
        extensions = [*((extension.value, extension.critical) for extension in request.extensions), *more]
        return _sign(request.subject, public, self.certificate.subject, self.key, life, extensions, now)


def self_signed(key: AnyKey, name: str = "www.example.com", life: timedelta = timedelta(days=90)) -> Identity:
    """A certificate signed by its own key."""
    return Identity(key, _sign(_name(name), key.public_key(), _name(name), key, life, []))


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _sign(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey,
    issuer: x509.Name,
    issuer_key: AnyKey,
    life: timedelta,
    extensions: list[tuple[x509.ExtensionType, bool]],
    now: datetime | None = None,
) -> x509.Certificate:
    """`life` may be negative: then the certificate has expired that long ago."""
    now = (now or datetime.now(UTC)).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + min(life, timedelta()) - timedelta(hours=1))
        .not_valid_after(now + life)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    algorithm = None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(issuer_key, algorithm)


def costly_pfx(iterations: int) -> bytes:
    """A PKCS#12 file (RFC 7292 section 4) that wants its password stretched so often before it can be refused."""
    data, sha256 = bytes.fromhex("2a864886f70d010701"), bytes.fromhex("608648016503040201")
    safe = _tlv(0x30, _tlv(0x06, data), _tlv(0xA0, _tlv(0x04, _tlv(0x30))))
    digest = _tlv(0x30, _tlv(0x30, _tlv(0x06, sha256), _tlv(0x05)), _tlv(0x04, bytes(32)))
    count = _tlv(0x02, iterations.to_bytes(iterations.bit_length() // 8 + 1))
    return _tlv(0x30, _tlv(0x02, b"\3"), safe, _tlv(0x30, digest, _tlv(0x04, bytes(16)), count))


def _tlv(tag: int, *parts: bytes) -> bytes:
    """One DER element of less than 256 bytes."""
    body = b"".join(parts)
    return bytes((tag, len(body)) if len(body) < 128 else (tag, 0x81, len(body))) + body
