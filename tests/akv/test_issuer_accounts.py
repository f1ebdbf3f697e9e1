"""Accounts of issuers on the wire, where there is no CA; `tests/faults/test_kill_account.py` has one."""

from __future__ import annotations

import pytest

from tests.support.memory_broker import MemoryBroker, VaultClient

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("akv-issuer-accounts")]

REQUESTS = [("GET", ""), ("POST", "/rollover"), ("POST", "/deactivate")]
UNREACHABLE = {"provider": "ACME", "org_details": {"id": "directory=https://127.0.0.1:9/directory"}}


@pytest.mark.parametrize(("method", "path"), REQUESTS)
async def test_an_issuer_without_an_account_says_why(vault: VaultClient, method: str, path: str) -> None:
    await vault.put("/certificates/issuers/other", {"provider": "DigiCert"})

    unknown = await vault.send(method, f"/certificates/issuers/nobody/account{path}")
    foreign = await vault.send(method, f"/certificates/issuers/other/account{path}")

    assert (404, "CertificateIssuerNotFound") == (unknown.status_code, unknown.json()["error"]["code"])
    assert 400 == foreign.status_code
    assert "'DigiCert' is not one that is installed here" in foreign.json()["error"]["message"]


async def test_a_ca_that_cannot_be_asked_is_no_error_of_the_caller(vault: VaultClient) -> None:
    await vault.put("/certificates/issuers/ca", UNREACHABLE)

    answer = await vault.get("/certificates/issuers/ca/account")

    assert (503, "ServiceUnavailable") == (answer.status_code, answer.json()["error"]["code"])
    assert "egress policy" in answer.json()["error"]["message"]


async def test_who_may_read_issuers_may_not_change_their_accounts(broker: MemoryBroker, vault: VaultClient) -> None:
    await vault.put("/certificates/issuers/ca", UNREACHABLE)
    reader = vault.acting(broker.token(("Key Vault Reader", "/")))

    statuses = [
        (await reader.send(method, f"/certificates/issuers/ca/account{path}")).status_code for method, path in REQUESTS
    ]

    assert [503, 403, 403] == statuses


async def test_there_is_nothing_else_below_an_issuer(vault: VaultClient) -> None:
    await vault.put("/certificates/issuers/ca", UNREACHABLE)

    assert 404 == (await vault.get("/certificates/issuers/ca/other")).status_code
    assert 404 == (await vault.post("/certificates/issuers/ca/account")).status_code
