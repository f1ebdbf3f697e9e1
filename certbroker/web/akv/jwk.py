"""Keys as JSON Web Keys (RFC 7517; the members of each kind: RFC 7518 section 6)."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from certbroker.domain.errors import Invalid
from certbroker.domain.key_algorithms import KeyUse
from certbroker.domain.keys import CURVES
from certbroker.domain.records import KeyFacts
from certbroker.web.akv.messages import base64url, from_base64

_MEMBERS: Final = {"RSA": ("n", "e", "d", "p", "q", "dp", "dq", "qi"), "EC": ("x", "y", "d")}


class JWK(msgspec.Struct, frozen=True):
    """A key that is given. What belongs to keys of another kind is not looked at."""

    kty: str
    key_ops: tuple[str, ...] | None = None
    crv: str | None = None
    n: str | None = None
    e: str | None = None
    d: str | None = None
    p: str | None = None
    q: str | None = None
    dp: str | None = None
    dq: str | None = None
    qi: str | None = None
    x: str | None = None
    y: str | None = None

    def __repr__(self) -> str:
        return f"JWK(kty={self.kty!r})"


def members(jwk: JWK) -> dict[str, str | bytes]:
    """What makes up the private key, with its numbers as bytes. Raises Invalid."""
    family = jwk.kty.removesuffix("-HSM")
    if family not in _MEMBERS:
        raise Invalid(f"key.kty {jwk.kty[:40]!r} is not supported: use RSA or EC.")
    if family == "EC" and jwk.crv not in CURVES:
        raise Invalid(f"key.crv {str(jwk.crv)[:40]!r} is not supported: use one of {', '.join(CURVES)}.")
    found: dict[str, str | bytes] = {"kty": family}
    if jwk.crv is not None:
        found["crv"] = jwk.crv
    for name in _MEMBERS[family]:
        value = getattr(jwk, name)
        if value is not None:
            found[name] = from_base64(value, f"key.{name}")
    return found


def public_json(facts: KeyFacts) -> dict[str, Any]:
    """The public members of a key that is kept."""
    return {"kty": facts.kty, "key_ops": list(facts.operations), **_numbers(facts)}


def uses(key_ops: tuple[str, ...] | None) -> tuple[KeyUse, ...] | None:
    """What a key may be used for, each once; None where nothing was said. Raises Invalid."""
    if key_ops is None:
        return None
    known = {str(use): use for use in KeyUse}
    for each in key_ops:
        if each not in known:
            raise Invalid(f"key_ops {each[:40]!r} is not supported: use {', '.join(known)}.")
    return tuple(dict.fromkeys(known[each] for each in key_ops))


def _numbers(facts: KeyFacts) -> dict[str, str]:
    public = load_der_public_key(facts.public)
    if isinstance(public, rsa.RSAPublicKey):
        rsa_numbers = public.public_numbers()
        return {"n": _integer(rsa_numbers.n), "e": _integer(rsa_numbers.e)}
    assert isinstance(public, ec.EllipticCurvePublicKey)
    length = (public.key_size + 7) // 8
    numbers = public.public_numbers()
    return {
        "crv": facts.curve or "",
        "x": base64url(numbers.x.to_bytes(length)),
        "y": base64url(numbers.y.to_bytes(length)),
    }


def _integer(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8))
