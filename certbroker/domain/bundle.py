"""A certificate with its private key, in the forms that services load."""

from __future__ import annotations

import base64

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from certbroker.domain.keys import PrivateKey
from certbroker.domain.policy import PEM


def bundle(content_type: str, chain: tuple[bytes, ...], key: PrivateKey | None) -> str:
    """The value of a certificate's secret: PEM text, or a PKCS#12 (RFC 7292) without password in base64.

    `chain` is DER, the end entity's certificate first; without `key` the value holds certificates only.
    """
    certificates = [x509.load_der_x509_certificate(der) for der in chain]
    if content_type == PEM:
        parts = [certificate.public_bytes(Encoding.PEM) for certificate in certificates]
        if key is not None:
            parts.insert(0, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return b"".join(parts).decode()
    leaf, *others = certificates
    return base64.b64encode(pkcs12.serialize_key_and_certificates(None, key, leaf, others, NoEncryption())).decode()
