"""Lifting what a CA has asked for, on the wire."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certbroker.domain.budget import PlannedOrder, Scope
from certbroker.services.issuers.registered_domains import registered_domain
from tests.support.memory_broker import MemoryBroker, VaultClient, self_signed_policy

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("akv-holds")]

# The egress policy refuses it, so that a request shows that it was tried, and goes nowhere.
DIRECTORY = "https://127.0.0.1:9/directory"
ISSUER = {"provider": "ACME", "org_details": {"id": f"directory={DIRECTORY}"}}
LIMITS = "/certificates/issuers/ca/limits"


async def hold(broker: MemoryBroker, scope: Scope, name: str = "www.example.com") -> None:
    order = PlannedOrder("", "", DIRECTORY, "", (name,))
    until = datetime.now(UTC) + timedelta(hours=1)
    await asyncio.to_thread(broker.broker.governor.hold, order, scope, order.names, until, "Come back later.")


async def held(vault: VaultClient, name: str = "") -> list[str]:
    states = (await vault.get(f"{LIMITS}?names={name}")).json()["value"]
    return [state["scope"] for state in states if "held" in state]


async def test_what_binds_an_issuer_and_an_order_is_lifted_and_nothing_else(
    broker: MemoryBroker, vault: VaultClient
) -> None:
    await vault.put("/certificates/issuers/ca", ISSUER)
    for scope in (Scope.CA, Scope.ACCOUNT, Scope.NAMES, Scope.DOMAIN, Scope.NAME):
        await hold(broker, scope)
    await hold(broker, Scope.DOMAIN, "www.example.org")
    assert "example.com" == registered_domain("www.example.com")
    assert ["ca", "account", "names", "domain", "name"] == await held(vault, "www.example.com")

    lifted = await vault.post(f"{LIMITS}/lift?names=www.example.com")

    assert 200 == lifted.status_code
    assert not [state for state in lifted.json()["value"] if "held" in state]
    assert [] == await held(vault, "www.example.com")
    assert ["domain"] == await held(vault, "www.example.org")
    assert 1 == len(await asyncio.to_thread(recorded, broker, "CertificateIssuerLimitsLift"))
    again = await vault.post(f"{LIMITS}/lift?names=www.example.com")
    assert lifted.json()["value"][0]["scope"] == again.json()["value"][0]["scope"]


async def test_what_waits_for_the_issuer_is_tried_at_once(broker: MemoryBroker, vault: VaultClient) -> None:
    await vault.put("/certificates/issuers/ca", ISSUER)
    await hold(broker, Scope.CA)
    await vault.post("/certificates/waits/create", {"policy": self_signed_policy(issuer={"name": "ca"})})
    assert "The CA wants no requests" in await detail(vault, "The CA wants no")

    await vault.post(f"{LIMITS}/lift")

    assert "egress policy" in await detail(vault, "egress policy")


async def test_who_may_read_issuers_may_not_lift(broker: MemoryBroker, vault: VaultClient) -> None:
    await vault.put("/certificates/issuers/ca", ISSUER)
    await hold(broker, Scope.ACCOUNT)
    reader = vault.acting(broker.token(("Key Vault Reader", "/")))

    assert 403 == (await reader.post(f"{LIMITS}/lift")).status_code
    assert ["account"] == await held(reader)


async def test_names_that_are_none_and_issuers_that_are_not_there_are_refused(vault: VaultClient) -> None:
    await vault.put("/certificates/issuers/ca", ISSUER)

    assert 400 == (await vault.post(f"{LIMITS}/lift?names=-")).status_code
    assert 404 == (await vault.post("/certificates/issuers/nobody/limits/lift")).status_code


async def detail(vault: VaultClient, wanted: str) -> str:
    """What the pending operation says, once that is in it."""
    async with asyncio.timeout(20):
        while True:
            operation: dict[str, Any] = (await vault.get("/certificates/waits/pending")).json()
            if wanted in operation.get("status_details", ""):
                return str(operation["status_details"])
            await asyncio.sleep(0.05)


def recorded(broker: MemoryBroker, operation: str) -> list[str]:
    rows = broker.broker.store.glance().lifecycles._cursor.execute(
        "SELECT record FROM audit WHERE instr(record, ?)", (f'"{operation}"',)
    )
    return [str(row[0]) for row in rows.fetchall()]
