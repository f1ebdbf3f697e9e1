"""Drills on the wire: of a vault by its data action, of all vaults by administrators."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from certbroker.domain.access import ROLES
from tests.support.memory_broker import AUTHORITY, MemoryBroker, VaultClient

pytestmark = pytest.mark.anyio


async def over(vault: VaultClient, drill: str) -> dict[str, Any]:
    return await ended(lambda: vault.get(f"/drills/{drill}"))


async def ended(ask: Callable[[], Awaitable[httpx.Response]]) -> dict[str, Any]:
    """The drill once it is over."""
    async with asyncio.timeout(30):
        while True:
            found: dict[str, Any] = (await ask()).json()
            if found["stage"] in ("planned", "done"):
                return found
            await asyncio.sleep(0.1)


async def test_a_vault_is_drilled_and_then_all_of_it_is_replaced(vault: VaultClient) -> None:
    made = [await vault.create(name) for name in ("a", "b")]
    simulated = await vault.post("/drills", {"issuer": "self"})
    planned = await over(vault, simulated.json()["id"])
    performed = await vault.post("/drills", {"issuer": "Self", "perform": True, "reason": "An exercise."})
    done = await over(vault, performed.json()["id"])
    now = [(await vault.get(f"/certificates/{name}/")).json() for name in ("a", "b")]
    page = (await vault.get(f"/drills/{done['id']}/certificates?state=replaced&maxresults=1")).json()
    rest = (await vault.get(page["nextLink"].removeprefix(vault.base), version=None)).json()

    assert (202, "planning") == (simulated.status_code, simulated.json()["stage"])
    assert {"total": 2, "ready": 2, "asked": 0, "failing": 0, "replaced": 0, "person": 0} == planned["certificates"]
    assert {"seconds_each", "measured", "finished", "after_24_hours", "after_5_days"} <= set(planned["estimate"])
    assert {"total": 2, "ready": 0, "asked": 0, "failing": 0, "replaced": 2, "person": 0} == done["certificates"]
    assert done["rate"] > 0
    assert all(before["id"] != after["id"] for before, after in zip(made, now, strict=True))
    assert ["a", "b"] == [each["name"] for each in (*page["value"], *rest["value"])]
    assert None is rest["nextLink"]
    assert [done["id"], planned["id"]] == [each["id"] for each in (await vault.get("/drills")).json()["value"]]
    assert 200 == (await vault.post(f"/drills/{done['id']}/stop")).status_code


async def test_drills_are_for_those_who_may_make_certificates(broker: MemoryBroker, vault: VaultClient) -> None:
    await vault.create("a")
    scope = f"/vaults/{vault.vault}"
    reader = vault.acting(broker.token(("Key Vault Reader", scope)))
    officer = vault.acting(broker.token(("Key Vault Certificates Officer", scope)))

    assert "Key Vault Certificates Officer" in ROLES
    assert 403 == (await reader.post("/drills", {"issuer": "Self"})).status_code
    assert 200 == (await reader.get("/drills")).status_code
    assert 202 == (await officer.post("/drills", {"issuer": "Self"})).status_code


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 400), ({"issuer": ""}, 400), ({"issuer": "nowhere"}, 404), ({"issuer": "Self", "batch": 0}, 400), ([], 400)],
)
async def test_bad_input_is_refused(vault: VaultClient, body: Any, status: int) -> None:
    await vault.create("a")

    assert status == (await vault.post("/drills", body)).status_code
    assert 404 == (await vault.get("/drills/none")).status_code
    assert 404 == (await vault.post("/drills/none/stop")).status_code


async def test_administrators_drill_all_vaults(
    broker: MemoryBroker, http: httpx.AsyncClient, vault: VaultClient
) -> None:
    await vault.create("a")
    token = broker.token(("Broker Administrator", "/"), audience=broker.hosts.management_audience)
    headers = {"authorization": f"Bearer {token}"}
    started = await http.post(f"{AUTHORITY}/admin/drills", json={"issuer": "Self"}, headers=headers)
    drill = f"{AUTHORITY}/admin/drills/{started.json()['id']}"
    found = await ended(lambda: http.get(drill, headers=headers))
    listed = (await http.get(f"{drill}/certificates", headers=headers)).json()["value"]

    assert 200 == started.status_code
    assert "vault" not in found
    assert {"vault": vault.vault, "name": "a", "state": "ready"}.items() <= next(
        each for each in listed if each["vault"] == vault.vault
    ).items()
    assert 404 == (await vault.get(f"/drills/{found['id']}")).status_code
    assert 400 == (await http.post(f"{AUTHORITY}/admin/drills", json={"x": 1}, headers=headers)).status_code
