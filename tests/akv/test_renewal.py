"""Renewal over the wire, and what a policy can say about it beyond Key Vault."""

from __future__ import annotations

import pytest

from tests.support.memory_broker import VaultClient, self_signed_policy

pytestmark = pytest.mark.anyio


async def test_a_renewal_makes_a_new_version_and_says_why(vault: VaultClient) -> None:
    first = await vault.create("c")
    answer = await vault.post("/certificates/c/renew", {"reason": "The key was on a lost laptop."})
    operation = answer.json()
    settled = await vault.settled("c")
    second = (await vault.get("/certificates/c/")).json()

    assert 202 == answer.status_code
    assert "inProgress" == operation["status"]
    assert (
        {
            "trigger": "Operator",
            "reason": "The key was on a lost laptop.",
            "replaces": first["id"],
        }
        == operation["cause"]
        == settled["cause"]
    )
    assert settled["status_details"].startswith("The key was on a lost laptop.")
    assert first["id"] != second["id"]
    assert first["kid"] != second["kid"]


async def test_the_reason_may_be_left_out(vault: VaultClient) -> None:
    await vault.create("c")
    operation = (await vault.post("/certificates/c/renew")).json()

    assert "An operator asked for it." == operation["cause"]["reason"]


async def test_what_cannot_be_renewed_is_refused_with_the_way_out(vault: VaultClient) -> None:
    missing = await vault.post("/certificates/nothing/renew", {})
    await vault.post("/certificates/manual/create", {"policy": self_signed_policy(issuer={"name": "Unknown"})})
    unissued = await vault.post("/certificates/manual/renew", {})

    assert 404 == missing.status_code
    assert 400 == unissued.status_code
    assert "has no version to renew yet" in unissued.json()["error"]["message"]


@pytest.mark.parametrize("body", [{"reason": 1}, {"reason": "x" * 201}, []])
async def test_a_body_that_is_none_is_refused(vault: VaultClient, body: object) -> None:
    await vault.create("c")

    assert 400 == (await vault.post("/certificates/c/renew", body)).status_code  # type: ignore[arg-type]


async def test_a_policy_can_name_standby_issuers_and_a_rest(vault: VaultClient) -> None:
    for name in ("first", "second"):
        await vault.put(
            f"/certificates/issuers/{name}",
            {"provider": "ACME", "org_details": {"id": "directory=https://a.example/d;challenge=http-01"}},
        )
    await vault.create("c")
    renewal = {"standby_issuers": ["second"], "activation_delay_hours": 24}
    changed = await vault.patch("/certificates/c/policy", {"issuer": {"name": "first"}, "renewal": renewal})
    other = await vault.patch("/certificates/c/policy", {"x509_props": {"validity_months": 6}})

    assert renewal == changed.json()["renewal"] == other.json()["renewal"]


async def test_a_policy_without_them_looks_as_in_azure(vault: VaultClient) -> None:
    await vault.create("c")

    assert "renewal" not in (await vault.get("/certificates/c/policy")).json()


@pytest.mark.parametrize(
    "renewal",
    [
        {"standby_issuers": ["nobody"]},
        {"standby_issuers": ["Self"]},
        {"activation_delay_hours": -1},
        {"activation_delay_hours": 100_000},
        {"standby_issuers": "second"},
    ],
)
async def test_nonsense_in_them_is_refused_and_changes_nothing(vault: VaultClient, renewal: object) -> None:
    await vault.create("c")

    assert 400 == (await vault.patch("/certificates/c/policy", {"renewal": renewal})).status_code
    assert "renewal" not in (await vault.get("/certificates/c/policy")).json()
