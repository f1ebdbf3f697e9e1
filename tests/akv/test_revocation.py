"""Revocation over the wire, where there is no CA; `tests/faults/test_kill_revocation.py` has one."""

from __future__ import annotations

import pytest

from tests.support.certificates import Authority
from tests.support.memory_broker import MemoryBroker, VaultClient

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("akv-revocation")]

UNREACHABLE = {"provider": "ACME", "org_details": {"id": "directory=https://127.0.0.1:9/directory;challenge=http-01"}}


async def brought(vault: VaultClient) -> str:
    """The path of a version that an issuer named `ca` has not made and cannot be asked about."""
    await vault.put("/certificates/issuers/ca", UNREACHABLE)
    pem = Authority().issue().pem()
    answer = await vault.post("/certificates/c/import", {"value": pem})
    assert 200 == answer.status_code, answer.text
    return f"/certificates/c/{answer.json()['id'].rpartition('/')[2]}"


async def test_a_ca_that_cannot_be_asked_leaves_it_pending_and_visible(vault: VaultClient) -> None:
    path = await brought(vault)

    answer = await vault.post(f"{path}/revoke", {"reason": "KEYcompromise", "issuer": "ca"})
    shown = (await vault.get(path)).json()["revocation"]
    changed = (await vault.patch(path, {"tags": {"team": "web"}})).json()["revocation"]

    assert 202 == answer.status_code
    assert ("pending", "keyCompromise", "ca", False) == tuple(
        answer.json()[field] for field in ("status", "reason", "issuer", "renew")
    )
    assert "egress policy" in answer.json()["problem"]
    assert answer.json()["next_try"] > answer.json()["requested"]
    assert answer.json() == shown == changed == (await vault.get("/certificates/c/")).json()["revocation"]


async def test_a_certificate_that_nobody_revokes_looks_as_in_azure(vault: VaultClient) -> None:
    path = await brought(vault)

    assert "revocation" not in (await vault.get(path)).json()


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"reason": 1},
        {"reason": "cACompromise"},
        {"reason": "certificateHold"},
        {"reason": "superseded", "renew": "yes"},
        {"reason": "superseded", "issuer": 1},
    ],
)
async def test_a_body_that_is_none_is_refused(vault: VaultClient, body: object) -> None:
    path = await brought(vault)

    assert 400 == (await vault.post(f"{path}/revoke", body)).status_code
    assert "revocation" not in (await vault.get(path)).json()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/certificates/c//revoke", 400),
        ("/certificates/c/pending/revoke", 400),
        (f"/certificates/c/{'0' * 32}/revoke", 404),
        (f"/certificates/nobody/{'0' * 32}/revoke", 404),
        ("/certificates/c/revoke", 404),
    ],
)
async def test_only_a_version_can_be_revoked(vault: VaultClient, path: str, status: int) -> None:
    await brought(vault)

    assert status == (await vault.post(path, {"reason": "superseded", "issuer": "ca"})).status_code


async def test_a_self_signed_certificate_is_refused_with_the_way_out(vault: VaultClient) -> None:
    version = (await vault.create("own"))["id"].rpartition("/")[2]
    answer = await vault.post(f"/certificates/own/{version}/revoke", {"reason": "superseded"})

    assert 400 == answer.status_code
    assert "make a new version" in answer.json()["error"]["message"]


async def test_officers_may_and_readers_may_not(broker: MemoryBroker, vault: VaultClient) -> None:
    path = await brought(vault)
    statuses = {}
    for role in ("Key Vault Reader", "Key Vault Certificate User", "Key Vault Secrets Officer",
                 "Key Vault Certificates Officer", "Key Vault Administrator"):  # fmt: skip
        holder = vault.acting(broker.token((role, f"/vaults/{vault.vault}/certificates/c")))
        answer = await holder.post(f"{path}/revoke", {"reason": "superseded", "issuer": "ca"})
        statuses[role.removeprefix("Key Vault ")] = answer.status_code
    elsewhere = vault.acting(broker.token(("Key Vault Administrator", f"/vaults/{vault.vault}/certificates/d")))

    assert {
        "Reader": 403,
        "Certificate User": 403,
        "Secrets Officer": 403,
        "Certificates Officer": 202,
        "Administrator": 202,
    } == statuses
    assert 403 == (await elsewhere.post(f"{path}/revoke", {"reason": "superseded"})).status_code


async def test_nobody_hears_which_versions_there_are(vault: VaultClient) -> None:
    path = await brought(vault)
    stranger = vault.acting(None)

    assert 401 == (await stranger.post(f"{path}/revoke", {"reason": "superseded"})).status_code
