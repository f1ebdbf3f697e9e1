"""A certificate with its private key, in the forms that services load."""

from __future__ import annotations

import base64

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from certbroker.domain.keys import PrivateKey
from certbroker.domain.policy import PEM
from certbroker.domain.records import CertificateFacts


def bundle(content_type: str, facts: CertificateFacts, key: PrivateKey | None) -> str:
    """The value of a certificate's secret: PEM text, or a PKCS#12 (RFC 7292) without password in base64.

    Without `key` the value holds certificates only.
    """
    certificates = [x509.load_der_x509_certificate(der) for der in facts.chain]
    if content_type == PEM:
        parts = [certificate.public_bytes(Encoding.PEM) for certificate in certificates]
        if key is not None:
            parts.insert(0, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return b"".join(parts).decode()
    leaf = certificates.pop(facts.position)
    pfx = pkcs12.serialize_key_and_certificates(None, key, leaf, certificates, NoEncryption())
    return base64.b64encode(pfx).decode()
