"""What TLS is served with: read once, and checked before the server below us sees it.

That server's TLS (rustls with ring) takes fewer keys and certificates than OpenSSL, and ends the process over one that
it does not take. So what it would not take is refused here, by name. It gets what was checked, and not the files, which
may have changed meanwhile.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtensionOID

from certbroker.domain.keys import subject_public_key_info

_KEYS: Final = (
    "TLS is served with keys on P-256 and P-384, with Ed25519, and with RSA of 2048, 3072 or 4096 bits and an exponent "
    "from 65537 on; this is another key."
)
_CURVES: Final = ("secp256r1", "secp384r1")
_BITS: Final = (2048, 3072, 4096)
_EXPONENTS: Final = range(65537, 2**33)

# The extensions of a server's certificate that may be critical.
_KNOWN: Final = (
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.NAME_CONSTRAINTS,
    ExtensionOID.CRL_DISTRIBUTION_POINTS,
)
_MALFORMED: Final = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

Part = Literal["certificate", "key"]
_PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class UnusableCertificate(Exception):
    """TLS cannot be served with it. The text names the file and what is wrong; `part` says which of the two it is."""

    def __init__(self, part: Part, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.part = part


@dataclass(frozen=True, slots=True)
class Certificate:
    """A chain and its key in PEM, written anew from what was checked. `files` is what was read."""

    chain: bytes
    key: bytes = field(repr=False)
    files: tuple[bytes, bytes] = field(repr=False)


def read_certificate(chain: Path, key: Path, known: Certificate | None = None) -> Certificate:
    """What the files hold; `known` itself where they hold that still. Blocks. Raises UnusableCertificate."""
    files = _content("certificate", chain), _content("key", key)
    if known is not None and known.files == files:
        return known
    certificates, private = _certificates(chain, files[0]), _private_key(key, files[1])
    # As it stands in the certificate: a key that is written in another way there is taken for another key.
    if subject_public_key_info(private.public_key()) not in certificates[0].tbs_certificate_bytes:
        raise UnusableCertificate(
            "key", key, f"the key is not that of the first certificate in {chain}, as it is written there."
        )
    return Certificate(
        b"".join(each.public_bytes(Encoding.PEM) for each in certificates),
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        files,
    )


def private_copy(content: bytes) -> IO[bytes]:
    """An open file without a name that holds this, in memory where the system can."""
    if sys.platform == "linux":
        file: IO[bytes] = os.fdopen(os.memfd_create("certbroker"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115  # Whoever wants the copy closes it.
    file.write(content)
    file.seek(0)
    return file


def _content(part: Part, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusableCertificate(part, path, f"the file cannot be read: {error.strerror}.") from None


def _certificates(path: Path, encoded: bytes) -> list[x509.Certificate]:
    """The certificates in a file, of which the first is the server's. Raises UnusableCertificate."""
    try:
        found = x509.load_pem_x509_certificates(encoded)
        public, extensions = found[0].public_key(), found[0].extensions
    except _MALFORMED:
        raise UnusableCertificate("certificate", path, "there is no certificate in PEM that can be read.") from None
    unknown = [each.oid.dotted_string for each in extensions if each.critical and each.oid not in _KNOWN]
    if found[0].version is not x509.Version.v3:
        raise UnusableCertificate("certificate", path, "the certificate is not of version 3 of X.509.")
    if unknown:
        raise UnusableCertificate("certificate", path, f"the critical extension {unknown[0]} is not known.")
    if not _is_served(public):
        raise UnusableCertificate("certificate", path, _KEYS)
    return found


def _private_key(path: Path, encoded: bytes) -> _PrivateKey:
    """The key in a file. Raises UnusableCertificate."""
    try:
        found = load_pem_private_key(encoded, None)
    except TypeError:
        raise UnusableCertificate("key", path, "the key is encrypted, and there is no password for it.") from None
    except _MALFORMED:
        raise UnusableCertificate("key", path, "there is no private key in PEM that can be read.") from None
    if not isinstance(found, _PrivateKey) or not _is_served(found.public_key()):
        raise UnusableCertificate("key", path, _KEYS)
    if isinstance(found, rsa.RSAPrivateKey):
        primes = found.private_numbers()
        if primes.p.bit_length() != primes.q.bit_length():
            raise UnusableCertificate("key", path, "the primes of the RSA key are not of the same length.")
    return found


def _is_served(key: object) -> bool:
    """Whether it is of a kind that the server's TLS takes."""
    match key:
        case ec.EllipticCurvePublicKey():
            return key.curve.name in _CURVES
        case rsa.RSAPublicKey():
            return key.key_size in _BITS and key.public_numbers().e in _EXPONENTS
        case _:
            return isinstance(key, ed25519.Ed25519PublicKey)
