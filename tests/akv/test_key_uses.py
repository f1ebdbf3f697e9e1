"""What is done with keys, on the wire: who may, with which key, and when."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from tests.akv.test_keys import encoded, made, version_of
from tests.support.memory_broker import VaultClient

pytestmark = pytest.mark.anyio

DIGEST = bytes(range(32))


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(text: str) -> int:
    return int.from_bytes(decoded(text))


async def use(vault: VaultClient, path: str, alg: str, value: bytes = DIGEST, **more: Any) -> dict[str, Any]:
    answer = await vault.post(path, {"alg": alg, "value": encoded(value)} | more)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_what_an_ec_key_signs_holds_by_its_public_part(vault: VaultClient) -> None:
    key = (await made(vault, crv="P-384"))["key"]
    digest = bytes(48)
    signed = await use(vault, "/keys/k/sign", "ES384", digest)
    public = ec.EllipticCurvePublicNumbers(number(key["x"]), number(key["y"]), ec.SECP384R1()).public_key()

    assert {"kid", "value"} == signed.keys()
    assert key["kid"] == signed["kid"]
    signature = decoded(signed["value"])
    assert 96 == len(signature)
    parts = int.from_bytes(signature[:48]), int.from_bytes(signature[48:])
    public.verify(encode_dss_signature(*parts), digest, ec.ECDSA(Prehashed(hashes.SHA384())))
    for given, expected in ((digest, True), (b"\1" * 48, False)):
        body = {"alg": "ES384", "digest": encoded(given), "value": signed["value"]}
        assert {"value": expected} == (await vault.post("/keys/k//verify", body)).json()


async def test_what_an_rsa_key_signs_and_wraps_is_understood_by_others(vault: VaultClient) -> None:
    key = (await made(vault, kty="RSA"))["key"]
    public = rsa.RSAPublicNumbers(number(key["e"]), number(key["n"])).public_key()
    signed = await use(vault, "/keys/k/sign", "PS256")
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    public.verify(decoded(signed["value"]), DIGEST, scheme, Prehashed(hashes.SHA256()))
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    wrapped = public.encrypt(b"a key", oaep)

    assert b"a key" == decoded((await use(vault, "/keys/k/unwrapKey", "RSA-OAEP-256", wrapped))["value"])
    assert b"a key" == decoded((await use(vault, "/keys/k/decrypt", "RSA-OAEP-256", wrapped))["value"])
    for there, back in (("wrapkey", "unwrapkey"), ("encrypt", "decrypt"), ("wrapKey", "unwrapKey")):
        closed = await use(vault, f"/keys/k/{version_of({'key': key})}/{there}", "RSA-OAEP", b"a key")
        opened = await use(vault, f"/keys/k//{back}", "RSA-OAEP", decoded(closed["value"]))
        assert (b"a key", key["kid"], key["kid"]) == (decoded(opened["value"]), closed["kid"], opened["kid"])


async def test_a_version_keeps_its_key(vault: VaultClient) -> None:
    first, second = await made(vault), await made(vault)
    signed = await use(vault, f"/keys/k/{version_of(first)}/sign", "ES256")
    body = {"alg": "ES256", "digest": encoded(DIGEST), "value": signed["value"]}

    assert first["key"]["kid"] == signed["kid"]
    assert {"value": True} == (await vault.post(f"/keys/k/{version_of(first)}/verify", body)).json()
    assert {"value": False} == (await vault.post(f"/keys/k/{version_of(second)}/verify", body)).json()
    assert {"value": False} == (await vault.post("/keys/k/verify", body)).json()


OPERATIONS = ("encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey")


def body_for(operation: str) -> dict[str, str]:
    if operation in ("sign", "verify"):
        return {"alg": "RS256", "value": encoded(DIGEST), "digest": encoded(DIGEST)}
    return {"alg": "RSA1_5", "value": encoded(bytes(32) if operation in ("encrypt", "wrapKey") else bytes(256))}


async def refused(vault: VaultClient, name: str = "k") -> dict[str, tuple[int, str]]:
    """The operations that are refused, with the status and the inner code."""
    found = {}
    for each in OPERATIONS:
        answer = await vault.post(f"/keys/{name}/{each}", body_for(each))
        if answer.status_code != 200:
            error = answer.json()["error"]
            found[each] = (answer.status_code, error.get("innererror", {}).get("code") or error["code"])
    return found


async def test_only_what_key_ops_name_is_done(vault: VaultClient) -> None:
    await made(vault, kty="RSA", key_ops=["verify", "encrypt"])

    assert dict.fromkeys(("decrypt", "sign", "wrapKey", "unwrapKey"), (403, "Forbidden")) == await refused(vault)
    answer = await vault.post("/keys/k/sign", body_for("sign"))
    assert "its key_ops are verify, encrypt." in answer.json()["error"]["message"]
    await vault.patch("/keys/k", {"key_ops": list(OPERATIONS)})
    assert {} == await refused(vault)


async def test_a_disabled_key_does_nothing_that_needs_its_private_part(vault: VaultClient) -> None:
    await made(vault, kty="RSA", attributes={"enabled": False})

    assert dict.fromkeys(("decrypt", "sign", "unwrapKey"), (403, "KeyDisabled")) == await refused(vault)
    await vault.patch("/keys/k", {"attributes": {"enabled": True}})
    assert {} == await refused(vault)


async def test_a_key_outside_its_times_makes_nothing_new_and_still_reads_the_old(vault: VaultClient) -> None:
    now = int(time.time())
    for times in ({"exp": now - 5}, {"nbf": now + 300}, {"nbf": now - 10, "exp": now - 5}):
        await made(vault, kty="RSA", attributes=times)
        assert dict.fromkeys(("encrypt", "sign", "wrapKey"), (403, "Forbidden")) == await refused(vault), times
    await made(vault, kty="RSA", attributes={"nbf": now - 5, "exp": now + 300})
    assert {} == await refused(vault)


async def test_the_key_of_a_certificate_does_what_its_key_usage_allows(vault: VaultClient) -> None:
    certificate = await vault.create("c")
    signed = await use(vault, "/keys/c/sign", "ES256")

    assert certificate["kid"] == signed["kid"]


async def test_the_key_of_a_ca_signs_nothing_but_what_the_ca_has_checked(vault: VaultClient) -> None:
    answer = await vault.post("/authorities/root/create", {"subject": "CN=Root", "key": "P-256", "days": 100})
    assert answer.status_code == 201, answer.text
    key = (await vault.get("/keys/root")).json()["key"]
    refusal = await vault.post("/keys/root/sign", {"alg": "ES256", "value": encoded(DIGEST)})
    body = {"alg": "ES256", "digest": encoded(DIGEST), "value": encoded(bytes(64))}

    assert "sign" in key["key_ops"]
    assert (403, "Forbidden") == (refusal.status_code, refusal.json()["error"]["code"])
    assert "certbroker ca sign" in refusal.json()["error"]["message"]
    assert {"value": False} == (await vault.post("/keys/root/verify", body)).json()


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("sign", {"alg": "ES384", "value": encoded(DIGEST)}, "use ES256"),
        ("sign", {"alg": "ES256", "value": "AAAA"}, "takes a digest of 32 bytes; 3 were given"),
        ("sign", {"alg": "ES256", "value": "!"}, "value is not valid base64"),
        ("sign", {"alg": "ES256"}, "missing required field `value`"),
        ("verify", {"alg": "ES256", "value": "AAAA"}, "missing required field `digest`"),
        ("sign", {}, "alg"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_the_reason(
    vault: VaultClient, path: str, body: dict[str, str], reason: str
) -> None:
    await made(vault)
    answer = await vault.post(f"/keys/k/{path}", body)

    assert (400, "BadParameter") == (answer.status_code, answer.json()["error"]["code"])
    assert reason in answer.json()["error"]["message"]


async def test_what_is_only_for_symmetric_keys_is_refused(vault: VaultClient) -> None:
    await made(vault, kty="RSA")
    body = {"alg": "RSA-OAEP", "value": "AAAA", "iv": "AAAA"}

    assert "symmetric keys" in (await vault.post("/keys/k/encrypt", body)).json()["error"]["message"]
