"""Refusals: each has the status, code and words that clients act on, and nothing more."""

from __future__ import annotations

from typing import Any

import pytest

from certbroker.web.akv.versions import API_VERSIONS
from tests.support.memory_broker import VaultClient, self_signed_policy

pytestmark = pytest.mark.anyio


def _error(answer: Any) -> tuple[int, str]:
    error = answer.json()["error"]
    assert set(error) <= {"code", "message", "innererror"}
    assert error["message"]
    assert "application/json; charset=utf-8" == answer.headers["content-type"]
    return answer.status_code, error["code"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/secrets/n", "SecretNotFound"),
        ("/secrets/n/" + "0" * 32, "SecretNotFound"),
        ("/deletedsecrets/n", "SecretNotFound"),
        ("/keys/n", "KeyNotFound"),
        ("/keys/n/" + "0" * 32, "KeyNotFound"),
        ("/deletedkeys/n", "KeyNotFound"),
        ("/certificates/n", "CertificateNotFound"),
        ("/certificates/n/" + "0" * 32, "CertificateNotFound"),
        ("/certificates/n/policy", "CertificateNotFound"),
        ("/certificates/n/versions", "CertificateNotFound"),
        ("/deletedcertificates/n", "CertificateNotFound"),
        ("/certificates/n/pending", "PendingCertificateNotFound"),
        ("/certificates/contacts", "ContactsNotFound"),
        ("/certificates/issuers/n", "CertificateIssuerNotFound"),
    ],
)
async def test_what_is_not_there_is_not_found(vault: VaultClient, path: str, code: str) -> None:
    answer = await vault.get(path)

    assert (404, code) == _error(answer)
    assert "not found" in answer.json()["error"]["message"].lower()


@pytest.mark.parametrize("version", sorted(API_VERSIONS))
async def test_every_known_version_is_served_alike(vault: VaultClient, version: str) -> None:
    assert 200 == (await vault.get("/secrets", version=version)).status_code


@pytest.mark.parametrize(
    "version", [None, "", "7", "7.7", "2026-04-01 ", "7.4%00", "2099-01-01", "é", "7.4&api-version=7.4"]
)
async def test_unknown_and_missing_versions_are_refused(vault: VaultClient, version: str | None) -> None:
    assert (400, "BadParameter") == _error(await vault.get("/secrets", version=version))


@pytest.mark.parametrize("name", ["a_b", "a.b", "a%20b", "a%2Fb", "%00", "%C3%A9", "x" * 128, "a;b", "a:b", "(a)", "%"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/secrets/{}"),
        ("PUT", "/secrets/{}"),
        ("GET", "/secrets/{}/versions"),
        ("GET", "/deletedsecrets/{}"),
        ("DELETE", "/secrets/{}"),
        ("GET", "/keys/{}"),
        ("PUT", "/keys/{}"),
        ("POST", "/keys/{}/create"),
        ("POST", "/keys/{}/sign"),
        ("POST", "/certificates/{}/create"),
        ("GET", "/certificates/{}/pending"),
        ("PUT", "/certificates/issuers/{}"),
    ],
)
async def test_names_that_are_not_allowed_are_refused(vault: VaultClient, method: str, path: str, name: str) -> None:
    bodies = {"PUT": {"value": "v", "provider": "Test"}, "POST": {"policy": self_signed_policy(), "kty": "EC"}}
    answer = await vault.send(method, path.format(name), bodies.get(method))

    assert (400, "BadParameter") == _error(answer)


@pytest.mark.parametrize("version", ["x", "0" * 31, "0" * 33, "g" * 32, "latest", "%30" + "0" * 31])
@pytest.mark.parametrize("kind", ["secrets", "keys", "certificates"])
async def test_versions_that_are_none_are_refused(vault: VaultClient, kind: str, version: str) -> None:
    assert (400, "BadParameter") == _error(await vault.get(f"/{kind}/n/{version}"))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/secretz"),
        ("POST", "/secrets/n"),
        ("PUT", "/secrets"),
        ("DELETE", "/secrets/n/" + "0" * 32),
        ("GET", "/secrets/n/versions/"),
        ("GET", "/secrets//n"),
        ("GET", "//secrets/n"),
        ("PUT", "/certificates/n/policy"),
        ("POST", "/keys/n/release"),
        ("GET", "/keys/n/sign"),
        ("HEAD", "/secrets"),
        ("BREW", "/secrets"),
    ],
)
async def test_other_paths_and_methods_do_not_exist(vault: VaultClient, method: str, path: str) -> None:
    answer = await vault.send(method, path)

    assert answer.status_code in (404, 400)
    if method != "HEAD":
        _error(answer)


async def test_words_with_a_meaning_of_their_own_are_no_names(vault: VaultClient) -> None:
    """`restore`, `contacts` and `issuers` stand where a name would."""
    assert 400 == (await vault.post("/secrets/restore", {"value": ""})).status_code
    assert (404, "ContactsNotFound") == _error(await vault.get("/certificates/CONTACTS"))
    assert [] == (await vault.get("/Certificates/Issuers")).json()["value"]
    assert 200 == (await vault.put("/secrets/restore", {"value": "a secret may have the name"})).status_code
    assert 200 == (await vault.get("/secrets/restore")).status_code


async def test_a_vault_that_is_not_there_is_not_found(vault: VaultClient) -> None:
    answer = await VaultClient(vault.http, vault.token, "no-such-vault").get("/secrets")

    assert (404, "VaultNotFound") == _error(answer)


async def test_vault_names_are_found_without_regard_to_case(vault: VaultClient) -> None:
    assert 200 == (await VaultClient(vault.http, vault.token, vault.vault.upper()).get("/secrets")).status_code
