"""Key types, what they may be used for, and what of them is public."""

from __future__ import annotations

from hashlib import sha1
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Struct

from certbroker.domain import der
from certbroker.domain.errors import Invalid

CURVES: Final[dict[str, type[ec.EllipticCurve]]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
    "P-256K": ec.SECP256K1,
}
CURVE_NAMES: Final[dict[str, str]] = {curve().name: name for name, curve in CURVES.items()}
RSA_SIZES: Final = (2048, 3072, 4096)

# What may be asked for.
KEY_TYPES: Final = ("RSA", "RSA-HSM", "EC", "EC-HSM")

# NIST SP 800-57 part 1, table 2: below 2048 bits an RSA key no longer gives 112 bits of security. The upper bound keeps
# one foreign key from costing seconds of arithmetic.
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

# What a CA may sign with: also the kinds that Key Vault has no name for.
SigningKey = (
    PrivateKey | ed25519.Ed25519PrivateKey | mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
)
VerifyingKey = (
    PublicKey | ed25519.Ed25519PublicKey | mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey
)


class KeySpec(Struct, frozen=True):
    """What key to make: a Key Vault key type with its size in bits (RSA) or curve (EC)."""

    kty: str = "RSA"
    size: int | None = None
    curve: str | None = None

    @property
    def family(self) -> str:
        """`RSA` or `EC`, whether in software or in an HSM."""
        return self.kty.removesuffix("-HSM")

    @property
    def hsm(self) -> bool:
        return self.kty.endswith("-HSM")

    def complete(self, within: str = "") -> KeySpec:
        """The spec with its defaults filled in (RSA 2048, P-256), or Invalid where it contradicts itself.

        `within` is what the names of its members begin with where they were written.
        """
        if self.kty not in KEY_TYPES:
            raise Invalid(f"{within}kty {self.kty[:40]!r} is not supported: use RSA or EC.")
        if self.family == "RSA":
            if self.curve is not None:
                raise Invalid(f"{within}crv is only for EC keys; remove it or set kty to EC.")
            size = self.size or 2048
            if size not in RSA_SIZES:
                raise Invalid(f"{within}key_size {size} is not supported: RSA keys have 2048, 3072 or 4096 bits.")
            return KeySpec(self.kty, size, None)
        curve = self.curve or next((name for name, bits in CURVE_BITS.items() if bits == self.size), "P-256")
        if curve not in CURVES:
            raise Invalid(f"{within}crv {curve[:40]!r} is not supported: use one of {', '.join(CURVES)}.")
        if self.size is not None and self.size != CURVE_BITS[curve]:
            raise Invalid(f"{within}key_size {self.size} does not belong to curve {curve}; leave it out.")
        return KeySpec(self.kty, CURVE_BITS[curve], curve)


CURVE_BITS: Final = {"P-256": 256, "P-384": 384, "P-521": 521, "P-256K": 256}


def check_rsa_size(bits: int) -> None:
    """Raise Invalid for an RSA key from elsewhere that is too weak, or so large that it would keep us busy."""
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        raise Invalid(f"The RSA key has {bits} bits; keys of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits are accepted.")


def spec_of(key: PublicKey) -> KeySpec:
    """The spec of an existing software key; Invalid when it is too weak or of a kind we do not keep."""
    if isinstance(key, rsa.RSAPublicKey):
        check_rsa_size(key.key_size)
        return KeySpec("RSA", key.key_size, None)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in CURVE_NAMES:
        name = CURVE_NAMES[key.curve.name]
        return KeySpec("EC", CURVE_BITS[name], name)
    raise Invalid(f"The key is of a kind that is not supported: use RSA or EC on one of {', '.join(CURVES)}.")


def subject_public_key_info(key: CertificatePublicKeyTypes) -> bytes:
    """A public key as SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7)."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_identifier(public: bytes) -> bytes:
    """The usual identifier of a key, given as SubjectPublicKeyInfo in DER (RFC 5280 section 4.2.1.2, method 1)."""
    return sha1(der.subject_public_key(public), usedforsecurity=False).digest()


def same_public_key(one: PublicKey, other: object) -> bool:
    """Whether both are the same key."""
    return isinstance(other, PublicKey) and one == other


KEY_USAGES: Final = (
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
)

_OPERATIONS: Final = {
    "digitalSignature": ("sign", "verify"),
    "nonRepudiation": ("sign", "verify"),
    "keyCertSign": ("sign", "verify"),
    "cRLSign": ("sign", "verify"),
    "keyEncipherment": ("wrapKey", "unwrapKey"),
    "dataEncipherment": ("encrypt", "decrypt"),
    "encipherOnly": ("encrypt",),
    "decipherOnly": ("decrypt",),
}


def operations_for(key_usage: tuple[str, ...]) -> tuple[str, ...]:
    """The key operations that a certificate's key usage allows, each once and in a stable order."""
    return tuple(dict.fromkeys(operation for usage in key_usage for operation in _OPERATIONS.get(usage, ())))
