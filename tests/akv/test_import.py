"""The import of certificates on the wire."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.support.certificates import Authority, der
from tests.support.holdings import b64, import_certificate, version_of
from tests.support.memory_broker import VaultClient

pytestmark = pytest.mark.anyio


class TestImport:
    @pytest.mark.parametrize("form", ["pfx", "pfx base64url", "pem", "pem base64"])
    async def test_every_form_of_a_value_is_taken(self, vault: VaultClient, form: str) -> None:
        identity = Authority().issue("imported.example.com")
        value = {
            "pfx": b64(identity.pfx()),
            "pfx base64url": base64.urlsafe_b64encode(identity.pfx()).rstrip(b"=").decode(),
            "pem": identity.pem(),
            "pem base64": b64(identity.pem().encode()),
        }[form]
        answer = await vault.post("/certificates/c/import", {"value": value, "tags": {"a": "b"}})

        assert 200 == answer.status_code, answer.text
        made = answer.json()
        assert ({"a": "b"}, b64(der(identity.certificate))) == (made["tags"], made["cer"])
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
        second = await import_certificate(vault, Authority().issue())

        assert second["id"] == (await vault.get("/certificates/c")).json()["id"]
        assert {version_of(first), version_of(second)} == {
            version_of(item) for item in (await vault.get("/certificates/c/versions")).json()["value"]
        }

    async def test_a_policy_in_the_request_goes_before_what_the_certificate_says(self, vault: VaultClient) -> None:
        made = await import_certificate(
            vault,
            Authority().issue(),
            policy={"key_props": {"exportable": False, "kty": "RSA", "key_size": 4096}, "issuer": {"name": "Self"}},
        )

        assert ({"name": "Self"}, False) == (made["policy"]["issuer"], made["policy"]["key_props"]["exportable"])
        assert ("EC", "P-256") == (made["policy"]["key_props"]["kty"], made["policy"]["key_props"]["crv"])
