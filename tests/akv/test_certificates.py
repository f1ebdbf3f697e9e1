"""Certificates on the wire, with the keys and secrets behind them."""

from __future__ import annotations

import asyncio
import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.support.certificates import Authority, der, pem
from tests.support.holdings import MANUAL, b64, holdings, import_certificate, version_of
from tests.support.memory_broker import MemoryBroker, VaultClient, self_signed_policy

pytestmark = pytest.mark.anyio


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
        answer = await vault.post("/certificates/c/import", {"value": b64(Authority().issue().pfx())})

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
        keys = [(await vault.get(f"/keys/c/{version_of(each)}")).json()["key"] for each in (first, second)]

        assert keys[0]["x"] == keys[1]["x"]
        assert first["cer"] != second["cer"]

    async def test_a_key_that_was_made_to_stay_is_not_used_again_where_it_could_be_read(
        self, vault: VaultClient
    ) -> None:
        staying = {"kty": "EC", "crv": "P-256", "exportable": False, "reuse_key": True}
        await vault.create("c", self_signed_policy(key_props=staying))
        before = (await vault.get("/keys/c/")).json()["key"]["x"]
        for method, path, body in (
            ("POST", "/certificates/c/create", {"policy": {"key_props": {"exportable": True}}}),
            ("PATCH", "/certificates/c/policy", {"key_props": {"exportable": True}}),
        ):
            answer = await vault.send(method, path, body)
            assert (400, "BadParameter") == (answer.status_code, answer.json()["error"]["code"])
            assert "Set reuse_key to false" in answer.json()["error"]["message"]
        await vault.create("c", self_signed_policy(key_props=staying | {"exportable": True, "reuse_key": False}))

        assert before != (await vault.get("/keys/c/")).json()["key"]["x"]
        answer = await vault.patch("/certificates/c/policy", {"key_props": {"reuse_key": True}})
        assert 200 == answer.status_code

    async def test_tags_and_enabled_come_with_the_version(self, vault: VaultClient) -> None:
        made = await vault.create("c", tags={"a": "b"}, attributes={"enabled": False})

        assert ({"a": "b"}, False) == (made["tags"], made["attributes"]["enabled"])
        assert 403 == (await vault.get("/secrets/c")).status_code


class TestNames:
    async def test_one_version_makes_three_objects_of_the_same_version(self, vault: VaultClient) -> None:
        made = await vault.create("c", tags={"a": "b"})
        version = version_of(made)
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

        assert version_of(first) == (await vault.get("/secrets/c")).json()["previousVersion"]

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
        imported = await vault.post("/certificates/C/import", {"value": b64(Authority().issue().pfx())})

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
        await vault.patch(f"/certificates/c/{version_of(made)}", {"attributes": {"enabled": True}})
        assert 200 == (await vault.get("/secrets/c")).status_code

    async def test_only_the_named_version_is_changed(self, vault: VaultClient) -> None:
        first, second = await vault.create("c"), await vault.create("c")
        answer = await vault.patch(f"/certificates/c/{version_of(first)}", {"tags": {"a": "b"}})

        assert ({"a": "b"}, first["id"]) == (answer.json()["tags"], answer.json()["id"])
        assert "policy" not in answer.json()
        assert {} == (await vault.get(f"/certificates/c/{version_of(second)}")).json()["tags"]

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
        before = await holdings(vault)
        deleted = (await vault.delete("/certificates/c")).json()

        assert f"{vault.base}/deletedcertificates/c" == deleted["recoveryId"]
        assert 90 * 86400 == deleted["scheduledPurgeDate"] - deleted["deletedDate"]
        assert made["policy"]["x509_props"] == deleted["policy"]["x509_props"]
        assert deleted == (await vault.get("/deletedcertificates/c")).json()
        assert [0, 0, 0, 1, 0, 0] == [len(each) for each in await holdings(vault)]
        for path in ("/certificates/c", "/certificates/c/policy", "/certificates/c/versions", "/secrets/c", "/keys/c"):
            assert 404 == (await vault.get(path)).status_code, path
        for path in (f"/certificates/c/{version_of(made)}", f"/secrets/c/{version_of(made)}", "/deletedsecrets/c"):
            assert 404 == (await vault.get(path)).status_code, path
        assert 404 == (await vault.post("/deletedsecrets/c/recover")).status_code
        assert 404 == (await vault.delete("/deletedsecrets/c")).status_code
        for answer in (
            await vault.post("/certificates/c/create", {"policy": self_signed_policy()}),
            await vault.post("/certificates/c/import", {"value": b64(Authority().issue().pfx())}),
            await vault.put("/secrets/c", {"value": "v"}),
        ):
            assert (409, "ObjectIsDeletedButRecoverable") == (
                answer.status_code,
                answer.json()["error"]["innererror"]["code"],
            )
        recovered = await vault.post("/deletedcertificates/c/recover")
        assert (200, deleted["id"]) == (recovered.status_code, recovered.json()["id"])
        assert before == await holdings(vault)
        await vault.delete("/certificates/c")
        assert 204 == (await vault.delete("/deletedcertificates/c")).status_code
        assert [[]] * 6 == await holdings(vault)
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
        await import_certificate(vault, identity, value=b64(identity.pfx("word")), pwd="word")
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
        assert b64(der(identity.certificate)) == made.json()["cer"]
