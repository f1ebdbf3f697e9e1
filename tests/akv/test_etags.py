"""A client that has what is current already is told so, and sent nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.memory_broker import MemoryBroker, VaultClient

pytestmark = pytest.mark.anyio


async def tag_of(vault: VaultClient, path: str) -> str:
    answer = await vault.get(path)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["etag"])


@pytest.mark.parametrize(
    "path", ["/secrets/n", "/secrets/c", "/certificates/c", "/secrets/c?outContentType=application/x-pem-file"]
)
async def test_what_has_not_changed_is_not_sent_again(vault: VaultClient, path: str) -> None:
    await vault.put("/secrets/n", {"value": "v"})
    await vault.create("c")
    tag = await tag_of(vault, path)
    for sent in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        same = await vault.get(path, headers={"if-none-match": sent})

        assert (304, b"", tag) == (same.status_code, same.content, same.headers["etag"])
        assert "content-length" not in same.headers
    other = await vault.get(path, headers={"if-none-match": '"0123456789abcdef01234567"'})

    assert (200, tag) == (other.status_code, other.headers["etag"])
    assert re.fullmatch(r'"[0-9a-f]{24}"', tag)


@pytest.mark.parametrize(
    "change",
    [
        {"tags": {"a": "b"}},
        {"attributes": {"exp": 32503680000}},
        {"attributes": {"enabled": True, "nbf": 5}},
        {"contentType": "text/plain"},
    ],
)
async def test_the_tag_is_another_after_any_change_within_the_same_second(
    vault: VaultClient, change: dict[str, Any]
) -> None:
    await vault.put("/secrets/n", {"value": "v"})
    before = await tag_of(vault, "/secrets/n")
    await vault.patch("/secrets/n", change)
    after = await tag_of(vault, "/secrets/n")
    await vault.put("/secrets/n", {"value": "v"})

    assert 3 == len({before, after, await tag_of(vault, "/secrets/n")})


async def test_another_version_or_policy_of_a_certificate_has_another_tag(vault: VaultClient) -> None:
    await vault.create("c")
    secret, certificate = await tag_of(vault, "/secrets/c"), await tag_of(vault, "/certificates/c")
    policy = (await vault.get("/certificates/c/policy")).json()
    await vault.patch("/certificates/c/policy", {"x509_props": policy["x509_props"] | {"validity_months": 7}})
    changed = await tag_of(vault, "/certificates/c")
    same = await tag_of(vault, "/secrets/c")
    await vault.create("c")

    assert certificate != changed
    assert secret == same
    assert 2 == len({secret, await tag_of(vault, "/secrets/c")})


async def test_the_tag_says_nothing_of_the_value_and_differs_by_form(vault: VaultClient) -> None:
    await vault.create("c")

    assert await tag_of(vault, "/secrets/c") != await tag_of(vault, "/secrets/c?outContentType=application/x-pem-file")


async def test_a_tag_opens_nothing(broker: MemoryBroker, vault: VaultClient) -> None:
    await vault.put("/secrets/n", {"value": "v"})
    tag = await tag_of(vault, "/secrets/n")
    stranger = vault.acting(broker.token(("Key Vault Reader", "/")))
    refused = await stranger.get("/secrets/n", headers={"if-none-match": tag})
    nobody = await vault.acting(None).get("/secrets/n", headers={"if-none-match": tag})
    missing = await vault.get("/secrets/nothing", headers={"if-none-match": "*"})

    assert (403, 401, 404) == (refused.status_code, nobody.status_code, missing.status_code)
