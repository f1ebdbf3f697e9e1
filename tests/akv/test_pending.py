"""Pending certificates on the wire: polled, merged, cancelled, deleted."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.support.certificates import Authority, der, pem
from tests.support.holdings import MANUAL, b64, holdings
from tests.support.memory_broker import VaultClient, self_signed_policy

pytestmark = pytest.mark.anyio


class TestPending:
    async def test_a_merge_completes_the_operation(self, vault: VaultClient) -> None:
        operation = (await vault.post("/certificates/c/create", MANUAL)).json()
        authority = Authority("Intermediate", above=Authority("Root"))
        leaf = authority.answer(base64.b64decode(operation["csr"]))
        chain = [b64(der(each)) for each in (*reversed(authority.path), leaf)]
        answer = await vault.post("/certificates/c/pending/merge", {"x5c": chain, "tags": {"a": "b"}})

        assert 201 == answer.status_code
        assert (b64(der(leaf)), {"a": "b"}) == (answer.json()["cer"], answer.json()["tags"])
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
            "der": b64(der(leaf)),
            "base64 of base64": b64(b64(der(leaf)).encode()),
            "pem": pem(leaf),
            "base64 of pem": b64(pem(leaf).encode()),
            "chain in one pem": pem(authority.certificate) + pem(leaf),
        }[form]
        answer = await vault.post("/certificates/c/pending/merge", {"x5c": [item]})

        assert (201, b64(der(leaf))) == (answer.status_code, answer.json().get("cer")), answer.text

    async def test_a_merge_of_something_else_is_refused_and_can_be_repeated(self, vault: VaultClient) -> None:
        operation = (await vault.post("/certificates/c/create", MANUAL)).json()
        before = await holdings(vault)
        stranger = Authority().issue()
        expired = Authority().answer(base64.b64decode(operation["csr"]), life=-timedelta(days=1))

        for x5c in (
            [],
            [""],
            ["!"],
            [b64(b"garbage")],
            [b64(der(stranger.certificate))],
            [b64(der(expired))],
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
        assert before == await holdings(vault)
        assert "inProgress" == (await vault.get("/certificates/c/pending")).json()["status"]
        leaf = Authority().answer(base64.b64decode(operation["csr"]))
        assert 201 == (await vault.post("/certificates/c/pending/merge", {"x5c": [b64(der(leaf))]})).status_code

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
