"""What is done with keys, on the wire: encrypt, decrypt, wrap, unwrap, sign and verify."""

from __future__ import annotations

from typing import Any

import msgspec

from certbroker.domain.errors import Invalid
from certbroker.domain.key_algorithms import PRIVATE_USES, KeyUse
from certbroker.domain.objects import Kind
from certbroker.domain.records import Version
from certbroker.web.akv.messages import base64url, decode, from_base64
from certbroker.web.akv.routes import Call, Handler, Route, Router, TakesLong
from certbroker.web.http import Response


class EncryptionJSON(msgspec.Struct, frozen=True):
    alg: str
    value: str
    iv: str | None = None
    aad: str | None = None
    tag: str | None = None


class SignJSON(msgspec.Struct, frozen=True):
    alg: str
    value: str


class VerifyJSON(msgspec.Struct, frozen=True):
    alg: str
    digest: str
    value: str


def handler(use: KeyUse) -> Handler:
    """What answers a request to use a key."""

    def handle(call: Call) -> Response:
        found = call.broker.key_uses.find(call.vault, call.name, call.version, use)
        if call.quick and use in PRIVATE_USES and found.key is not None and found.key.curve != "P-256":
            raise TakesLong
        return Response(200, _PERFORM[use](call, found))

    return handle


def encrypt(call: Call, found: Version) -> dict[str, Any]:
    wanted = _encryption(call)
    return _made(call, found, call.broker.key_uses.encrypt(found, wanted.alg, from_base64(wanted.value, "value")))


def decrypt(call: Call, found: Version) -> dict[str, Any]:
    wanted = _encryption(call)
    encrypted = from_base64(wanted.value, "value")
    return _made(call, found, call.broker.key_uses.decrypt(call.vault, found, wanted.alg, encrypted))


def sign(call: Call, found: Version) -> dict[str, Any]:
    wanted = decode(call.body, SignJSON)
    digest = from_base64(wanted.value, "value")
    return _made(call, found, call.broker.key_uses.sign(call.vault, found, wanted.alg, digest))


def verify(call: Call, found: Version) -> dict[str, Any]:
    wanted = decode(call.body, VerifyJSON)
    digest, signature = from_base64(wanted.digest, "digest"), from_base64(wanted.value, "value")
    return {"value": call.broker.key_uses.verify(found, wanted.alg, digest, signature)}


def _encryption(call: Call) -> EncryptionJSON:
    wanted = decode(call.body, EncryptionJSON)
    if wanted.iv is not None or wanted.aad is not None or wanted.tag is not None:
        raise Invalid("iv, aad and tag are for symmetric keys, which are kept in an HSM only; leave them out.")
    return wanted


def _made(call: Call, found: Version, value: bytes) -> dict[str, Any]:
    return {"kid": call.links.object(Kind.KEY, found.name, found.version), "value": base64url(value)}


_PERFORM = {
    KeyUse.ENCRYPT: encrypt,
    KeyUse.DECRYPT: decrypt,
    KeyUse.WRAP: encrypt,
    KeyUse.UNWRAP: decrypt,
    KeyUse.SIGN: sign,
    KeyUse.VERIFY: verify,
}

# What Azure calls them in its roles and in its log.
_WORDS = {KeyUse.WRAP: "wrap", KeyUse.UNWRAP: "unwrap"}


def register(router: Router) -> None:
    for use in KeyUse:
        word = _WORDS.get(use, str(use))
        route = Route(f"Key{word.capitalize()}", f"keys/{word}/action", handler(use), quick=True)
        for pattern in ("/keys/{name}", "/keys/{name}/{version}"):
            router.add("POST", f"{pattern}/{use.lower()}", route)
