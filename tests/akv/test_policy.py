"""Policies of certificates on the wire."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509

from tests.support.holdings import holdings
from tests.support.memory_broker import VaultClient, self_signed_policy

pytestmark = pytest.mark.anyio


class TestPolicy:
    async def test_an_unregistered_issuer_is_refused(self, vault: VaultClient) -> None:
        answer = await vault.post("/certificates/c/create", {"policy": self_signed_policy(issuer={"name": "nobody"})})

        assert 400 == answer.status_code
        assert [[]] * 6 == await holdings(vault)

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
            ("x509_props", {"subject": "CN=a", "ekus": [f"1.2.3.{number}" for number in range(101)]}),
            ("x509_props", {"subject": "CN=a", "ekus": ["1.2.3"] * 101}),
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
        assert [[]] * 6 == await holdings(vault)
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
