"""What keys do: sign, verify, encrypt and decrypt, under the names of RFC 7518 sections 3.1 and 4.1.

Digests are given, never what was digested. Signatures of EC keys are the two numbers one after the other (RFC 7518
section 3.4), as everywhere in JOSE, and not in DER.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature

from certbroker.domain.errors import Invalid
from certbroker.domain.keys import CURVE_NAMES, PrivateKey, PublicKey

T = TypeVar("T")


class KeyUse(StrEnum):
    """What may be done with a key, in the words of `key_ops` (RFC 7517 section 4.3)."""

    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"
    SIGN = "sign"
    VERIFY = "verify"
    WRAP = "wrapKey"
    UNWRAP = "unwrapKey"


USES: Final[dict[str, tuple[KeyUse, ...]]] = {
    "RSA": (KeyUse.ENCRYPT, KeyUse.DECRYPT, KeyUse.SIGN, KeyUse.VERIFY, KeyUse.WRAP, KeyUse.UNWRAP),
    "EC": (KeyUse.SIGN, KeyUse.VERIFY),
}
"""What keys of each family can do."""

PRIVATE_USES: Final = (KeyUse.DECRYPT, KeyUse.SIGN, KeyUse.UNWRAP)
"""What needs the private key."""

_DIGESTS: Final = (hashes.SHA256(), hashes.SHA384(), hashes.SHA512())
# RFC 7518 section 3.5: the salt is as long as the digest.
_RSA_SIGNATURES: Final[dict[str, tuple[padding.AsymmetricPadding, hashes.HashAlgorithm]]] = {
    **{f"RS{8 * made.digest_size}": (padding.PKCS1v15(), made) for made in _DIGESTS},
    **{
        f"PS{8 * made.digest_size}": (padding.PSS(padding.MGF1(made), padding.PSS.DIGEST_LENGTH), made)
        for made in _DIGESTS
    },
}
_EC_SIGNATURES: Final[dict[str, tuple[str, hashes.HashAlgorithm]]] = {
    "ES256": ("P-256", hashes.SHA256()),
    "ES256K": ("P-256K", hashes.SHA256()),
    "ES384": ("P-384", hashes.SHA384()),
    "ES512": ("P-521", hashes.SHA512()),
}
# RFC 7518 section 4.3 wants it, and no collision helps against OAEP.
_SHA1: Final = hashes.SHA1()  # noqa: S303
# With the bytes that the padding takes.
_ENCRYPTIONS: Final[dict[str, tuple[padding.AsymmetricPadding, int]]] = {
    "RSA1_5": (padding.PKCS1v15(), 11),
    "RSA-OAEP": (padding.OAEP(padding.MGF1(_SHA1), _SHA1, None), 42),
    "RSA-OAEP-256": (padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None), 66),
}


def sign(key: PrivateKey, algorithm: str, digest: bytes) -> bytes:
    """The signature of a digest. Raises Invalid."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, *_rsa_signature(algorithm, digest))
    numbers = decode_dss_signature(key.sign(digest, _ec_signature(key.curve, algorithm, digest)))
    return b"".join(number.to_bytes(_length(key.curve)) for number in numbers)


def verify(key: PublicKey, algorithm: str, digest: bytes, signature: bytes) -> bool:
    """Whether the signature is that of the digest. Raises Invalid for an algorithm or digest that cannot be."""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, digest, *_rsa_signature(algorithm, digest))
        else:
            scheme = _ec_signature(key.curve, algorithm, digest)
            length = _length(key.curve)
            if len(signature) != 2 * length:
                return False
            numbers = (int.from_bytes(part) for part in (signature[:length], signature[length:]))
            key.verify(encode_dss_signature(*numbers), digest, scheme)
    except InvalidSignature:
        return False
    return True


def encrypt(key: PublicKey, algorithm: str, plain: bytes) -> bytes:
    """The bytes, so that only the private key can read them. Raises Invalid."""
    scheme, overhead = _encryption(key, algorithm)
    longest = key.key_size // 8 - overhead
    if len(plain) > longest:
        raise Invalid(
            f"The value has {len(plain)} bytes; {algorithm} with a key of {key.key_size} bits takes {longest} at most."
        )
    assert isinstance(key, rsa.RSAPublicKey)
    return key.encrypt(plain, scheme)


def decrypt(key: PrivateKey, algorithm: str, encrypted: bytes) -> bytes:
    """What was encrypted. Raises Invalid.

    With RSA1_5, bytes that were not encrypted with this key come out as others that nobody can predict, so that the
    answer says nothing about them (Bleichenbacher's attack).
    """
    scheme, _ = _encryption(key, algorithm)
    assert isinstance(key, rsa.RSAPrivateKey)
    try:
        return key.decrypt(encrypted, scheme)
    except ValueError:
        raise Invalid(f"The value cannot be decrypted: it was not made with this key and {algorithm}.") from None


def _rsa_signature(algorithm: str, digest: bytes) -> tuple[padding.AsymmetricPadding, Prehashed]:
    scheme, made = _named(_RSA_SIGNATURES, algorithm, "sign with an RSA key")
    return scheme, _prehashed(made, algorithm, digest)


def _ec_signature(curve: ec.EllipticCurve, algorithm: str, digest: bytes) -> ec.ECDSA:
    mine = {name: made for name, (wanted, made) in _EC_SIGNATURES.items() if wanted == CURVE_NAMES[curve.name]}
    made = _named(mine, algorithm, f"sign with a key on {CURVE_NAMES[curve.name]}")
    return ec.ECDSA(_prehashed(made, algorithm, digest))


def _encryption(key: PublicKey | PrivateKey, algorithm: str) -> tuple[padding.AsymmetricPadding, int]:
    if not isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        raise Invalid("EC keys sign and verify; to encrypt, or to wrap another key, use an RSA key.")
    return _named(_ENCRYPTIONS, algorithm, "encrypt with an RSA key")


def _named(table: dict[str, T], algorithm: str, what: str) -> T:
    found = table.get(algorithm)
    if found is None:
        raise Invalid(f"alg {algorithm[:40]!r} cannot be used to {what}: use {' or '.join(table)}.")
    return found


def _prehashed(made: hashes.HashAlgorithm, algorithm: str, digest: bytes) -> Prehashed:
    if len(digest) != made.digest_size:
        raise Invalid(f"{algorithm} takes a digest of {made.digest_size} bytes; {len(digest)} were given.")
    return Prehashed(made)


def _length(curve: ec.EllipticCurve) -> int:
    """How many bytes a coordinate has."""
    return (curve.key_size + 7) // 8
