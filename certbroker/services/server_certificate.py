"""The broker's own TLS certificate, from a certification authority of its own.

For a broker that has no certificate from elsewhere: the authority is made at the first start, its key is sealed in the
database, and the certificate is issued anew at two thirds of its life, or when the names change.
"""

from __future__ import annotations

import ipaddress
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certbroker.domain.records import Identity
from certbroker.ports.clock import Clock
from certbroker.ports.seal import Seal
from certbroker.services.objects.vaults import SYSTEM
from certbroker.store.database import SQLiteStore

CHAIN_FILE: Final = "server.pem"
KEY_FILE: Final = "server.key"

_CA_LIFE: Final = timedelta(days=3650)
_LIFE: Final = timedelta(days=45)
_BACKDATE: Final = timedelta(hours=1)
_SETTING: Final = "server certification authority"
_IDENTITY: Final = Identity(SYSTEM, "setting", _SETTING, "")


class ServerCertificate:
    """Keeps `server.pem`, `server.key` and `ca.pem` in a directory current."""

    def __init__(self, store: SQLiteStore, seal: Seal, clock: Clock, directory: Path, names: tuple[str, ...]) -> None:
        self._store = store
        self._seal = seal
        self._clock = clock
        self._names = names
        self.chain = directory / CHAIN_FILE
        self.key = directory / KEY_FILE
        self.authority = directory / "ca.pem"

    def refresh(self) -> bool:
        """Issue a certificate if there is none for these names, or it has passed two thirds of its life.

        Returns whether one was issued.
        """
        now = self._clock.now()
        ca_certificate, ca_key = self._authority()
        if not self.authority.exists():
            _write(self.authority, ca_certificate.public_bytes(Encoding.PEM), 0o644)
        if self._is_current(now, ca_certificate):
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(self._names, key, ca_certificate, ca_key, now)
        # The key goes first: a reader that meets both files half way finds a pair that does not fit, not a stale one.
        _write(self.key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        _write(self.chain, certificate.public_bytes(Encoding.PEM), 0o644)
        return True

    def _is_current(self, now: datetime, authority: x509.Certificate) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(self.chain.read_bytes())
            key = load_pem_private_key(self.key.read_bytes(), None)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, x509.ExtensionNotFound):
            return False
        lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        return (
            certificate.issuer == authority.subject
            and certificate.public_key() == key.public_key()
            and set(names) == set(_general_names(self._names))
            and certificate.not_valid_before_utc <= now < certificate.not_valid_before_utc + lifetime * 2 / 3
        )

    def _authority(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """The authority, made at the first call."""
        sealed = self._store.glance().vaults.sealed_setting(_SETTING)
        if sealed is None:
            fresh = self._seal.close(_IDENTITY, _new_authority(self._clock.now()))
            self._store.write(lambda transaction: transaction.vaults.put_setting(_SETTING, sealed=fresh))
            sealed = fresh
        pem = self._seal.open(_IDENTITY, sealed)
        key = load_pem_private_key(pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return x509.load_pem_x509_certificate(pem), key


def _new_authority(now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "certbroker server CA")])
    certificate = (
        _builder(name, name, key, now, _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)


def _sign(
    names: tuple[str, ...],
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    return (
        _builder(subject, authority.subject, key, now, _LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _general_names(names: tuple[str, ...]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replace a file as a whole: readers see the old one or the new one."""
    temporary = path.with_suffix(path.suffix + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
