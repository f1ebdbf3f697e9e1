"""Certificates on the wire, with the keys and secrets behind them."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from tests.support.certificates import Authority, Identity, der, pem
from tests.support.memory_broker import MemoryBroker, VaultClient, self_signed_policy

pytestmark = pytest.mark.anyio

MANUAL = {"policy": self_signed_policy(issuer={"name": "Unknown"})}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _version(bundle: dict[str, Any]) -> str:
    return str(bundle["id"].rpartition("/")[2])


async def _import(vault: VaultClient, identity: Identity, name: str = "c", **body: Any) -> dict[str, Any]:
    answer = await vault.post(f"/certificates/{name}/import", {"value": _b64(identity.pfx())} | body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def _holdings(vault: VaultClient) -> list[Any]:
    """Everything that listings show."""
    paths = (
        "certificates?includePending=true",
        "secrets",
        "keys",
        "deletedcertificates",
        "deletedsecrets",
        "deletedkeys",
    )
    return [(await vault.get(f"/{path}")).json()["value"] for path in paths]


class TestCreate:
    async def test_the_answer_is_202_with_the_place_to_look(self, vault: VaultClient) -> None:
        answer = await vault.post("/certificates/c/create", {"policy": self_signed_policy()})

        body = answer.json()
        assert (202, "inProgress") == (answer.status_code, body["status"])
        location = f"{vault.base}/certificates/c/pending?api-version=7.4&request_id={body['request_id']}"
        assert location == answer.headers["location"]
        assert f"{vault.base}/certificates/c/pending" == body["id"]
        assert ({"name": "Self"}, False) == (body["issuer"], body["cancellation_requested"])
        settled = await vault.settled("c")
        assert ("completed", body["request_id"]) == (settled["status"], settled["request_id"])
        assert f"{vault.base}/certificates/c" == settled["target"]

    async def test_a_request_id_selects_the_operation(self, vault: VaultClient) -> None:
        body = (await vault.post("/certificates/c/create", MANUAL)).json()
        found = await vault.get(f"/certificates/c/pending?request_id={body['request_id']}")
        other = await vault.get(f"/certificates/c/pending?request_id={'0' * 32}")

        assert 200 == found.status_code
        assert (404, "PendingCertificateNotFound") == (other.status_code, other.json()["error"]["code"])
        assert "not found" in other.json()["error"]["message"]

    async def test_of_concurrent_requests_for_one_name_one_is_accepted(self, vault: VaultClient) -> None:
        answers = await asyncio.gather(*(vault.post("/certificates/c/create", MANUAL) for _ in range(8)))

        assert [202] + [409] * 7 == sorted(answer.status_code for answer in answers)
        refused = next(answer.json() for answer in answers if answer.status_code == 409)
        assert "Forbidden" == refused["error"]["code"]
        assert "in progress" in refused["error"]["message"]

    async def test_an_import_waits_for_the_operation_too(self, vault: VaultClient) -> None:
        await vault.post("/certificates/c/create", MANUAL)
        answer = await vault.post("/certificates/c/import", {"value": _b64(Authority().issue().pfx())})

        assert 409 == answer.status_code

    async def test_the_first_version_needs_a_policy_and_later_ones_do_not(self, vault: VaultClient) -> None:
        assert 400 == (await vault.post("/certificates/c/create", {})).status_code
        assert 400 == (await vault.post("/certificates/c/create", b"")).status_code
        first = await vault.create("c")
        assert 202 == (await vault.post("/certificates/c/create", {})).status_code
        await vault.settled("c")
        second = (await vault.get("/certificates/c")).json()
        assert first["policy"] == second["policy"] | {"attributes": first["policy"]["attributes"]}
        assert first["x5t"] != second["x5t"]

    async def test_defaults_are_those_of_key_vault(self, vault: VaultClient) -> None:
        answer = await vault.post("/certificates/c/create", {"policy": {"x509_props": {"subject": "CN=a"}}})

        assert 202 == answer.status_code
        policy = (await vault.get("/certificates/c/policy")).json()
        assert {"exportable": True, "kty": "RSA", "key_size": 2048, "reuse_key": False} == policy["key_props"]
        assert {"contentType": "application/x-pkcs12"} == policy["secret_props"]
        assert ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"] == policy["x509_props"]["ekus"]
        assert (["digitalSignature", "keyEncipherment"], 12) == (
            policy["x509_props"]["key_usage"],
            policy["x509_props"]["validity_months"],
        )
        assert [{"trigger": {"lifetime_percentage": 80}, "action": {"action_type": "AutoRenew"}}] == policy[
            "lifetime_actions"
        ]
        assert {"name": "Unknown"} == policy["issuer"]

    async def test_a_certificate_on_its_way_is_only_in_the_listing_that_asks_for_it(self, vault: VaultClient) -> None:
        await vault.post("/certificates/c/create", MANUAL)

        assert [] == (await vault.get("/certificates")).json()["value"]
        (item,) = (await vault.get("/certificates?includePending=true")).json()["value"]
        assert f"{vault.base}/certificates/c" == item["id"]
        shown = (await vault.get("/certificates/c/")).json()
        assert (f"{vault.base}/certificates/c/pending", False) == (
            shown["pending"]["id"],
            shown["attributes"]["enabled"],
        )
        assert 200 == (await vault.get("/certificates/c/policy")).status_code
        assert [] == (await vault.get("/certificates/c/versions")).json()["value"]

    async def test_a_key_is_used_again_where_the_policy_says_so(self, vault: VaultClient) -> None:
        policy = self_signed_policy(key_props={"kty": "EC", "crv": "P-256", "reuse_key": True})
        first, second = await vault.create("c", policy), await vault.create("c", policy)
        keys = [(await vault.get(f"/keys/c/{_version(each)}")).json()["key"] for each in (first, second)]

        assert keys[0]["x"] == keys[1]["x"]
        assert first["cer"] != second["cer"]

    async def test_tags_and_enabled_come_with_the_version(self, vault: VaultClient) -> None:
        made = await vault.create("c", tags={"a": "b"}, attributes={"enabled": False})

        assert ({"a": "b"}, False) == (made["tags"], made["attributes"]["enabled"])
        assert 403 == (await vault.get("/secrets/c")).status_code


class TestNames:
    async def test_one_version_makes_three_objects_of_the_same_version(self, vault: VaultClient) -> None:
        made = await vault.create("c", tags={"a": "b"})
        version = _version(made)
        key, secret = (await vault.get("/keys/c/")).json(), (await vault.get("/secrets/c/")).json()

        assert f"{vault.base}/keys/c/{version}" == made["kid"] == key["key"]["kid"] == secret["kid"]
        assert f"{vault.base}/secrets/c/{version}" == made["sid"] == secret["id"]
        assert (True, True) == (key["managed"], secret["managed"])
        for other in (key, secret):
            assert {"a": "b"} == other["tags"]
            for label in ("enabled", "nbf", "exp", "created"):
                assert made["attributes"][label] == other["attributes"][label]
        leaf = x509.load_der_x509_certificate(base64.b64decode(made["cer"]))
        assert int(leaf.not_valid_after_utc.timestamp()) == made["attributes"]["exp"]
        assert int(leaf.not_valid_before_utc.timestamp()) == made["attributes"]["nbf"]
        for kind in ("keys", "secrets"):
            (item,) = (await vault.get(f"/{kind}")).json()["value"]
            assert item["managed"]
            (item,) = (await vault.get(f"/{kind}/c/versions")).json()["value"]
            assert item["managed"]

    async def test_the_secret_names_the_version_before_it(self, vault: VaultClient) -> None:
        first = await vault.create("c")
        assert "previousVersion" not in (await vault.get("/secrets/c")).json()
        await vault.create("c")

        assert _version(first) == (await vault.get("/secrets/c")).json()["previousVersion"]

    @pytest.mark.parametrize("issuer", ["Self", "Unknown"])
    async def test_key_and_secret_cannot_be_touched_but_through_the_certificate(
        self, vault: VaultClient, issuer: str
    ) -> None:
        """Also while the first version is on its way, and in a name that is already taken they get 403."""
        await vault.post("/certificates/c/create", {"policy": self_signed_policy(issuer={"name": issuer})})
        if issuer == "Self":
            await vault.settled("c")
            for answer in (
                await vault.patch("/secrets/c", {"tags": {}}),
                await vault.delete("/secrets/c"),
                await vault.post("/secrets/c/backup"),
            ):
                assert (403, "Forbidden") == (answer.status_code, answer.json()["error"]["code"])
        answer = await vault.put("/secrets/C", {"value": "v"})
        assert (403, "Forbidden") == (answer.status_code, answer.json()["error"]["code"])

    async def test_a_secret_is_not_restored_under_a_certificate(self, broker: MemoryBroker, vault: VaultClient) -> None:
        await vault.put("/secrets/c", {"value": "v"})
        blob = (await vault.post("/secrets/c/backup")).json()
        for body in (MANUAL, {"policy": self_signed_policy()}):
            other = VaultClient(vault.http, vault.token, broker.new_vault())
            await other.post("/certificates/c/create", body)
            if body is not MANUAL:
                await other.settled("c")
            assert (await other.post("/secrets/restore", blob)).status_code in (403, 409)

    async def test_a_secret_of_the_name_stands_in_the_way(self, vault: VaultClient) -> None:
        await vault.put("/secrets/c", {"value": "v"})
        created = await vault.post("/certificates/C/create", {"policy": self_signed_policy()})
        imported = await vault.post("/certificates/C/import", {"value": _b64(Authority().issue().pfx())})

        assert (409, "Conflict") == (created.status_code, created.json()["error"]["code"])
        assert 409 == imported.status_code
        assert [] == (await vault.get("/certificates?includePending=true")).json()["value"]

    @pytest.mark.parametrize(
        ("usage", "operations"),
        [
            (["digitalSignature"], ["sign", "verify"]),
            (["keyCertSign", "cRLSign", "nonRepudiation"], ["sign", "verify"]),
            (["keyEncipherment"], ["wrapKey", "unwrapKey"]),
            (["dataEncipherment"], ["encrypt", "decrypt"]),
            (["keyAgreement", "encipherOnly"], ["encrypt"]),
            (["keyAgreement", "decipherOnly"], ["decrypt"]),
            (["KEYENCIPHERMENT", "DigitalSignature"], ["wrapKey", "unwrapKey", "sign", "verify"]),
        ],
    )
    async def test_key_operations_follow_the_key_usage(
        self, vault: VaultClient, usage: list[str], operations: list[str]
    ) -> None:
        policy = self_signed_policy()
        policy["x509_props"] = policy["x509_props"] | {"key_usage": usage}
        await vault.create("c", policy)

        assert operations == (await vault.get("/keys/c")).json()["key"]["key_ops"]


class TestLifecycle:
    async def test_disabling_reaches_key_and_secret_and_leaves_validity_alone(self, vault: VaultClient) -> None:
        made = await vault.create("c")
        changed = await vault.patch("/certificates/c", {"attributes": {"enabled": False, "nbf": 1, "exp": 2}})

        assert 200 == changed.status_code
        assert not changed.json()["attributes"]["enabled"]
        assert made["attributes"]["exp"] == changed.json()["attributes"]["exp"]
        assert 403 == (await vault.get("/secrets/c")).status_code
        assert not (await vault.get("/keys/c")).json()["attributes"]["enabled"]
        assert 200 == (await vault.get("/certificates/c")).status_code
        await vault.patch(f"/certificates/c/{_version(made)}", {"attributes": {"enabled": True}})
        assert 200 == (await vault.get("/secrets/c")).status_code

    async def test_only_the_named_version_is_changed(self, vault: VaultClient) -> None:
        first, second = await vault.create("c"), await vault.create("c")
        answer = await vault.patch(f"/certificates/c/{_version(first)}", {"tags": {"a": "b"}})

        assert ({"a": "b"}, first["id"]) == (answer.json()["tags"], answer.json()["id"])
        assert "policy" not in answer.json()
        assert {} == (await vault.get(f"/certificates/c/{_version(second)}")).json()["tags"]

    async def test_a_refused_patch_changes_neither_policy_nor_version(self, vault: VaultClient) -> None:
        await vault.create("c")
        before = (await vault.get("/certificates/c")).json()
        body = {"policy": {"x509_props": {"validity_months": 24}}, "tags": {"a": "b"}}

        assert 404 == (await vault.patch(f"/certificates/c/{'0' * 32}", body)).status_code
        assert before == (await vault.get("/certificates/c")).json()
        assert 24 == (await vault.patch("/certificates/c", body)).json()["policy"]["x509_props"]["validity_months"]

    async def test_delete_recover_and_purge_take_key_and_secret_along(self, vault: VaultClient) -> None:
        made = await vault.create("c")
        await vault.create("c")
        before = await _holdings(vault)
        deleted = (await vault.delete("/certificates/c")).json()

        assert f"{vault.base}/deletedcertificates/c" == deleted["recoveryId"]
        assert 90 * 86400 == deleted["scheduledPurgeDate"] - deleted["deletedDate"]
        assert made["policy"]["x509_props"] == deleted["policy"]["x509_props"]
        assert deleted == (await vault.get("/deletedcertificates/c")).json()
        assert [0, 0, 0, 1, 0, 0] == [len(each) for each in await _holdings(vault)]
        for path in ("/certificates/c", "/certificates/c/policy", "/certificates/c/versions", "/secrets/c", "/keys/c"):
            assert 404 == (await vault.get(path)).status_code, path
        for path in (f"/certificates/c/{_version(made)}", f"/secrets/c/{_version(made)}", "/deletedsecrets/c"):
            assert 404 == (await vault.get(path)).status_code, path
        assert 404 == (await vault.post("/deletedsecrets/c/recover")).status_code
        assert 404 == (await vault.delete("/deletedsecrets/c")).status_code
        for answer in (
            await vault.post("/certificates/c/create", {"policy": self_signed_policy()}),
            await vault.post("/certificates/c/import", {"value": _b64(Authority().issue().pfx())}),
            await vault.put("/secrets/c", {"value": "v"}),
        ):
            assert (409, "ObjectIsDeletedButRecoverable") == (
                answer.status_code,
                answer.json()["error"]["innererror"]["code"],
            )
        recovered = await vault.post("/deletedcertificates/c/recover")
        assert (200, deleted["id"]) == (recovered.status_code, recovered.json()["id"])
        assert before == await _holdings(vault)
        await vault.delete("/certificates/c")
        assert 204 == (await vault.delete("/deletedcertificates/c")).status_code
        assert [[]] * 6 == await _holdings(vault)
        assert 200 == (await vault.put("/secrets/c", {"value": "the name is free"})).status_code

    async def test_deleting_ends_the_operation(self, vault: VaultClient) -> None:
        await vault.post("/certificates/c/create", MANUAL)

        assert 200 == (await vault.delete("/certificates/c")).status_code
        assert 404 == (await vault.get("/certificates/c/pending")).status_code
        assert 200 == (await vault.post("/deletedcertificates/c/recover")).status_code
        assert 404 == (await vault.get("/certificates/c/pending")).status_code
        assert 202 == (await vault.post("/certificates/c/create", MANUAL)).status_code

    async def test_purge_protection_holds_for_certificates(self, broker: MemoryBroker, vault: VaultClient) -> None:
        vault = VaultClient(vault.http, vault.token, broker.new_vault(days=7, purge_protection=True))
        await vault.create("c")
        await vault.delete("/certificates/c")

        assert 403 == (await vault.delete("/deletedcertificates/c")).status_code
        assert 200 == (await vault.post("/deletedcertificates/c/recover")).status_code

    async def test_a_backup_opens_in_another_vault_with_everything(
        self, broker: MemoryBroker, vault: VaultClient
    ) -> None:
        made = await vault.create("c", self_signed_policy(secret_props={"contentType": "application/x-pem-file"}))
        value = (await vault.get("/secrets/c")).json()["value"]
        blob = (await vault.post("/certificates/c/backup")).json()
        other = VaultClient(vault.http, vault.token, broker.new_vault())
        restored = await other.post("/certificates/restore", blob)

        assert 200 == restored.status_code
        assert (made["cer"], made["policy"]["x509_props"]) == (
            restored.json()["cer"],
            restored.json()["policy"]["x509_props"],
        )
        assert value == (await other.get("/secrets/c")).json()["value"]
        assert 409 == (await other.post("/certificates/restore", blob)).status_code
        await other.delete("/certificates/c")
        deleted = await other.post("/certificates/restore", blob)
        assert (409, "ObjectIsDeletedButRecoverable") == (
            deleted.status_code,
            deleted.json()["error"]["innererror"]["code"],
        )

    async def test_a_restore_does_not_take_the_name_of_a_secret(self, vault: VaultClient) -> None:
        await vault.create("c")
        blob = (await vault.post("/certificates/c/backup")).json()
        await vault.delete("/certificates/c")
        await vault.delete("/deletedcertificates/c")
        await vault.put("/secrets/c", {"value": "v"})

        assert 409 == (await vault.post("/certificates/restore", blob)).status_code
        assert [] == (await vault.get("/certificates?includePending=true")).json()["value"]


class TestSecretValue:
    async def test_a_pfx_has_no_password_and_the_chain_behind_the_leaf(self, vault: VaultClient) -> None:
        identity = Authority("Intermediate", above=Authority("Root")).issue()
        await _import(vault, identity, value=_b64(identity.pfx("word")), pwd="word")
        answer = (await vault.get("/secrets/c")).json()

        key, leaf, others = pkcs12.load_key_and_certificates(base64.b64decode(answer["value"]), None)
        assert identity.chain == (leaf, *others)
        assert identity.key.private_numbers() == key.private_numbers()

    async def test_without_export_the_value_has_certificates_only(self, vault: VaultClient) -> None:
        policy = self_signed_policy(key_props={"kty": "EC", "exportable": False})
        for content_type in ("application/x-pem-file", "application/x-pkcs12"):
            made = await vault.create("c", policy | {"secret_props": {"contentType": content_type}})
            value = (await vault.get("/secrets/c")).json()["value"]
            if content_type.endswith("pem-file"):
                assert pem(x509.load_der_x509_certificate(base64.b64decode(made["cer"]))) == value
            else:
                key, leaf, others = pkcs12.load_key_and_certificates(base64.b64decode(value), None)
                assert (None, 1) == (key, len([*others, *([leaf] if leaf else [])]))
        assert not (await vault.get("/keys/c")).json()["attributes"]["exportable"]

    @pytest.mark.parametrize("preserve", [False, True])
    async def test_the_order_is_preserved_on_request_only(self, vault: VaultClient, preserve: bool) -> None:
        identity = Authority("Intermediate", above=Authority("Root")).issue()
        leaf, intermediate, root = map(pem, identity.chain)
        text = intermediate + root + identity.key_pem() + leaf
        made = await vault.post("/certificates/c/import", {"value": text, "preserveCertOrder": preserve})
        value = (await vault.get("/secrets/c")).json()["value"]

        assert (200, preserve) == (made.status_code, made.json()["preserveCertOrder"])
        wanted = [intermediate, root, leaf] if preserve else [leaf, intermediate, root]
        assert "".join(wanted) == value.partition("-----END PRIVATE KEY-----\n")[2]
        assert _b64(der(identity.certificate)) == made.json()["cer"]


class TestImport:
    @pytest.mark.parametrize("form", ["pfx", "pfx base64url", "pem", "pem base64"])
    async def test_every_form_of_a_value_is_taken(self, vault: VaultClient, form: str) -> None:
        identity = Authority().issue("imported.example.com")
        value = {
            "pfx": _b64(identity.pfx()),
            "pfx base64url": base64.urlsafe_b64encode(identity.pfx()).rstrip(b"=").decode(),
            "pem": identity.pem(),
            "pem base64": _b64(identity.pem().encode()),
        }[form]
        answer = await vault.post("/certificates/c/import", {"value": value, "tags": {"a": "b"}})

        assert 200 == answer.status_code, answer.text
        made = answer.json()
        assert ({"a": "b"}, _b64(der(identity.certificate))) == (made["tags"], made["cer"])
        kind = "application/x-pem-file" if form.startswith("pem") else "application/x-pkcs12"
        assert kind == made["contentType"] == made["policy"]["secret_props"]["contentType"]
        assert {"name": "Unknown"} == made["policy"]["issuer"]
        assert "CN=imported.example.com" == made["policy"]["x509_props"]["subject"]
        assert {"dns_names": ["imported.example.com"]} == made["policy"]["x509_props"]["sans"]
        assert [{"trigger": {"lifetime_percentage": 80}, "action": {"action_type": "EmailContacts"}}] == made["policy"][
            "lifetime_actions"
        ]

    async def test_an_encrypted_key_in_pem_opens_with_its_password(self, vault: VaultClient) -> None:
        identity = Authority().issue()
        answer = await vault.post("/certificates/c/import", {"value": identity.pem("word"), "pwd": "word"})

        assert 200 == answer.status_code
        value = (await vault.get("/secrets/c")).json()["value"]
        assert load_pem_private_key(value.encode(), None)

    async def test_an_import_is_a_new_version_of_what_is_there(self, vault: VaultClient) -> None:
        first = await vault.create("c")
        second = await _import(vault, Authority().issue())

        assert second["id"] == (await vault.get("/certificates/c")).json()["id"]
        assert {_version(first), _version(second)} == {
            _version(item) for item in (await vault.get("/certificates/c/versions")).json()["value"]
        }

    async def test_a_policy_in_the_request_goes_before_what_the_certificate_says(self, vault: VaultClient) -> None:
        made = await _import(
            vault,
            Authority().issue(),
            policy={"key_props": {"exportable": False, "kty": "RSA", "key_size": 4096}, "issuer": {"name": "Self"}},
        )

        assert ({"name": "Self"}, False) == (made["policy"]["issuer"], made["policy"]["key_props"]["exportable"])
        assert ("EC", "P-256") == (made["policy"]["key_props"]["kty"], made["policy"]["key_props"]["crv"])


class TestPending:
    async def test_a_merge_completes_the_operation(self, vault: VaultClient) -> None:
        operation = (await vault.post("/certificates/c/create", MANUAL)).json()
        authority = Authority("Intermediate", above=Authority("Root"))
        leaf = authority.answer(base64.b64decode(operation["csr"]))
        chain = [_b64(der(each)) for each in (*reversed(authority.path), leaf)]
        answer = await vault.post("/certificates/c/pending/merge", {"x5c": chain, "tags": {"a": "b"}})

        assert 201 == answer.status_code
        assert (_b64(der(leaf)), {"a": "b"}) == (answer.json()["cer"], answer.json()["tags"])
        value = base64.b64decode((await vault.get("/secrets/c")).json()["value"])
        _, found, others = pkcs12.load_key_and_certificates(value, None)
        assert (leaf, *authority.path) == (found, *others)
        settled = (await vault.get("/certificates/c/pending")).json()
        assert ("completed", operation["csr"]) == (settled["status"], settled["csr"])
        again = await vault.post("/certificates/c/pending/merge", {"x5c": chain})
        assert (403, "Forbidden") == (again.status_code, again.json()["error"]["code"])

    @pytest.mark.parametrize("form", ["der", "base64 of base64", "pem", "base64 of pem", "chain in one pem"])
    async def test_every_form_of_an_item_is_taken(self, vault: VaultClient, form: str) -> None:
        operation = (await vault.post("/certificates/c/create", MANUAL)).json()
        authority = Authority()
        leaf = authority.answer(base64.b64decode(operation["csr"]))
        item = {
            "der": _b64(der(leaf)),
            "base64 of base64": _b64(_b64(der(leaf)).encode()),
            "pem": pem(leaf),
            "base64 of pem": _b64(pem(leaf).encode()),
            "chain in one pem": pem(authority.certificate) + pem(leaf),
        }[form]
        answer = await vault.post("/certificates/c/pending/merge", {"x5c": [item]})

        assert (201, _b64(der(leaf))) == (answer.status_code, answer.json().get("cer")), answer.text

    async def test_a_merge_of_something_else_is_refused_and_can_be_repeated(self, vault: VaultClient) -> None:
        operation = (await vault.post("/certificates/c/create", MANUAL)).json()
        before = await _holdings(vault)
        stranger = Authority().issue()
        expired = Authority().answer(base64.b64decode(operation["csr"]), life=-timedelta(days=1))

        for x5c in (
            [],
            [""],
            ["!"],
            [_b64(b"garbage")],
            [_b64(der(stranger.certificate))],
            [_b64(der(expired))],
            [None],
        ):
            answer = await vault.post("/certificates/c/pending/merge", {"x5c": x5c})
            assert (400, "BadParameter") == (answer.status_code, answer.json()["error"]["code"]), x5c
        assert (
            400
            == (
                await vault.post("/certificates/c/pending/merge", {"x5c": [pem(stranger.certificate)] * 17})
            ).status_code
        )
        assert before == await _holdings(vault)
        assert "inProgress" == (await vault.get("/certificates/c/pending")).json()["status"]
        leaf = Authority().answer(base64.b64decode(operation["csr"]))
        assert 201 == (await vault.post("/certificates/c/pending/merge", {"x5c": [_b64(der(leaf))]})).status_code

    async def test_there_is_nothing_to_merge_for_an_issuer_that_answers_itself(self, vault: VaultClient) -> None:
        made = await vault.create("c")

        assert 403 == (await vault.post("/certificates/c/pending/merge", {"x5c": [made["cer"]]})).status_code
        assert 404 == (await vault.post("/certificates/d/pending/merge", {"x5c": [made["cer"]]})).status_code

    async def test_cancelling_ends_it_once(self, vault: VaultClient) -> None:
        await vault.post("/certificates/c/create", MANUAL)
        assert 400 == (await vault.patch("/certificates/c/pending", {"cancellation_requested": False})).status_code
        answer = await vault.patch("/certificates/c/pending", {"cancellation_requested": True})

        assert (200, True) == (answer.status_code, answer.json()["cancellation_requested"])
        assert "cancelled" == (await vault.settled("c"))["status"]
        again = await vault.patch("/certificates/c/pending", {"cancellation_requested": True})
        assert (403, "Forbidden") == (again.status_code, again.json()["error"]["code"])
        assert 202 == (await vault.post("/certificates/c/create", MANUAL)).status_code

    async def test_deleting_the_operation_frees_the_name_for_another(self, vault: VaultClient) -> None:
        operation = (await vault.post("/certificates/c/create", MANUAL)).json()
        answer = await vault.delete("/certificates/c/pending")

        assert (200, operation["request_id"]) == (answer.status_code, answer.json()["request_id"])
        assert 404 == (await vault.get("/certificates/c/pending")).status_code
        assert 404 == (await vault.delete("/certificates/c/pending")).status_code
        assert 202 == (await vault.post("/certificates/c/create", MANUAL)).status_code

    async def test_an_operation_says_why_it_failed(self, vault: VaultClient) -> None:
        await vault.put("/certificates/issuers/test", {"provider": "Test"})
        await vault.post("/certificates/c/create", {"policy": self_signed_policy(issuer={"name": "TEST"})})
        settled = await vault.settled("c")

        assert ("failed", "IssuerSettingsInvalid") == (settled["status"], settled["error"]["code"])
        assert settled["status_details"] == settled["error"]["message"]


class TestPolicy:
    async def test_an_unregistered_issuer_is_refused(self, vault: VaultClient) -> None:
        answer = await vault.post("/certificates/c/create", {"policy": self_signed_policy(issuer={"name": "nobody"})})

        assert 400 == answer.status_code
        assert [[]] * 6 == await _holdings(vault)

    @pytest.mark.parametrize(
        ("part", "values"),
        [
            ("key_props", {"kty": "DSA"}),
            ("key_props", {"kty": "oct"}),
            ("key_props", {"kty": "RSA", "key_size": 1024}),
            ("key_props", {"kty": "RSA", "key_size": 10**30}),
            ("key_props", {"kty": "EC", "crv": "P-224"}),
            ("key_props", {"kty": "EC", "crv": "P-256", "key_size": 384}),
            ("key_props", {"kty": "RSA", "crv": "P-256"}),
            ("key_props", {"kty": "RSA-HSM"}),
            ("secret_props", {"contentType": "text/plain"}),
            ("x509_props", {"subject": "", "sans": {"dns_names": []}}),
            ("x509_props", {"subject": "no name"}),
            ("x509_props", {"subject": "CN=" + "x" * 65}),
            ("x509_props", {"subject": "C=Germany"}),
            ("x509_props", {"subject": "C=é1"}),
            ("x509_props", {"subject": "CN=a", "validity_months": 0}),
            ("x509_props", {"subject": "CN=a", "validity_months": 1201}),
            ("x509_props", {"subject": "CN=a", "validity_months": -(10**30)}),
            ("x509_props", {"subject": "CN=a", "ekus": ["serverAuth"]}),
            ("x509_props", {"subject": "CN=a", "ekus": ["1.40"]}),
            ("x509_props", {"subject": "CN=a", "key_usage": ["sign"]}),
            ("x509_props", {"subject": "CN=a", "key_usage": ["encipherOnly"]}),
            ("x509_props", {"subject": "CN=a", "sans": {"dns_names": ["a b"]}}),
            ("x509_props", {"subject": "CN=a", "sans": {"dns_names": ["a..b"]}}),
            ("x509_props", {"subject": "CN=a", "sans": {"dns_names": ["é.example"]}}),
            ("x509_props", {"subject": "CN=a", "sans": {"dns_names": ["a.example"] * 101}}),
            ("x509_props", {"subject": "CN=a", "sans": {"emails": ["@"]}}),
            ("x509_props", {"subject": "CN=a", "sans": {"emails": ["A <a@example.com>"]}}),
            ("x509_props", {"subject": "CN=a", "sans": {"upns": ["x" * 200]}}),
            ("x509_props", {"subject": "CN=a", "sans": {"uris": ["relative"]}}),
            ("x509_props", {"subject": "CN=a", "sans": {"ipAddresses": ["256.0.0.1"]}}),
            ("x509_props", {"subject": "CN=a", "sans": {"ipAddresses": ["fe80::1%eth0"]}}),
            ("lifetime_actions", [{"trigger": {}, "action": {"action_type": "AutoRenew"}}]),
            ("lifetime_actions", [{"trigger": {"lifetime_percentage": 100}, "action": {"action_type": "AutoRenew"}}]),
            ("lifetime_actions", [{"trigger": {"days_before_expiry": 325}, "action": {"action_type": "AutoRenew"}}]),
            ("lifetime_actions", [{"trigger": {"days_before_expiry": 9}, "action": {"action_type": "Explode"}}]),
            ("issuer", {"name": ""}),
        ],
    )
    async def test_what_cannot_be_issued_is_refused_at_once(self, vault: VaultClient, part: str, values: Any) -> None:
        answer = await vault.post("/certificates/c/create", {"policy": self_signed_policy(**{part: values})})

        assert (400, "BadParameter") == (answer.status_code, answer.json()["error"]["code"]), answer.text
        assert [[]] * 6 == await _holdings(vault)
        await vault.create("d")
        before = (await vault.get("/certificates/d/policy")).json()
        changed = await vault.patch("/certificates/d/policy", {part: values})
        assert (400, "BadParameter") == (changed.status_code, changed.json()["error"]["code"]), changed.text
        assert before == (await vault.get("/certificates/d/policy")).json()

    async def test_a_patch_merges(self, vault: VaultClient) -> None:
        await vault.create("c")
        answer = await vault.patch("/certificates/c/policy", {"key_props": {"reuse_key": True}, "unknown": 1})

        assert 200 == answer.status_code
        assert {"exportable": True, "kty": "EC", "key_size": 256, "reuse_key": True, "crv": "P-256"} == answer.json()[
            "key_props"
        ]
        assert "CN=www.example.com" == answer.json()["x509_props"]["subject"]
        assert 404 == (await vault.patch("/certificates/d/policy", {})).status_code

    async def test_words_are_stored_in_the_spelling_that_clients_know(self, vault: VaultClient) -> None:
        policy = self_signed_policy(
            key_props={"kty": "ec", "crv": "p-256"},
            secret_props={"contentType": "Application/X-PEM-File"},
            lifetime_actions=[{"trigger": {"days_before_expiry": 9}, "action": {"action_type": "emailcontacts"}}],
        )
        made = (await vault.create("c", policy))["policy"]

        assert ("EC", "P-256", "application/x-pem-file", "EmailContacts") == (
            made["key_props"]["kty"],
            made["key_props"]["crv"],
            made["secret_props"]["contentType"],
            made["lifetime_actions"][0]["action"]["action_type"],
        )

    async def test_every_kind_of_name_gets_into_the_certificate(self, vault: VaultClient) -> None:
        sans = {
            "dns_names": ["A.example", "*.b.example"],
            "emails": ["a@example.com"],
            "upns": ["user@realm"],
            "uris": ["https://example.com/x"],
            "ipAddresses": ["192.0.2.1", "2001:DB8:0:0::1"],
        }
        made = await vault.create("c", self_signed_policy(x509_props={"sans": sans}))

        leaf = x509.load_der_x509_certificate(base64.b64decode(made["cer"]))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.critical
        assert sans["dns_names"] == names.value.get_values_for_type(x509.DNSName)
        assert ["192.0.2.1", "2001:db8::1"] == [str(each) for each in names.value.get_values_for_type(x509.IPAddress)]
        assert sans == made["policy"]["x509_props"]["sans"]


class TestContactsAndIssuers:
    async def test_contacts_are_gone_after_they_were_deleted(self, vault: VaultClient) -> None:
        contacts = [{"email": "a@example.com", "name": "A", "phone": "1"}, {"email": "b@example.com"}]
        assert 404 == (await vault.get("/certificates/contacts")).status_code
        answer = await vault.put("/certificates/contacts", {"contacts": contacts})

        wanted = {"id": f"{vault.base}/certificates/contacts", "contacts": contacts}
        assert (200, wanted) == (answer.status_code, answer.json())
        assert wanted == (await vault.get("/certificates/contacts")).json()
        assert wanted == (await vault.delete("/certificates/contacts")).json()
        gone = await vault.get("/certificates/contacts")
        assert 404 == gone.status_code
        assert "not found" in gone.json()["error"]["message"].lower()
        assert 404 == (await vault.delete("/certificates/contacts")).status_code

    @pytest.mark.parametrize("contacts", [None, {}, [{}], [{"email": "a"}], [{"email": "a@b@c"}], [{"email": "é@b"}]])
    async def test_contacts_need_an_address(self, vault: VaultClient, contacts: Any) -> None:
        assert 400 == (await vault.put("/certificates/contacts", {"contacts": contacts})).status_code
        assert 404 == (await vault.get("/certificates/contacts")).status_code

    async def test_a_password_never_comes_back(self, vault: VaultClient) -> None:
        body = {"provider": "Test", "credentials": {"account_id": "me", "pwd": "very-secret"}}
        answers = [
            await vault.put("/certificates/issuers/i", body),
            await vault.patch("/certificates/issuers/i", {"credentials": {"pwd": "very-secret-too"}}),
            await vault.get("/certificates/issuers/I"),
            await vault.get("/certificates/issuers"),
            await vault.delete("/certificates/issuers/i"),
        ]

        assert [200] * 5 == [answer.status_code for answer in answers]
        assert not [answer.text for answer in answers if "very-secret" in answer.text]
        assert {"account_id": "me"} == answers[2].json()["credentials"]

    async def test_a_patch_of_an_issuer_keeps_what_it_does_not_name(self, vault: VaultClient) -> None:
        person = {"first_name": "A", "last_name": "B", "email": "a@example.com", "phone": "1"}
        body = {"provider": "Test", "credentials": {"account_id": "me"}, "org_details": {"admin_details": [person]}}
        await vault.put("/certificates/issuers/i", body)
        changed = (await vault.patch("/certificates/issuers/i", {"attributes": {"enabled": False}})).json()

        assert {**body, "id": f"{vault.base}/certificates/issuers/i"} == {
            label: value for label, value in changed.items() if label != "attributes"
        }
        assert not changed["attributes"]["enabled"]
        assert changed == (await vault.get("/certificates/issuers/i")).json()
        replaced = (await vault.put("/certificates/issuers/i", {"provider": "Test"})).json()
        assert {"id", "provider", "attributes"} == replaced.keys()

    async def test_issuers_that_cannot_be_are_refused(self, vault: VaultClient) -> None:
        for name, body in (
            ("i", {}),
            ("Self", {"provider": "Test"}),
            ("unknown", {"provider": "Test"}),
            ("i_", {"provider": "Test"}),
            ("i", {"provider": "Self"}),
            ("i", {"provider": 1}),
        ):
            assert 400 == (await vault.put(f"/certificates/issuers/{name}", body)).status_code, (name, body)
        missing = await vault.patch("/certificates/issuers/i", {"provider": "Test"})
        assert 404 == missing.status_code
        assert "not found" in missing.json()["error"]["message"].lower()
        assert [] == (await vault.get("/certificates/issuers")).json()["value"]
