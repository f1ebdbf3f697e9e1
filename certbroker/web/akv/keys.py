"""Keys on the wire: the public part of what stands behind certificates."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from certbroker.domain.objects import Kind
from certbroker.domain.records import Version
from certbroker.web.akv.messages import attributes_json, base64url
from certbroker.web.akv.routes import Call, Route, Router
from certbroker.web.http import Response


def get_key(call: Call) -> Response:
    return Response(200, key_json(call, call.broker.keys.get(call.vault, call.name, call.version)))


def key_json(call: Call, version: Version) -> dict[str, Any]:
    """A key bundle."""
    assert version.key is not None
    kid = call.links.object(Kind.KEY, version.name, version.version)
    attributes = attributes_json(version.attributes, call.vault.recovery)
    attributes["exportable"] = version.key.exportable
    found: dict[str, Any] = {
        "key": {"kid": kid, "kty": version.key.kty, "key_ops": list(version.key.operations), **_numbers(version)},
        "attributes": attributes,
        "tags": version.tags,
    }
    if version.managed:
        found["managed"] = True
    return found


def _numbers(version: Version) -> dict[str, str]:
    """The public members of the JWK (RFC 7518 section 6)."""
    assert version.key is not None
    public = load_der_public_key(version.key.public)
    if isinstance(public, rsa.RSAPublicKey):
        rsa_numbers = public.public_numbers()
        return {"n": _integer(rsa_numbers.n), "e": _integer(rsa_numbers.e)}
    assert isinstance(public, ec.EllipticCurvePublicKey)
    length = (public.key_size + 7) // 8
    numbers = public.public_numbers()
    return {
        "crv": version.key.curve or "",
        "x": base64url(numbers.x.to_bytes(length)),
        "y": base64url(numbers.y.to_bytes(length)),
    }


def _integer(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8))


def register(router: Router) -> None:
    get = Route("KeyGet", "keys/read", get_key)
    router.add("GET", "/keys/{name}", get)
    router.add("GET", "/keys/{name}/{version}", get)
