"""Keys on the wire: made, imported, read and changed."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.support.memory_broker import VaultClient

pytestmark = pytest.mark.anyio

RSA_OPERATIONS = ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]
RSA = rsa.generate_private_key(65537, 2048)
CURVES = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1, "P-256K": ec.SECP256K1}


def encoded(value: int | bytes) -> str:
    data = value if isinstance(value, bytes) else value.to_bytes((value.bit_length() + 7) // 8)
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def rsa_jwk(key: rsa.RSAPrivateKey = RSA) -> dict[str, str]:
    numbers = key.private_numbers()
    public = numbers.public_numbers
    members = {"n": public.n, "e": public.e, "d": numbers.d, "p": numbers.p, "q": numbers.q}
    members |= {"dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp}
    return {"kty": "RSA"} | {name: encoded(value) for name, value in members.items()}


def ec_jwk(curve: str, key: ec.EllipticCurvePrivateKey | None = None) -> dict[str, str]:
    numbers = (key or ec.generate_private_key(CURVES[curve]())).private_numbers()
    public = numbers.public_numbers
    members = {"x": public.x, "y": public.y, "d": numbers.private_value}
    return {"kty": "EC", "crv": curve} | {name: encoded(value) for name, value in members.items()}


async def made(vault: VaultClient, name: str = "k", **body: Any) -> dict[str, Any]:
    answer = await vault.post(f"/keys/{name}/create", {"kty": "EC"} | body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def version_of(bundle: dict[str, Any]) -> str:
    return str(bundle["key"]["kid"].rpartition("/")[2])


async def test_a_bundle_has_exactly_the_documented_members(vault: VaultClient) -> None:
    bundle = await made(vault, tags={"a": "b"}, attributes={"nbf": 5, "exp": 32503680000})

    assert {"key", "attributes", "tags"} == bundle.keys()
    assert {"kid", "kty", "key_ops", "crv", "x", "y"} == bundle["key"].keys()
    assert f"{vault.base}/keys/k/{version_of(bundle)}" == bundle["key"]["kid"]
    assert {
        "enabled", "nbf", "exp", "created", "updated", "recoveryLevel", "recoverableDays", "exportable"
    } == bundle["attributes"].keys()  # fmt: skip
    assert bundle == (await vault.get("/keys/k/")).json() == (await vault.get(f"/keys/k/{version_of(bundle)}")).json()


@pytest.mark.parametrize("size", [None, 2048, 3072, 4096])
async def test_rsa_keys_of_all_sizes(vault: VaultClient, size: int | None) -> None:
    bundle = await made(vault, kty="RSA", key_size=size)

    assert {"kid", "kty", "key_ops", "n", "e"} == bundle["key"].keys()
    assert (size or 2048) // 8 == len(base64.urlsafe_b64decode(bundle["key"]["n"] + "=="))
    assert ("AQAB", RSA_OPERATIONS) == (bundle["key"]["e"], bundle["key"]["key_ops"])


@pytest.mark.parametrize("curve", CURVES)
async def test_ec_keys_on_all_curves(vault: VaultClient, curve: str) -> None:
    key = (await made(vault, crv=curve))["key"]

    assert (curve, ["sign", "verify"]) == (key["crv"], key["key_ops"])
    length = (CURVES[curve]().key_size + 7) // 8
    assert [length, length] == [len(base64.urlsafe_b64decode(key[member] + "==")) for member in ("x", "y")]


async def test_a_second_create_makes_another_version_and_both_are_there(vault: VaultClient) -> None:
    first, second = await made(vault, "Mixed"), await made(vault, "mIXED")

    assert f"{vault.base}/keys/Mixed/{version_of(second)}" == second["key"]["kid"]
    assert first["key"]["x"] != second["key"]["x"]
    assert first == (await vault.get(f"/keys/mixed/{version_of(first)}")).json()
    assert second == (await vault.get("/keys/mixed")).json()
    listed = (await vault.get("/keys/mixed/versions")).json()["value"]
    assert sorted(each["key"]["kid"] for each in (first, second)) == [item["kid"] for item in listed]
    (item,) = (await vault.get("/keys")).json()["value"]
    assert {"kid", "attributes", "tags"} == item.keys()
    assert f"{vault.base}/keys/Mixed" == item["kid"]


@pytest.mark.parametrize("kty", ["RSA", "EC"])
async def test_only_the_operations_that_were_asked_for_each_once(vault: VaultClient, kty: str) -> None:
    bundle = await made(vault, kty=kty, key_ops=["verify", "sign", "verify"])

    assert ["verify", "sign"] == bundle["key"]["key_ops"]
    assert [] == (await made(vault, kty=kty, key_ops=[]))["key"]["key_ops"]


async def test_a_patch_changes_what_it_names(vault: VaultClient) -> None:
    first = await made(vault, tags={"a": "1"}, attributes={"exp": 32503680000})
    await made(vault, tags={"b": "2"})
    path = f"/keys/k/{version_of(first)}"
    changed = (await vault.patch(path, {"key_ops": ["verify"], "tags": {}, "attributes": {"enabled": False}})).json()

    assert (["verify"], {}, False, 32503680000) == (
        changed["key"]["key_ops"],
        changed["tags"],
        changed["attributes"]["enabled"],
        changed["attributes"]["exp"],
    )
    assert changed == (await vault.get(path)).json()
    assert first["key"] | {"key_ops": ["verify"]} == changed["key"]
    current = (await vault.patch("/keys/k/", {"attributes": {"nbf": 7}})).json()
    assert (["sign", "verify"], {"b": "2"}, 7) == (
        current["key"]["key_ops"],
        current["tags"],
        current["attributes"]["nbf"],
    )


@pytest.mark.parametrize("curve", CURVES)
async def test_an_imported_ec_key_is_the_same(vault: VaultClient, curve: str) -> None:
    jwk = ec_jwk(curve)
    answer = await vault.put("/keys/k", {"key": jwk | {"key_ops": ["sign"]}, "tags": {"a": "b"}})

    assert 200 == answer.status_code, answer.text
    key = answer.json()["key"]
    assert [base64.urlsafe_b64decode(jwk[name] + "==").rjust(66) for name in ("x", "y")] == [
        base64.urlsafe_b64decode(key[name] + "==").lstrip(b"\0").rjust(66) for name in ("x", "y")
    ]
    assert ({"a": "b"}, curve, ["sign"]) == (answer.json()["tags"], key["crv"], key["key_ops"])
    assert "d" not in key


@pytest.mark.parametrize("left_out", [(), ("p", "q", "dp", "dq", "qi"), ("dp", "dq", "qi")])
async def test_an_imported_rsa_key_is_the_same(vault: VaultClient, left_out: tuple[str, ...]) -> None:
    jwk = {name: value for name, value in rsa_jwk().items() if name not in left_out}
    answer = await vault.put("/keys/k", {"key": jwk, "Hsm": False})

    assert 200 == answer.status_code, answer.text
    key = answer.json()["key"]
    assert (jwk["n"], "AQAB", RSA_OPERATIONS) == (key["n"], key["e"], key["key_ops"])
    assert {"kid", "kty", "key_ops", "n", "e"} == key.keys()


def swapped() -> dict[str, str]:
    """A key whose exponents have changed places: to check its signatures costs as much as to make them."""
    numbers = RSA.private_numbers()
    private = numbers.public_numbers.e
    public = pow(private, -1, (numbers.p - 1) * (numbers.q - 1))
    remainders = {"dp": private % (numbers.p - 1), "dq": private % (numbers.q - 1)}
    return rsa_jwk() | {name: encoded(value) for name, value in ({"e": public, "d": private} | remainders).items()}


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "without d": ({name: value for name, value in rsa_jwk().items() if name != "d"}, "key.d is missing"),
    "without n": ({name: value for name, value in rsa_jwk().items() if name != "n"}, "key.n is missing"),
    "without q": ({name: value for name, value in rsa_jwk().items() if name != "q"}, "key.q is missing"),
    "of another": (rsa_jwk() | {"d": encoded(3)}, "do not belong together"),
    "recovered in vain": (
        {**{name: rsa_jwk()[name] for name in ("kty", "n", "e")}, "d": "AQ"},
        "do not belong together",
    ),
    "of zeros": (dict.fromkeys(("n", "e", "d", "p", "q"), "AA") | {"kty": "RSA"}, "The RSA key has 0 bits"),
    "weak": (rsa_jwk(rsa.generate_private_key(65537, 1024)), "The RSA key has 1024 bits"),
    "vast": (rsa_jwk() | {"n": encoded(b"\xff" * 200_000)}, "The RSA key has 1600000 bits"),
    "with a vast exponent": (swapped(), "public exponent of the RSA key has more than 64 bits"),
    "no base64": (rsa_jwk() | {"n": "!"}, "key.n is not valid base64"),
    "not on the curve": (ec_jwk("P-256") | {"x": "AQ"}, "do not belong together"),
    "of another curve": (ec_jwk("P-256") | {"crv": "P-384"}, "do not belong together"),
    "of an unknown curve": (ec_jwk("P-256") | {"crv": "P-192"}, "key.crv 'P-192' is not supported"),
    "without a curve": ({"kty": "EC", "x": "AQ", "y": "AQ", "d": "AQ"}, "key.crv"),
    "ec of zeros": (ec_jwk("P-256") | {"d": "AA"}, "do not belong together"),
    "symmetric": ({"kty": "oct", "k": "AAAA"}, "key.kty 'oct' is not supported"),
    "for an HSM": (rsa_jwk() | {"kty": "RSA-HSM"}, "tier premium"),
    "with odd operations": (rsa_jwk() | {"key_ops": ["sing"]}, "key_ops 'sing' is not supported"),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_keys_that_cannot_be_kept_are_refused_with_the_reason(vault: VaultClient, case: str) -> None:
    jwk, reason = HOSTILE[case]
    answer = await vault.put("/keys/k", {"key": jwk})

    assert (400, "BadParameter") == (answer.status_code, answer.json()["error"]["code"])
    assert reason in answer.json()["error"]["message"]
    assert 404 == (await vault.get("/keys/k")).status_code


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"kty": "oct"}, "kty 'oct' is not supported: use RSA or EC."),
        ({"kty": "RSA-HSM"}, "tier premium"),
        ({"kty": "RSA", "key_size": 1024}, "key_size 1024 is not supported"),
        ({"kty": "RSA", "crv": "P-256"}, "crv is only for EC keys"),
        ({"kty": "EC", "crv": "P-192"}, "crv 'P-192' is not supported"),
        ({"kty": "EC", "crv": "P-256", "key_size": 384}, "does not belong to curve P-256"),
        ({"kty": "RSA", "public_exponent": 3}, "public_exponent"),
        ({"kty": "RSA", "key_ops": ["export"]}, "key_ops 'export' is not supported"),
        ({"kty": "EC", "release_policy": {"data": "e30"}}, "not released"),
        ({"kty": "EC", "attributes": {"exportable": True}}, "not released"),
        ({"kty": "EC", "attributes": {"nbf": 5, "exp": 5}}, "attributes.exp must be later"),
        ({}, "kty"),
    ],
)
async def test_a_create_that_cannot_be_is_refused_with_the_reason(
    vault: VaultClient, body: dict[str, Any], reason: str
) -> None:
    answer = await vault.post("/keys/k/create", body)

    assert (400, "BadParameter") == (answer.status_code, answer.json()["error"]["code"])
    assert reason in answer.json()["error"]["message"]
    assert 404 == (await vault.get("/keys/k")).status_code


async def test_a_deleted_key_can_be_recovered_and_is_gone_when_purged(vault: VaultClient) -> None:
    bundle = await made(vault)
    deleted = (await vault.delete("/keys/k")).json()

    assert bundle["key"] == deleted["key"]
    assert f"{vault.base}/deletedkeys/k" == deleted["recoveryId"]
    assert 404 == (await vault.get("/keys/k")).status_code
    assert 404 == (await vault.post("/keys/k/sign", {"alg": "ES256", "value": "AA"})).status_code
    again = await vault.post("/keys/k/create", {"kty": "EC"})
    assert (409, "ObjectIsDeletedButRecoverable") == (again.status_code, again.json()["error"]["innererror"]["code"])
    assert 409 == (await vault.put("/keys/k", {"key": ec_jwk("P-256")})).status_code
    assert deleted == (await vault.get("/deletedkeys/k")).json()
    assert [deleted["recoveryId"]] == [each["recoveryId"] for each in (await vault.get("/deletedkeys")).json()["value"]]
    assert bundle == (await vault.post("/deletedkeys/k/recover")).json() == (await vault.get("/keys/k")).json()
    await vault.delete("/keys/k")
    assert 204 == (await vault.delete("/deletedkeys/k")).status_code
    assert 404 == (await vault.get("/deletedkeys/k")).status_code
    assert 200 == (await vault.post("/keys/k/create", {"kty": "EC"})).status_code


async def test_a_backup_brings_every_version_back_and_they_still_sign(vault: VaultClient) -> None:
    first, second = await made(vault, tags={"n": "1"}), await made(vault, key_ops=["verify", "sign"])
    blob = (await vault.post("/keys/k/backup")).json()
    taken = await vault.post("/keys/restore", blob)
    await vault.delete("/keys/k")
    await vault.delete("/deletedkeys/k")
    restored = await vault.post("/keys/restore", blob)

    assert 409 == taken.status_code
    assert second == restored.json() == (await vault.get("/keys/k")).json()
    assert first == (await vault.get(f"/keys/k/{version_of(first)}")).json()
    signed = await vault.post(f"/keys/k/{version_of(first)}/sign", {"alg": "ES256", "value": encoded(bytes(32))})
    assert 200 == signed.status_code
    assert 400 == (await vault.post("/secrets/restore", blob)).status_code


async def test_the_key_of_a_certificate_is_changed_through_it_only(vault: VaultClient) -> None:
    await vault.create("c")

    for method, path, body in (
        ("POST", "/keys/c/create", {"kty": "EC"}),
        ("PUT", "/keys/c", {"key": ec_jwk("P-256")}),
        ("PATCH", "/keys/c", {"tags": {}}),
        ("DELETE", "/keys/c", None),
        ("POST", "/keys/c/backup", None),
    ):
        answer = await vault.send(method, path, body)
        assert (403, "Forbidden") == (answer.status_code, answer.json()["error"]["code"]), path
        assert "change the certificate instead" in answer.json()["error"]["message"]


async def test_a_certificate_cannot_take_the_name_of_a_key(vault: VaultClient) -> None:
    await made(vault, "taken")
    answer = await vault.post("/certificates/taken/create", {"policy": {"issuer": {"name": "Self"}}})

    assert (409, "Conflict") == (answer.status_code, answer.json()["error"]["code"])


async def test_a_key_and_a_secret_may_have_the_same_name(vault: VaultClient) -> None:
    await made(vault, "n")

    assert 200 == (await vault.put("/secrets/n", {"value": "v"})).status_code
    assert 200 == (await vault.delete("/keys/n")).status_code
    assert 200 == (await vault.get("/secrets/n")).status_code
