"""CAs on the wire: who may do what, and what is answered."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.certificates import Authority
from tests.support.memory_broker import MemoryBroker, VaultClient, self_signed_policy

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("akv")]

ROOT = {"subject": "CN=Root,O=Example"}


def _csr() -> str:
    names = x509.SubjectAlternativeName([x509.DNSName("www.corp.example")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    key = ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


async def _made(vault: VaultClient, name: str = "root", **wanted: object) -> dict[str, object]:
    answer = await vault.post(f"/authorities/{name}/create", ROOT | wanted)
    assert answer.status_code == 201, answer.text
    found: dict[str, object] = answer.json()
    return found


async def test_a_ca_is_made_shown_and_listed(vault: VaultClient) -> None:
    made = await _made(vault, key="P-384", days=100, path_length=1, permitted=["dns:corp.example"])
    shown = (await vault.get("/authorities/root")).json()
    listed = (await vault.get("/authorities")).json()

    assert ("active", "CN=Root,O=Example", "P-384", 1) == tuple(
        made[field] for field in ("state", "subject", "key", "path_length")
    )
    assert f"{vault.base}/authorities/root" == made["id"]
    assert ["dns:corp.example"] == made["permitted"]
    assert "published" not in made  # The broker of the tests publishes nothing.
    assert made | {"others": []} == shown
    assert [made] == listed["value"]
    assert made["cer"] == (await vault.get("/certificates/root/")).json()["cer"]


async def test_a_ca_is_used_by_an_issuer_as_any_other(vault: VaultClient) -> None:
    await _made(vault)
    issuer = {"provider": "PrivateCA", "org_details": {"id": "ca=root;profile=server"}}
    assert (await vault.put("/certificates/issuers/ours", issuer)).status_code == 200
    made = await vault.create("www", self_signed_policy(issuer={"name": "ours"}))
    leaf = x509.load_der_x509_certificate(base64.b64decode(made["cer"]))
    issued = (await vault.get("/authorities/root/issued")).json()["value"]

    assert "CN=Root,O=Example" == leaf.issuer.rfc4514_string()
    assert [f"{leaf.serial_number:x}"] == [each["serial"] for each in issued]
    assert issued[0]["certificate"].startswith("www/")


@pytest.mark.parametrize("key", ["Ed25519", "ML-DSA-44"])
async def test_clients_are_told_of_no_type_of_key_that_they_do_not_know(vault: VaultClient, key: str) -> None:
    await _made(vault, key=key)
    certificate = (await vault.get("/certificates/root/")).json()

    assert not {"kty", "crv"} & set(certificate["policy"]["key_props"])
    assert not certificate["policy"]["key_props"]["exportable"]
    assert [] == (await vault.get("/keys")).json()["value"]
    assert [] == (await vault.get("/secrets")).json()["value"]
    assert 404 == (await vault.get("/keys/root/")).status_code
    assert 404 == (await vault.get("/secrets/root/")).status_code
    assert 1 == len((await vault.get("/certificates")).json()["value"])


async def test_the_secret_of_a_ca_holds_no_key(vault: VaultClient) -> None:
    await _made(vault)
    secret = (await vault.get("/secrets/root/?outContentType=application/x-pem-file")).json()["value"]

    assert "PRIVATE KEY" not in secret


async def test_a_request_is_signed_and_revoked(vault: VaultClient) -> None:
    await _made(vault)
    signed = await vault.post("/authorities/root/sign", {"csr": _csr(), "days": 30})
    entry = signed.json()
    path = f"/authorities/root/issued/{entry['serial']}"
    revoked = (await vault.post(f"{path}/revoke", {"reason": "superseded"})).json()

    assert 201 == signed.status_code
    assert ([], 2) == (entry["ignored"], len(entry["x5c"]))
    assert (4, True) == (revoked["reason"], revoked["revoked"] > 0)
    assert revoked == (await vault.get(path)).json()


async def test_renewal_cross_signing_and_retirement(vault: VaultClient) -> None:
    made = await _made(vault)
    renewed = await vault.post("/authorities/root/renew", {"new_key": True, "key": "P-384", "days": 50})
    crossed = await vault.post("/authorities/root/cross-sign", {"by": "root"})
    shown = (await vault.get("/authorities/root")).json()

    assert (201, 201) == (renewed.status_code, crossed.status_code)
    assert ("active", "P-384") == (shown["state"], shown["key"])
    assert {"retired": made["generation"], "cross": crossed.json()["generation"]} == {
        each["state"]: each["generation"] for each in shown["others"]
    }
    assert "retired" == (await vault.post("/authorities/root/retire")).json()["state"]
    assert 404 == (await vault.post("/authorities/root/renew", {})).status_code


async def test_what_can_be_changed_is_changed(vault: VaultClient) -> None:
    await _made(vault)
    changed = (await vault.patch("/authorities/root", {"shards": 4, "lent_to": ["*"]})).json()

    assert (4, ["*"]) == (changed["shards"], changed["lent_to"])
    assert 400 == (await vault.patch("/authorities/root", {"shards": 0})).status_code


async def test_a_ca_is_forgotten_before_its_certificate_is_deleted(vault: VaultClient) -> None:
    await _made(vault)
    refused = await vault.delete("/certificates/root")

    assert (403, True) == (refused.status_code, "certbroker ca delete root" in refused.text)
    assert 204 == (await vault.delete("/authorities/root")).status_code
    assert 200 == (await vault.delete("/certificates/root")).status_code


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("GET", "/authorities", "read"),
        ("GET", "/authorities/root", "read"),
        ("GET", "/authorities/root/issued", "read"),
        ("PATCH", "/authorities/root", "write"),
        ("DELETE", "/authorities/root", "delete"),
        *(("POST", f"/authorities/root/{each}", "write") for each in ("create", "renew", "cross-sign", "adopt")),
        ("POST", "/authorities/root/retire", "write"),
        ("POST", "/authorities/root/sign", "sign/action"),
        ("POST", "/authorities/root/issued/1/revoke", "revoke/action"),
    ],
)
async def test_each_operation_needs_its_action(
    broker: MemoryBroker, vault: VaultClient, method: str, path: str, action: str
) -> None:
    officer = vault.acting(broker.token(("Key Vault Certificates Officer", "/")))
    answer = await officer.send(method, path, {})

    assert 403 == answer.status_code
    assert f"authorities/{action}" in answer.text


async def test_a_role_for_one_ca_reaches_that_ca_only(broker: MemoryBroker, vault: VaultClient) -> None:
    await _made(vault)
    await _made(vault, "other")
    operator = vault.acting(broker.token(("PKI Operator", f"/vaults/{vault.vault}/authorities/root")))
    signed = [
        await operator.post(f"/authorities/{name}/sign", {"csr": _csr(), "profile": "server"})
        for name in ("root", "other")
    ]

    assert [201, 403] == [each.status_code for each in signed], [each.text for each in signed]


async def test_a_ca_signs_for_another_only_where_the_caller_may_use_it(
    broker: MemoryBroker, vault: VaultClient
) -> None:
    await _made(vault)
    other = broker.new_vault()
    both = ("PKI Administrator", f"/vaults/{other}")
    stranger = VaultClient(vault.http, broker.token(both), other)
    owner = VaultClient(vault.http, broker.token(both, ("PKI Administrator", f"/vaults/{vault.vault}")), other)
    wanted = {"subject": "CN=Issuing", "parent": f"{vault.vault}/root"}

    assert 403 == (await stranger.post("/authorities/mine/create", wanted)).status_code
    assert 201 == (await owner.post("/authorities/mine/create", wanted)).status_code
    assert 403 == (await stranger.post("/authorities/mine/cross-sign", {"by": f"{vault.vault}/root"})).status_code


@pytest.mark.parametrize("days", [0, -1, 100_000, 10**9, 10**30])
async def test_a_life_that_no_ca_can_have_is_refused(vault: VaultClient, days: int) -> None:
    await _made(vault)
    answers = [
        await vault.post(f"/authorities/{path}", body | {"days": days})
        for path, body in (
            ("other/create", {"subject": "CN=Other"}),
            ("root/renew", {}),
            ("root/cross-sign", {"by": "root"}),
            ("root/sign", {"csr": _csr()}),
        )
    ]
    # Without another generation there is nobody to sign, which is found first.
    assert 201 == (await vault.post("/authorities/root/renew", {"new_key": True})).status_code
    answers.append(await vault.post("/authorities/root/cross-sign", {"by": "root", "days": days}))

    assert {400} == {answer.status_code for answer in answers}, [answer.text for answer in answers]
    assert "days is between 1 and" in answers[-1].text


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"subject": 7}', b'{"subject": "CN=x", "days": "long"}', b"{}"])
async def test_bodies_that_make_no_sense_are_refused(vault: VaultClient, body: bytes) -> None:
    assert 400 == (await vault.post("/authorities/root/create", body)).status_code


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/certificates/root/create", {}),
        ("POST", "/certificates/root/create", {"policy": self_signed_policy()}),
        ("PATCH", "/certificates/root/policy", {"key_props": {"exportable": True, "reuse_key": True}}),
        ("PATCH", "/certificates/root", {"policy": {"key_props": {"exportable": True, "reuse_key": True}}}),
    ],
)
async def test_the_certificate_of_a_ca_is_renewed_by_the_ca_only(
    vault: VaultClient, method: str, path: str, body: dict[str, object]
) -> None:
    """Else whoever may make certificates and read secrets could have the key of a CA."""
    await _made(vault)
    before = (await vault.get("/certificates/root/")).json()
    answer = await vault.send(method, path, body)

    assert (403, "Forbidden") == (answer.status_code, answer.json()["error"]["code"])
    assert "certbroker ca renew root" in answer.json()["error"]["message"]
    assert before == (await vault.get("/certificates/root/")).json()


async def test_nothing_is_imported_over_the_certificate_of_a_ca(vault: VaultClient) -> None:
    await _made(vault)
    pfx = base64.b64encode(Authority().issue().pfx()).decode()
    answer = await vault.post("/certificates/root/import", {"value": pfx})

    assert 403 == answer.status_code
    assert "certbroker ca renew root" in answer.json()["error"]["message"]
