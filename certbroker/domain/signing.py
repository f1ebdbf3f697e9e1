"""How keys sign: the algorithm that fits each, as X.509 names it and as the library wants it."""

from __future__ import annotations

from typing import Any, Final, assert_never

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from msgspec import Struct

from certbroker.domain import der
from certbroker.domain.keys import SigningKey


class Scheme(Struct, frozen=True):
    """How a key signs: as an AlgorithmIdentifier in DER, and as what its `sign` wants beside the message."""

    algorithm: bytes
    arguments: tuple[Any, ...] = ()


def _ecdsa(arc: int, digest: hashes.HashAlgorithm) -> Scheme:
    return Scheme(der.sequence(der.object_identifier(f"1.2.840.10045.4.3.{arc}")), (ec.ECDSA(digest),))


def _plain(identifier: str) -> Scheme:
    return Scheme(der.sequence(der.object_identifier(identifier)))


# ECDSA by the size of the key. Identifiers and their parameters: RFC 5758 section 3.2 and RFC 4055 section 5, RFC 8410
# section 3, RFC 9881 section 2.
_ECDSA: Final = {256: _ecdsa(2, hashes.SHA256()), 384: _ecdsa(3, hashes.SHA384()), 521: _ecdsa(4, hashes.SHA512())}
_RSA: Final = Scheme(
    der.sequence(der.object_identifier("1.2.840.113549.1.1.11"), der.NULL), (padding.PKCS1v15(), hashes.SHA256())
)
_ED25519: Final = _plain("1.3.101.112")
_MLDSA_44: Final = _plain("2.16.840.1.101.3.4.3.17")
_MLDSA_65: Final = _plain("2.16.840.1.101.3.4.3.18")
_MLDSA_87: Final = _plain("2.16.840.1.101.3.4.3.19")


def scheme_of(key: SigningKey) -> Scheme:
    """ECDSA with the hash that fits the strength of the key (FIPS 186-5 section 6.1.1), RSA with SHA-256, or the only
    way in which a key of that kind signs.
    """
    match key:
        case ec.EllipticCurvePrivateKey():
            return _ECDSA[key.key_size]
        case rsa.RSAPrivateKey():
            return _RSA
        case ed25519.Ed25519PrivateKey():
            return _ED25519
        case mldsa.MLDSA44PrivateKey():
            return _MLDSA_44
        case mldsa.MLDSA65PrivateKey():
            return _MLDSA_65
        case mldsa.MLDSA87PrivateKey():
            return _MLDSA_87
        case _:
            assert_never(key)


def signed(body: bytes, key: SigningKey) -> bytes:
    """The body with the algorithm and the signature, as requests, certificates and CRLs have them.

    Blocks where the key is in an HSM.
    """
    scheme = scheme_of(key)
    return der.sequence(body, scheme.algorithm, der.bit_string(key.sign(body, *scheme.arguments)))
