"""Where a certificate should be served, on the wire."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.memory_broker import MemoryBroker, VaultClient

pytestmark = pytest.mark.anyio


async def seen(vault: VaultClient) -> dict[str, Any]:
    """The one endpoint of the certificate, once it was looked at."""
    async with asyncio.timeout(20):
        while True:
            (found,) = (await vault.get("/certificates/c/endpoints")).json()["value"]
            if found["state"] != "Unprobed":
                return dict(found)
            await asyncio.sleep(0.05)


async def test_endpoints_are_added_looked_at_listed_and_removed(vault: VaultClient) -> None:
    await vault.create("c")
    body = {"endpoint": "WWW.nowhere.invalid:8443", "server_name": "www.example.com", "starttls": "imap"}
    added = await vault.post("/certificates/c/endpoints", body)
    again = await vault.post("/certificates/c/endpoints", body)
    looked = await seen(vault)
    removed = await vault.delete(f"/certificates/c/endpoints/{added.json()['id']}")

    assert (200, 200, 200) == (added.status_code, again.status_code, removed.status_code)
    assert added.json()["id"] == again.json()["id"]
    assert ("www.nowhere.invalid:8443", "www.example.com", "imap", "Unprobed") == tuple(
        added.json()[name] for name in ("endpoint", "server_name", "starttls", "state")
    )
    assert "Unreachable" == looked["state"]
    assert "cannot be resolved" in looked["seen"][0]["problem"]
    assert {"value": [], "nextLink": None} == (await vault.get("/certificates/c/endpoints")).json()


async def test_this_machine_is_out_of_reach_unless_the_operator_allows_it(vault: VaultClient) -> None:
    await vault.create("c")
    await vault.post("/certificates/c/endpoints", {"endpoint": "127.0.0.1:22"})

    assert "allowed networks of the egress policy" in (await seen(vault))["seen"][0]["problem"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "endpoint"),
        ({"endpoint": "https://www.example.com/"}, "port"),
        ({"endpoint": "www.example.com", "starttls": "gopher"}, "starttls is one of"),
        ({"endpoint": "www.example.com", "trust": True}, "trust"),
        ({"endpoint": 443}, "endpoint"),
    ],
)
async def test_what_is_no_endpoint_is_refused(vault: VaultClient, body: dict[str, Any], says: str) -> None:
    await vault.create("c")
    refused = await vault.post("/certificates/c/endpoints", body)

    assert (400, "BadParameter") == (refused.status_code, refused.json()["error"]["code"])
    assert says in refused.json()["error"]["message"]


async def test_who_may_look_may_not_add(broker: MemoryBroker, vault: VaultClient) -> None:
    await vault.create("c")
    reader = vault.acting(broker.token(("Key Vault Reader", "/")))
    added = await reader.post("/certificates/c/endpoints", {"endpoint": "www.example.com"})
    removed = await reader.delete("/certificates/c/endpoints/0123456789abcdef")
    missing = await vault.delete("/certificates/c/endpoints/0123456789abcdef")
    nothing = await vault.get("/certificates/nothing/endpoints")

    assert 200 == (await reader.get("/certificates/c/endpoints")).status_code
    assert (403, 403, 404, 404) == tuple(each.status_code for each in (added, removed, missing, nothing))
