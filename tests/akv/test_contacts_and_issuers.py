"""Contacts and issuers on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.memory_broker import VaultClient

pytestmark = pytest.mark.anyio


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

    @pytest.mark.parametrize(
        "contacts",
        [None, {}, [{}], *([{"email": email}] for email in ("a", "a@b@c", "é@b", "a.@example.com", "a@example.com."))],
    )
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
