"""Rotation on the wire: policies, and keys that are rotated because somebody asks."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.akv.test_keys import made, version_of
from tests.support.memory_broker import VaultClient

pytestmark = pytest.mark.anyio


def action(type: str, **trigger: str) -> dict[str, Any]:  # noqa: A002 - its name on the wire
    return {"trigger": trigger, "action": {"type": type}}


FULL = {
    "lifetimeActions": [action("Rotate", timeAfterCreate="P2M"), action("Notify", timeBeforeExpiry="P30D")],
    "attributes": {"expiryTime": "P1Y"},
}


async def test_a_key_without_a_policy_has_that_of_key_vault(vault: VaultClient) -> None:
    await made(vault, "Key")
    policy = (await vault.get("/keys/key/rotationpolicy")).json()

    assert {
        "id": f"{vault.base}/keys/Key/rotationpolicy",
        "lifetimeActions": [action("Notify", timeBeforeExpiry="P30D")],
        "attributes": {},
    } == policy


async def test_a_policy_is_read_as_it_was_written(vault: VaultClient) -> None:
    await made(vault)
    stored = (await vault.put("/keys/k/rotationpolicy", FULL)).json()

    assert FULL["lifetimeActions"] == stored["lifetimeActions"]
    assert "P1Y" == stored["attributes"]["expiryTime"]
    assert {"expiryTime", "created", "updated"} == stored["attributes"].keys()
    assert stored == (await vault.get("/keys/k/rotationpolicy")).json()
    assert [] == (await vault.put("/keys/k/rotationpolicy", {})).json()["lifetimeActions"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"lifetimeActions": [action("Burn", timeAfterCreate="P2M")]}, "action.type 'Burn'"),
        ({"lifetimeActions": [action("Rotate", timeAfterCreate="P2M")] * 2}, "more than one Rotate"),
        ({"lifetimeActions": [action("Rotate")]}, "either timeAfterCreate or timeBeforeExpiry"),
        ({"lifetimeActions": [action("Rotate", timeAfterCreate="P2M", timeBeforeExpiry="P2M")]}, "either"),
        ({"lifetimeActions": [action("Notify", timeAfterCreate="P2M")]}, "timeBeforeExpiry only"),
        ({"lifetimeActions": [action("Rotate", timeAfterCreate="2 months")]}, "is not a duration"),
        ({"lifetimeActions": [action("Rotate", timeBeforeExpiry="P30D")]}, "needs attributes.expiryTime"),
        ({"attributes": {"expiryTime": "P1D"}}, "28 days at least"),
        ({"lifetimeActions": "none"}, "lifetimeActions"),
    ],
)
async def test_policies_that_cannot_be_are_refused_with_the_reason(
    vault: VaultClient, body: dict[str, Any], reason: str
) -> None:
    await made(vault)
    answer = await vault.put("/keys/k/rotationpolicy", body)

    assert (400, "BadParameter") == (answer.status_code, answer.json()["error"]["code"])
    assert reason in answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", [{"kty": "EC", "crv": "P-384"}, {"kty": "RSA", "key_size": 3072}])
async def test_a_rotated_key_is_another_of_the_same_kind(vault: VaultClient, kind: dict[str, Any]) -> None:
    first = await made(vault, **kind, key_ops=["verify", "sign"], tags={"a": "1"})
    await vault.put("/keys/k/rotationpolicy", FULL)
    second = (await vault.post("/keys/k/rotate")).json()
    same = ("kty", "crv", "key_ops")

    assert version_of(first) != version_of(second)
    assert second == (await vault.get("/keys/k")).json()
    assert [first["key"].get(each) for each in same] == [second["key"].get(each) for each in same]
    assert len(first["key"].get("n", "")) == len(second["key"].get("n", ""))
    assert first["key"].get("x", first["key"].get("n")) != second["key"].get("x", second["key"].get("n"))
    assert first["tags"] == second["tags"]
    assert 364 * 86400 < second["attributes"]["exp"] - time.time() < 367 * 86400


async def test_the_policy_goes_with_the_key(vault: VaultClient) -> None:
    await made(vault)
    await vault.put("/keys/k/rotationpolicy", FULL)
    blob = (await vault.post("/keys/k/backup")).json()
    await vault.delete("/keys/k")
    assert 404 == (await vault.get("/keys/k/rotationpolicy")).status_code
    assert 404 == (await vault.post("/keys/k/rotate")).status_code
    await vault.post("/deletedkeys/k/recover")
    assert FULL["lifetimeActions"] == (await vault.get("/keys/k/rotationpolicy")).json()["lifetimeActions"]
    await vault.delete("/keys/k")
    await vault.delete("/deletedkeys/k")
    await made(vault)
    assert {} == (await vault.get("/keys/k/rotationpolicy")).json()["attributes"]
    await vault.delete("/keys/k")
    await vault.delete("/deletedkeys/k")
    await vault.post("/keys/restore", blob)

    assert FULL["lifetimeActions"] == (await vault.get("/keys/k/rotationpolicy")).json()["lifetimeActions"]


async def test_the_key_of_a_certificate_is_rotated_by_its_renewal_only(vault: VaultClient) -> None:
    await vault.create("c")

    for method, path, body in (("POST", "/keys/c/rotate", None), ("PUT", "/keys/c/rotationpolicy", FULL)):
        answer = await vault.send(method, path, body)
        assert 403 == answer.status_code
        assert "change the certificate instead" in answer.json()["error"]["message"]


async def test_what_is_not_there_is_not_rotated(vault: VaultClient) -> None:
    for method, path, body in (
        ("POST", "/keys/k/rotate", None),
        ("GET", "/keys/k/rotationpolicy", None),
        ("PUT", "/keys/k/rotationpolicy", FULL),
    ):
        answer = await vault.send(method, path, body)
        assert (404, "KeyNotFound") == (answer.status_code, answer.json()["error"]["code"])
