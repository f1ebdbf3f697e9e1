"""Signing: the one place where a CA's key makes a certificate."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certbroker.domain.csr import scheme_of
from certbroker.domain.keys import SigningKey
from issuers.private_ca.lint import Linted


def sign(linted: Linted) -> bytes:
    """The certificate in DER: the bytes that were looked at, and the CA's signature over them.

    Blocks where the key is in an HSM. Two calls with the same argument make the same certificate twice, not two.
    """
    signature = signed_bytes(linted.prepared.key, linted.tbs)
    return _der(0x30, linted.tbs + linted.algorithm + _der(0x03, b"\0" + signature))


def signed_bytes(key: SigningKey, data: bytes) -> bytes:
    """The signature of `key` over `data`, by the algorithm that fits the key (RFC 5280, RFC 8410, RFC 9881)."""
    if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        return key.sign(data, *scheme_of(key).arguments)
    return key.sign(data)


def _der(tag: int, body: bytes) -> bytes:
    """One DER element (X.690 section 8.1)."""
    size = len(body)
    if size < 128:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body
