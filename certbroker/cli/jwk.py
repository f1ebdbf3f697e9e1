"""Keys in JWK, as the API has them, from and to PEM."""

from __future__ import annotations

import base64
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from certbroker.domain.keys import CURVE_NAMES, CURVES


def from_pem(pem: bytes, password: str | None) -> dict[str, str]:
    """A private key. Raises ValueError, with what is wrong for people."""
    try:
        key = load_pem_private_key(pem, None if password is None else password.encode())
    except (TypeError, ValueError):
        raise ValueError("No private key can be read from it, or its password is not the right one.") from None
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.private_numbers()
        values = {"n": numbers.public_numbers.n, "e": numbers.public_numbers.e, "d": numbers.d}
        values |= {"p": numbers.p, "q": numbers.q, "dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp}
        return {"kty": "RSA"} | _members(values)
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVE_NAMES:
        public = key.public_key().public_numbers()
        values = {"x": public.x, "y": public.y, "d": key.private_numbers().private_value}
        return {"kty": "EC", "crv": CURVE_NAMES[key.curve.name]} | _members(values)
    raise ValueError(f"The key is of a kind that is not supported: use RSA, or EC on one of {', '.join(CURVES)}.")


def public_pem(key: dict[str, Any]) -> str:
    """A public key, as SubjectPublicKeyInfo."""
    values = {member: int.from_bytes(decoded(key[member])) for member in ("n", "e", "x", "y") if member in key}
    public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    if "crv" in key:
        public = ec.EllipticCurvePublicNumbers(values["x"], values["y"], CURVES[key["crv"]]()).public_key()
    else:
        public = rsa.RSAPublicNumbers(values["e"], values["n"]).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def encoded(data: bytes) -> str:
    """Unpadded base64url (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """Bytes from unpadded base64url. Raises ValueError."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _members(values: dict[str, int]) -> dict[str, str]:
    return {member: encoded(value.to_bytes((value.bit_length() + 7) // 8)) for member, value in values.items()}
