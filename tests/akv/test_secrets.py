"""Secrets on the wire."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from certbroker.services.objects import backup
from tests.support.memory_broker import MemoryBroker, VaultClient

pytestmark = pytest.mark.anyio


async def _set(vault: VaultClient, name: str = "n", value: str = "v", **body: Any) -> dict[str, Any]:
    answer = await vault.put(f"/secrets/{name}", {"value": value} | body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _version(bundle: dict[str, Any]) -> str:
    return str(bundle["id"].rpartition("/")[2])


async def test_a_bundle_has_exactly_the_documented_members(vault: VaultClient) -> None:
    made = await _set(vault, contentType="text/plain", tags={"a": "b"}, attributes={"nbf": 5, "exp": 32503680000})

    assert {"id", "value", "contentType", "attributes", "tags"} == made.keys()
    assert f"{vault.base}/secrets/n/{_version(made)}" == made["id"]
    assert 32 == len(_version(made))
    assert {"enabled", "nbf", "exp", "created", "updated", "recoveryLevel", "recoverableDays"} == made[
        "attributes"
    ].keys()
    assert (5, 32503680000) == (made["attributes"]["nbf"], made["attributes"]["exp"])
    assert made == (await vault.get("/secrets/n/")).json()
    assert made == (await vault.get(f"/secrets/n/{_version(made)}")).json()


@pytest.mark.parametrize("path", ["/secrets/n", "/secrets/n/", "/SECRETS/N/", "/Secrets/N"])
async def test_the_version_may_be_absent_or_empty_and_case_does_not_matter(vault: VaultClient, path: str) -> None:
    await _set(vault, "n", "value")
    answer = await vault.get(path)

    assert (200, "value") == (answer.status_code, answer.json()["value"])
    assert "/secrets/n/" in answer.json()["id"]


async def test_versions_are_found_in_upper_case(vault: VaultClient) -> None:
    version = _version(await _set(vault))

    assert 200 == (await vault.get(f"/secrets/n/{version.upper()}")).status_code


async def test_a_name_keeps_the_spelling_of_its_first_version(vault: VaultClient) -> None:
    await _set(vault, "Mixed-Case")
    again = await _set(vault, "mixed-CASE", "other")

    assert f"{vault.base}/secrets/Mixed-Case/{_version(again)}" == again["id"]
    assert [f"{vault.base}/secrets/Mixed-Case"] == [
        item["id"] for item in (await vault.get("/secrets")).json()["value"]
    ]


async def test_javascript_escapes_the_hyphen_of_api_version(vault: VaultClient) -> None:
    await _set(vault)

    assert 200 == (await vault.get("/secrets/n/?api%2Dversion=7.6", version=None)).status_code


async def test_a_patch_keeps_what_it_does_not_name_and_replaces_the_tags(vault: VaultClient) -> None:
    made = await _set(vault, contentType="one", tags={"a": "1", "b": "2"}, attributes={"exp": 32503680000})
    changed = (await vault.patch(f"/secrets/n/{_version(made)}", {"tags": {"c": "3"}})).json()

    assert ({"c": "3"}, "one", 32503680000) == (
        changed["tags"],
        changed["contentType"],
        changed["attributes"]["exp"],
    )
    assert "value" not in changed
    assert {} == (await vault.patch("/secrets/n", {"tags": {}})).json()["tags"]
    assert {} == (await vault.patch("/secrets/n/", {"contentType": "two"})).json()["tags"]
    assert "two" == (await vault.get("/secrets/n")).json()["contentType"]


async def test_updated_moves_with_a_patch_and_created_does_not(vault: VaultClient) -> None:
    made = (await _set(vault))["attributes"]
    await asyncio.sleep(1.01)
    changed = (await vault.patch("/secrets/n", {"attributes": {"enabled": True}})).json()["attributes"]

    assert made["updated"] < changed["updated"]
    assert made["created"] == changed["created"]


async def test_a_disabled_secret_is_refused_to_readers_only(vault: VaultClient) -> None:
    await _set(vault, attributes={"enabled": False})
    answer = await vault.get("/secrets/n")

    assert 403 == answer.status_code
    assert ("Forbidden", "SecretDisabled") == (
        answer.json()["error"]["code"],
        answer.json()["error"]["innererror"]["code"],
    )
    assert not (await vault.get("/secrets")).json()["value"][0]["attributes"]["enabled"]
    assert 200 == (await vault.patch("/secrets/n", {"attributes": {"enabled": True}})).status_code
    assert 200 == (await vault.get("/secrets/n")).status_code


async def test_validity_is_for_information_only(vault: VaultClient) -> None:
    await _set(vault, attributes={"nbf": 1, "exp": 2})

    assert 200 == (await vault.get("/secrets/n")).status_code


async def test_items_of_lists_have_no_value_and_no_version(vault: VaultClient) -> None:
    await _set(vault, contentType="old")
    await _set(vault, "n", "second", contentType="new", tags={"a": "b"})
    answer = await vault.get("/secrets")

    (item,) = answer.json()["value"]
    assert answer.json()["nextLink"] is None
    assert {"id", "contentType", "attributes", "tags"} == item.keys()
    assert (f"{vault.base}/secrets/n", "new", {"a": "b"}) == (item["id"], item["contentType"], item["tags"])
    assert ("Recoverable+Purgeable", 90) == (
        item["attributes"]["recoveryLevel"],
        item["attributes"]["recoverableDays"],
    )


async def test_versions_of_an_unknown_secret_are_an_empty_page(vault: VaultClient) -> None:
    answer = await vault.get("/secrets/unknown/versions")

    assert (200, {"value": [], "nextLink": None}) == (answer.status_code, answer.json())


async def test_deleted_secrets_keep_their_id_and_say_how_to_get_them_back(vault: VaultClient) -> None:
    made = await _set(vault, tags={"a": "b"})
    deleted = (await vault.delete("/secrets/n")).json()

    assert made["id"] == deleted["id"]
    assert f"{vault.base}/deletedsecrets/n" == deleted["recoveryId"]
    assert 90 * 86400 == deleted["scheduledPurgeDate"] - deleted["deletedDate"]
    assert "value" not in deleted
    assert deleted == (await vault.get("/deletedsecrets/n")).json()
    (item,) = (await vault.get("/deletedsecrets")).json()["value"]
    assert f"{vault.base}/secrets/n" == item["id"]
    assert deleted["recoveryId"] == item["recoveryId"]
    assert [] == (await vault.get("/secrets")).json()["value"]
    assert [] == (await vault.get("/secrets/n/versions")).json()["value"]
    assert 404 == (await vault.get("/secrets/n")).status_code
    assert 404 == (await vault.get(f"/secrets/n/{_version(made)}")).status_code
    assert 404 == (await vault.delete("/secrets/n")).status_code
    recovered = await vault.post("/deletedsecrets/n/recover")
    assert (200, made["id"], {"a": "b"}) == (recovered.status_code, recovered.json()["id"], recovered.json()["tags"])
    assert 404 == (await vault.get("/deletedsecrets/n")).status_code
    assert 404 == (await vault.post("/deletedsecrets/n/recover")).status_code


async def test_a_purge_leaves_nothing(vault: VaultClient) -> None:
    await _set(vault)
    assert 404 == (await vault.delete("/deletedsecrets/n")).status_code
    await vault.delete("/secrets/n")
    purged = await vault.delete("/deletedsecrets/n")

    assert (204, b"") == (purged.status_code, purged.content)
    assert 404 == (await vault.delete("/deletedsecrets/n")).status_code
    assert 1 == len((await vault.get(f"/secrets/{(await _set(vault))['id'].split('/')[4]}/versions")).json()["value"])


@pytest.mark.parametrize("days", [7, 45, 89, 90])
@pytest.mark.parametrize("protected", [False, True])
async def test_the_recovery_level_tells_what_the_vault_promises(
    broker: MemoryBroker, vault: VaultClient, days: int, protected: bool
) -> None:
    vault = VaultClient(vault.http, vault.token, broker.new_vault(days=days, purge_protection=protected))
    attributes = (await _set(vault))["attributes"]

    name = "Recoverable" if days == 90 else "CustomizedRecoverable"
    assert (name if protected else f"{name}+Purgeable", days) == (
        attributes["recoveryLevel"],
        attributes["recoverableDays"],
    )
    deleted = (await vault.delete("/secrets/n")).json()
    assert days * 86400 == deleted["scheduledPurgeDate"] - deleted["deletedDate"]
    purge = await vault.delete("/deletedsecrets/n")
    assert (403 if protected else 204) == purge.status_code
    assert (200 if protected else 404) == (await vault.get("/deletedsecrets/n")).status_code


async def test_a_backup_holds_all_versions_and_opens_in_another_vault(broker: MemoryBroker, vault: VaultClient) -> None:
    await _set(vault, "Name", "one", tags={"a": "1"})
    await vault.patch("/secrets/name", {"attributes": {"enabled": False}})
    await _set(vault, "Name", "two")
    blob = (await vault.post("/secrets/name/backup")).json()
    before = (await vault.get("/secrets/name/versions")).json()["value"]
    other = VaultClient(vault.http, vault.token, broker.new_vault())
    restored = await other.post("/secrets/restore", blob)

    assert 200 == restored.status_code
    assert restored.json()["id"].startswith(f"{other.base}/secrets/Name/")
    assert "value" not in restored.json()
    assert "two" == (await other.get("/secrets/NAME")).json()["value"]
    after = (await other.get("/secrets/name/versions")).json()["value"]
    assert before == [item | {"id": item["id"].replace(other.base, vault.base)} for item in after]


async def test_a_backup_that_is_larger_than_other_requests_can_be_restored(vault: VaultClient) -> None:
    versions = {_version(await _set(vault, "big", "x" * 25_000)) for _ in range(60)}
    blob = (await vault.post("/secrets/big/backup")).json()
    await vault.delete("/secrets/big")
    await vault.delete("/deletedsecrets/big")
    restored = await vault.post("/secrets/restore", blob)

    assert len(blob["value"]) > 1_900_000
    assert 200 == restored.status_code
    assert _version(restored.json()) in versions
    assert "x" * 25_000 == (await vault.get("/secrets/big")).json()["value"]
    assert 413 == (await vault.post("/secrets/big/backup", blob)).status_code
    assert 413 == (await vault.post("/secrets/restore", {"value": "A" * (40 << 20)})).status_code


async def test_a_backup_that_could_not_be_restored_is_refused(
    vault: VaultClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "MAX_BYTES", 1000)
    await _set(vault, "n", "x" * 2000)
    answer = await vault.post("/secrets/n/backup")

    assert (400, "BadParameter") == (answer.status_code, answer.json()["error"]["code"])
    assert "1000 are the most that can be restored" in answer.json()["error"]["message"]


async def test_a_restore_never_overwrites(vault: VaultClient) -> None:
    await _set(vault)
    blob = (await vault.post("/secrets/n/backup")).json()
    live = await vault.post("/secrets/restore", blob)
    await vault.delete("/secrets/n")
    deleted = await vault.post("/secrets/restore", blob)

    assert (409, "Conflict") == (live.status_code, live.json()["error"]["code"])
    assert (409, "ObjectIsDeletedButRecoverable") == (
        deleted.status_code,
        deleted.json()["error"]["innererror"]["code"],
    )


async def test_a_backup_that_was_altered_or_is_of_another_kind_is_refused(vault: VaultClient) -> None:
    await _set(vault)
    await vault.create("c")
    blob = (await vault.post("/secrets/n/backup")).json()["value"]
    certificate = (await vault.post("/certificates/c/backup")).json()
    middle = len(blob) // 2
    altered = blob[:middle] + ("A" if blob[middle] != "A" else "B") + blob[middle + 1 :]
    await vault.delete("/secrets/n")
    await vault.delete("/deletedsecrets/n")

    for value in (altered, blob[:-8], blob[8:], "", "AAAA", "Q0JCMQ", "Q0JCMZMBxADEAA", certificate["value"]):
        answer = await vault.post("/secrets/restore", {"value": value})
        assert (400, "BadParameter") == (answer.status_code, answer.json()["error"]["code"]), value
    assert 400 == (await vault.post("/certificates/restore", {"value": blob})).status_code
    assert {"c"} == {item["id"].rpartition("/")[2] for item in (await vault.get("/secrets")).json()["value"]}


async def test_tags_have_limits(vault: VaultClient) -> None:
    await _set(vault, tags={f"{number}": "x" * 256 for number in range(15)})
    await _set(vault, tags={"k" * 256: ""})

    for tags in ({f"{number}": "" for number in range(16)}, {"k" * 257: ""}, {"k": "x" * 257}, {"k": None}, ["k"]):
        answer = await vault.put("/secrets/other", {"value": "v", "tags": tags})
        assert (400, "BadParameter") == (answer.status_code, answer.json()["error"]["code"])
    assert 404 == (await vault.get("/secrets/other")).status_code


@pytest.mark.parametrize(
    "attributes",
    [{"exp": -1}, {"exp": 2**53}, {"nbf": 10, "exp": 10}, {"nbf": "10"}, {"enabled": "true"}, {"exp": 1.5}, []],
)
async def test_attributes_that_make_no_sense_are_refused(vault: VaultClient, attributes: Any) -> None:
    answer = await vault.put("/secrets/n", {"value": "v", "attributes": attributes})

    assert 400 == answer.status_code
    assert [] == (await vault.get("/secrets")).json()["value"]


async def test_only_the_secret_of_a_certificate_is_converted(vault: VaultClient) -> None:
    await _set(vault)
    await vault.create("c")

    assert 400 == (await vault.get("/secrets/n?outContentType=application/x-pem-file")).status_code
    assert 400 == (await vault.get("/secrets/c?outContentType=text/plain")).status_code
    converted = (await vault.get("/secrets/c?outContentType=application/x-pem-file")).json()
    assert converted["value"].startswith("-----BEGIN PRIVATE KEY-----")
    assert "application/x-pem-file" == converted["contentType"]
