"""Listings in pages, as clients follow them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.memory_broker import VaultClient, self_signed_policy

pytestmark = pytest.mark.anyio


async def _pages(vault: VaultClient, path: str) -> list[list[dict[str, Any]]]:
    """All pages, by the links alone: clients keep a link's query and put in their own api-version."""
    pages = []
    version: str | None = "7.6"
    while True:
        body = (await vault.get(path, version=version)).json()
        pages.append(body["value"])
        if body["nextLink"] is None:
            return pages
        assert body["nextLink"].startswith(vault.base + "/")
        assert ["7.6"] == parse_qs(urlsplit(body["nextLink"]).query)["api-version"]
        path, version = body["nextLink"].removeprefix(vault.base), None


@pytest.mark.parametrize("asked", ["true", "1"])
async def test_certificates_without_a_version_are_on_every_page_where_they_are_asked_for(
    vault: VaultClient, asked: str
) -> None:
    policy = self_signed_policy(issuer={"name": "Unknown"})
    for number in range(5):
        await vault.post(f"/certificates/pending-{number}/create", {"policy": policy})
    pages = await _pages(vault, f"/certificates?includePending={asked}&maxresults=2")

    assert [2, 2, 1] == [len(page) for page in pages]
    assert [[]] == await _pages(vault, "/certificates?maxresults=2")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 25])
async def test_every_object_is_on_exactly_one_page(vault: VaultClient, size: int) -> None:
    names = [f"name-{number}" for number in range(7)]
    for name in names:
        await vault.put(f"/secrets/{name}", {"value": "v"})
    pages = await _pages(vault, f"/secrets?maxresults={size}")

    assert names == [item["id"].rpartition("/")[2] for page in pages for item in page]
    assert all(size == len(page) for page in pages[:-1])
    assert 0 < len(pages[-1]) <= size


async def test_a_page_has_25_items_by_default(vault: VaultClient) -> None:
    for number in range(26):
        await vault.put(f"/secrets/n{number:02}", {"value": "v"})

    assert [25, 1] == [len(page) for page in await _pages(vault, "/secrets")]


async def test_versions_and_deleted_objects_come_in_pages_too(vault: VaultClient) -> None:
    for _ in range(5):
        await vault.put("/secrets/n", {"value": "v"})
    versions = await _pages(vault, "/secrets/n/versions?maxresults=2")
    for name in ("a", "b", "c"):
        await vault.put(f"/secrets/{name}", {"value": "v"})
        await vault.delete(f"/secrets/{name}")
    deleted = await _pages(vault, "/deletedsecrets?maxresults=1")

    ids = [item["id"].rpartition("/")[2] for page in versions for item in page]
    assert (sorted(ids), [2, 2, 1]) == (ids, [len(page) for page in versions])
    assert [["a"], ["b"], ["c"]] == [[item["id"].rpartition("/")[2] for item in page] for page in deleted]


async def test_certificates_and_issuers_come_in_pages(vault: VaultClient) -> None:
    for name in ("a", "b", "c"):
        await vault.create(name)
        await vault.put(f"/certificates/issuers/{name}", {"provider": "Test"})

    assert [2, 1] == [len(page) for page in await _pages(vault, "/certificates?maxresults=2")]
    assert [2, 1] == [len(page) for page in await _pages(vault, "/keys?maxresults=2")]
    assert [2, 1] == [len(page) for page in await _pages(vault, "/certificates/issuers?maxresults=2")]


async def test_a_listing_goes_on_where_it_was_when_its_last_item_is_deleted_meanwhile(vault: VaultClient) -> None:
    for name in ("a", "b", "c"):
        await vault.put(f"/secrets/{name}", {"value": "v"})
    first = (await vault.get("/secrets?maxresults=1")).json()
    await vault.delete("/secrets/a")
    rest = (await vault.get(first["nextLink"].removeprefix(vault.base), version=None)).json()

    assert f"{vault.base}/secrets/b" == rest["value"][0]["id"]


@pytest.mark.parametrize("size", ["0", "26", "-1", "x", "", "1.0", "+5", "\uff12", "9" * 5000, "0000000251234", "0x10"])
async def test_other_page_sizes_are_refused(vault: VaultClient, size: str) -> None:
    answer = await vault.get(f"/secrets?maxresults={size}")

    assert (400, "BadParameter") == (answer.status_code, answer.json()["error"]["code"])


@pytest.mark.parametrize("token", ["!", "é", "AAA=A", "_", "gA", "%00", "A" * 5000])
async def test_a_token_that_was_not_given_out_is_refused_or_finds_nothing(vault: VaultClient, token: str) -> None:
    answer = await vault.get(f"/secrets?$skiptoken={token}")

    assert answer.status_code in (200, 400)
    assert [] == answer.json().get("value", [])


async def test_links_carry_the_host_that_the_client_used(vault: VaultClient) -> None:
    for name in ("a", "b"):
        await vault.put(f"/secrets/{name}", {"value": "v"})
    answer = await vault.get("/secrets?maxresults=1", headers={"host": f"{vault.vault.upper()}.VAULT.example:9999"})

    assert answer.json()["nextLink"].startswith(f"https://{vault.vault}.vault.example:9999/secrets?")
    assert f"https://{vault.vault}.vault.example:9999/secrets/a" == answer.json()["value"][0]["id"]
