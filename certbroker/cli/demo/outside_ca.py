"""A CA outside the broker, as a company may have one: a root, an intermediate, and files that it hands over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

_SLACK: Final = timedelta(minutes=5)


class OutsideCA:
    """Signs requests with an intermediate that a root has signed."""

    def __init__(self, company: str = "Example Corp") -> None:
        self._root_key = ec.generate_private_key(ec.SECP384R1())
        self._key = ec.generate_private_key(ec.SECP256R1())
        root_name, name = _name(f"{company} Root CA"), _name(f"{company} Issuing CA")
        self._root = _ca(root_name, self._root_key.public_key(), root_name, self._root_key, None)
        self._intermediate = _ca(name, self._key.public_key(), root_name, self._root_key, 0)

    def sign(self, csr: bytes) -> list[bytes]:
        """The certificate for a request in DER, and its chain up to the root."""
        request = x509.load_der_x509_csr(csr)
        if not request.is_signature_valid:
            raise ValueError("the request is not signed by its own key")
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        leaf = self._leaf(request.subject, names, request.public_key())
        return [_der(each) for each in (leaf, self._intermediate, self._root)]

    def pfx(self, host: str, password: str) -> bytes:
        """A certificate with a key that was made outside, as a PFX."""
        key, leaf = self._with_key(host)
        encryption = serialization.BestAvailableEncryption(password.encode())
        return pkcs12.serialize_key_and_certificates(host.encode(), key, leaf, [self._intermediate], encryption)

    def pem(self, host: str) -> bytes:
        """The same as PEM: key, certificate, chain."""
        key, leaf = self._with_key(host)
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return text + b"".join(each.public_bytes(serialization.Encoding.PEM) for each in (leaf, self._intermediate))

    def _with_key(self, host: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        return key, self._leaf(_name(host), names, key.public_key())

    def _leaf(
        self, subject: x509.Name, names: x509.SubjectAlternativeName, key: CertificatePublicKeyTypes
    ) -> x509.Certificate:
        return (
            _builder(subject, key, self._intermediate.subject, timedelta(days=398))
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _ca(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    path_length: int | None,
) -> x509.Certificate:
    return (
        _builder(subject, key, issuer, timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .sign(signer, hashes.SHA384())
    )


def _builder(
    subject: x509.Name, key: CertificatePublicKeyTypes, issuer: x509.Name, validity: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + validity)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
