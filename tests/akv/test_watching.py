"""What is known of revocation over the wire; `tests/faults/test_kill_watch.py` has a CA that revokes."""

from __future__ import annotations

import pytest

from tests.support.certificates import Authority
from tests.support.memory_broker import MemoryBroker, VaultClient
from tests.support.revocation import points_at

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("akv-watching")]


async def test_a_certificate_that_names_nobody_is_not_covered(vault: VaultClient) -> None:
    await vault.create("c")

    asked = await vault.post("/certificates/c/revocation/check")
    shown = (await vault.get("/certificates/c/revocation")).json()
    health = (await vault.get("/certificates/c/lifecycle")).json()["revocation"]

    assert 200 == asked.status_code, asked.text
    assert asked.json() == shown
    assert ("NotCovered", [], []) == (shown["standing"], shown["chain"], shown["sources"])
    assert health.items() <= shown.items()


async def test_a_source_at_a_private_address_is_refused_and_that_is_shown(vault: VaultClient) -> None:
    url = "http://127.0.0.1:9/list.crl"
    pem = Authority().issue(extensions=points_at(crl=url)).pem()
    assert 200 == (await vault.post("/certificates/c/import", {"value": pem})).status_code

    found = (await vault.post("/certificates/c/revocation/check")).json()

    assert "Unreachable" == found["standing"]
    assert url == found["source"]
    assert "which is not public" in found["reason"]
    assert [("crl", "stale", url)] == [(each["kind"], each["status"], each["url"]) for each in found["sources"]]
    assert "which is not public" in found["sources"][0]["problem"]
    assert ["Unreachable"] == [each["standing"] for each in found["chain"]]


async def test_who_may_only_read_may_not_have_others_asked(broker: MemoryBroker, vault: VaultClient) -> None:
    await vault.create("c")
    reader = vault.acting(broker.token(("Key Vault Reader", "/")))

    assert 200 == (await reader.get("/certificates/c/revocation")).status_code
    assert 403 == (await reader.post("/certificates/c/revocation/check")).status_code
    assert 404 == (await vault.post("/certificates/nothing/revocation/check")).status_code
    assert 404 == (await vault.get("/certificates/nothing/revocation")).status_code
