"""What each role may do, and where."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.support.memory_broker import MemoryBroker, VaultClient, self_signed_policy

pytestmark = pytest.mark.anyio

# One request for each data action, in an order in which all succeed for somebody who may do everything.
REQUESTS: Final[dict[str, tuple[str, str, Any]]] = {
    "secrets/setSecret": ("PUT", "/secrets/{n}", {"value": "v"}),
    "secrets/getSecret": ("GET", "/secrets/{n}/", None),
    "secrets/readMetadata": ("GET", "/secrets", None),
    "secrets/readMetadata versions": ("GET", "/secrets/{n}/versions", None),
    "secrets/readMetadata deleted": ("GET", "/deletedsecrets", None),
    "secrets/update": ("PATCH", "/secrets/{n}", {"tags": {}}),
    "secrets/backup": ("POST", "/secrets/{n}/backup", None),
    "secrets/restore": ("POST", "/secrets/restore", {"value": ""}),
    "secrets/delete": ("DELETE", "/secrets/{n}", None),
    "secrets/readMetadata one deleted": ("GET", "/deletedsecrets/{n}", None),
    "secrets/recover": ("POST", "/deletedsecrets/{n}/recover", None),
    "secrets/purge": ("DELETE", "/deletedsecrets/{n}", None),
    "certificates/create": ("POST", "/certificates/{c}/create", {}),
    "certificates/create merge": ("POST", "/certificates/{c}/pending/merge", {"x5c": []}),
    "certificates/import": ("POST", "/certificates/{c}/import", {"value": ""}),
    "certificates/read": ("GET", "/certificates/{c}/", None),
    "certificates/read list": ("GET", "/certificates", None),
    "certificates/read versions": ("GET", "/certificates/{c}/versions", None),
    "certificates/read policy": ("GET", "/certificates/{c}/policy", None),
    "certificates/read pending": ("GET", "/certificates/{c}/pending", None),
    "certificates/read deleted": ("GET", "/deletedcertificates", None),
    "certificates/update": ("PATCH", "/certificates/{c}", {"tags": {}}),
    "certificates/update policy": ("PATCH", "/certificates/{c}/policy", {}),
    "certificates/update pending": ("PATCH", "/certificates/{c}/pending", {"cancellation_requested": True}),
    "certificates/update forget": ("DELETE", "/certificates/{c}/pending", None),
    "certificates/revoke": ("POST", f"/certificates/{{c}}/{'0' * 32}/revoke", {"reason": "superseded"}),
    "certificates/backup": ("POST", "/certificates/{c}/backup", None),
    "certificates/restore": ("POST", "/certificates/restore", {"value": ""}),
    "certificates/delete": ("DELETE", "/certificates/{c}", None),
    "certificates/recover": ("POST", "/deletedcertificates/{c}/recover", None),
    "certificates/purge": ("DELETE", "/deletedcertificates/{c}", None),
    "certificatecas/read": ("GET", "/certificates/issuers", None),
    "certificatecas/read one": ("GET", "/certificates/issuers/i", None),
    "certificatecas/write": ("PUT", "/certificates/issuers/i", {}),
    "certificatecas/write patch": ("PATCH", "/certificates/issuers/i", {}),
    "certificatecas/delete": ("DELETE", "/certificates/issuers/i", None),
    "certificates/read contacts": ("GET", "/certificates/contacts", None),
    "certificatecontacts/write": ("PUT", "/certificates/contacts", {}),
    "certificatecontacts/write delete": ("DELETE", "/certificates/contacts", None),
    "channels/read": ("GET", "/channels", None),
    "channels/read one": ("GET", "/channels/h", None),
    "channels/read delivery": ("GET", "/channels/h/deliveries/0", None),
    "channels/read dead letters": ("GET", "/channels/h/dead-letters", None),
    "channels/write": ("PUT", "/channels/h", {}),
    "channels/write patch": ("PATCH", "/channels/h", {}),
    "channels/write test": ("POST", "/channels/h/test", None),
    "channels/write retry": ("POST", "/channels/h/dead-letters/retry", None),
    "channels/delete": ("DELETE", "/channels/h", None),
    "keys/read": ("GET", "/keys/{c}/", None),
    "keys/read list": ("GET", "/keys", None),
    "keys/read versions": ("GET", "/keys/{c}/versions", None),
    "keys/read deleted": ("GET", "/deletedkeys", None),
    "keys/read one deleted": ("GET", "/deletedkeys/{c}", None),
    "keys/create": ("POST", "/keys/{c}/create", {}),
    "keys/import": ("PUT", "/keys/{c}", {}),
    "keys/update": ("PATCH", "/keys/{c}/", {}),
    "keys/encrypt": ("POST", "/keys/{c}//encrypt", {}),
    "keys/decrypt": ("POST", "/keys/{c}/decrypt", {}),
    "keys/wrap": ("POST", "/keys/{c}/wrapKey", {}),
    "keys/unwrap": ("POST", "/keys/{c}/unwrapkey", {}),
    "keys/sign": ("POST", "/keys/{c}/sign", {}),
    "keys/verify": ("POST", f"/keys/{{c}}/{'0' * 32}/verify", {}),
    "keys/rotate": ("POST", "/keys/{c}/rotate", None),
    "keyrotationpolicies/read": ("GET", "/keys/{c}/rotationpolicy", None),
    "keyrotationpolicies/write": ("PUT", "/keys/{c}/rotationpolicy", {}),
    "keys/backup": ("POST", "/keys/{c}/backup", None),
    "keys/restore": ("POST", "/keys/restore", {"value": ""}),
    "keys/delete": ("DELETE", "/keys/{c}", None),
    "keys/recover": ("POST", "/deletedkeys/{c}/recover", None),
    "keys/purge": ("DELETE", "/deletedkeys/{c}", None),
}

ALLOWED: Final = {
    "Broker Administrator": tuple(REQUESTS),
    "Key Vault Administrator": tuple(REQUESTS),
    "Key Vault Reader": (
        "secrets/readMetadata",
        "certificates/read",
        "certificatecas/read",
        "channels/read",
        "keys/read",
        "keyrotationpolicies/read",
    ),
    "Key Vault Secrets Officer": ("secrets/",),
    "Key Vault Secrets User": ("secrets/getSecret", "secrets/readMetadata"),
    "Key Vault Certificates Officer": ("certificates/", "certificatecas/", "certificatecontacts/", "channels/"),
    "Key Vault Certificate User": ("certificates/read", "secrets/getSecret", "secrets/readMetadata", "keys/read"),
    "Key Vault Crypto Officer": ("keys/", "keyrotationpolicies/"),
    "Key Vault Crypto User": tuple(
        f"keys/{action}"
        for action in ("read", "update", "encrypt", "decrypt", "wrap", "unwrap", "sign", "verify", "backup")
    ),
    "Key Vault Crypto Service Encryption User": ("keys/read", "keys/wrap", "keys/unwrap"),
}


async def _is_allowed(vault: VaultClient, label: str) -> bool:
    method, path, body = REQUESTS[label]
    answer = await vault.send(method, path.format(n="n", c="c"), body)
    error = answer.json().get("error", {}) if answer.content else {}
    return error.get("innererror", {}).get("code") != "ForbiddenByRbac"


@pytest.mark.parametrize("role", ALLOWED)
async def test_a_role_allows_its_actions_and_no_others(broker: MemoryBroker, vault: VaultClient, role: str) -> None:
    holder = vault.acting(broker.token((role, f"/vaults/{vault.vault}")))
    allowed = {label for label in REQUESTS if await _is_allowed(holder, label)}

    assert {label for label in REQUESTS if label.startswith(ALLOWED[role])} == allowed


async def test_without_a_role_nothing_is_allowed_and_the_answer_says_what_was_missing(
    broker: MemoryBroker, vault: VaultClient
) -> None:
    nobody = vault.acting(broker.token())
    answer = await nobody.put("/secrets/n", {"value": "v"})

    error = answer.json()["error"]
    assert (403, "Forbidden", "ForbiddenByRbac") == (answer.status_code, error["code"], error["innererror"]["code"])
    assert "secrets/setSecret/action" in error["message"]
    assert not [label for label in REQUESTS if await _is_allowed(nobody, label)]


async def test_a_role_in_one_vault_is_none_in_another(broker: MemoryBroker, vault: VaultClient) -> None:
    holder = vault.acting(broker.token(("Key Vault Administrator", f"/vaults/{vault.vault.upper()}/")))
    other = VaultClient(vault.http, holder.token, broker.new_vault())
    longer = VaultClient(vault.http, holder.token, f"{vault.vault}x")

    assert 200 == (await holder.get("/secrets")).status_code
    assert 403 == (await other.get("/secrets")).status_code
    assert 404 == (await longer.get("/secrets")).status_code


async def test_a_role_for_one_object_reaches_that_object_only(broker: MemoryBroker, vault: VaultClient) -> None:
    for name in ("n", "n1", "m"):
        await vault.put(f"/secrets/{name}", {"value": "v"})
    holder = vault.acting(broker.token(("Key Vault Secrets Officer", f"/vaults/{vault.vault}/secrets/N")))

    for path in ("/secrets/n", "/SECRETS/N/", "/secrets/n/versions"):
        assert 200 == (await holder.get(path)).status_code, path
    for path in ("/secrets", "/secrets/n1", "/secrets/m", "/secrets/", "/keys/n", "/certificates/n", "/deletedsecrets"):
        assert 403 == (await holder.get(path)).status_code, path
    assert 403 == (await holder.post("/secrets/restore", {"value": ""})).status_code
    assert 200 == (await holder.delete("/secrets/n")).status_code
    assert 200 == (await holder.get("/deletedsecrets/n")).status_code
    assert 200 == (await holder.post("/deletedsecrets/N/recover")).status_code


@pytest.mark.parametrize("path", ["/secrets/m%2Fn", "/secrets/m%2F..%2Fn", "/secrets/n%00", "/secrets/m/../n"])
async def test_no_spelling_of_a_path_leads_past_an_objects_scope(
    broker: MemoryBroker, vault: VaultClient, path: str
) -> None:
    await vault.put("/secrets/m", {"value": "hidden"})
    holder = vault.acting(broker.token(("Key Vault Secrets User", f"/vaults/{vault.vault}/secrets/n")))
    answer = await holder.get(path)

    assert answer.status_code in (400, 403, 404)


async def test_access_is_decided_before_version_query_and_body(broker: MemoryBroker, vault: VaultClient) -> None:
    nobody = vault.acting(broker.token())

    assert 403 == (await nobody.put("/secrets/n", b"{", version="none")).status_code
    assert 403 == (await nobody.get("/secrets/a_b?x=1&x=2", version=None)).status_code


async def test_a_role_that_is_taken_away_is_gone_at_once(broker: MemoryBroker, vault: VaultClient) -> None:
    management = broker.token(("Broker Administrator", "/"), audience="https://login.example")
    application, secret = broker.application()
    token = broker.broker.tokens.issue(application.id, secret, "https://vault.example", "https://login.example")
    headers = {"authorization": f"Bearer {management}"}
    body = {"application": application.id, "role": "Key Vault Secrets User", "scope": f"/vaults/{vault.vault}"}
    async with broker.client() as admin:
        assert 403 == (await vault.acting(token).get("/secrets")).status_code
        assigned = (await admin.post("/admin/assignments", json=body, headers=headers)).json()
        assert 200 == (await vault.acting(token).get("/secrets")).status_code
        assert 204 == (await admin.delete(f"/admin/assignments/{assigned['id']}", headers=headers)).status_code

    assert 403 == (await vault.acting(token).get("/secrets")).status_code


async def test_a_certificate_user_reads_the_secret_and_a_reader_does_not(
    broker: MemoryBroker, vault: VaultClient
) -> None:
    await vault.create("c", self_signed_policy())
    scope = f"/vaults/{vault.vault}"

    assert (
        200 == (await vault.acting(broker.token(("Key Vault Certificate User", scope))).get("/secrets/c")).status_code
    )
    assert 403 == (await vault.acting(broker.token(("Key Vault Reader", scope))).get("/secrets/c")).status_code
