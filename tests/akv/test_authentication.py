"""Who is let in: the challenge, tokens, and what is looked at before anybody is known."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.support.memory_broker import AUTHORITY, DOMAIN, PORT, MemoryBroker, VaultClient, bare_request

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def claims(administrator: str) -> dict[str, Any]:
    """The claims of a good token."""
    found: dict[str, Any] = json.loads(_decode(administrator.split(".")[1]))
    return found


@pytest.fixture(scope="module")
def key(broker: MemoryBroker) -> RSAKey:
    return broker.broker.tokens._key


def _decode(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _signed(key: RSAKey, claims: dict[str, Any], algorithm: str = "RS256") -> str:
    return jwt.encode({"alg": algorithm, "kid": key.kid}, claims, key, algorithms=[algorithm])


async def _refusal(vault: VaultClient, token: str | None) -> str:
    """The message with which a token is refused."""
    answer = await vault.acting(token).get("/secrets/n")
    assert answer.status_code == 401, answer.text
    assert "Unauthorized" == answer.json()["error"]["code"]
    assert "www-authenticate" in answer.headers
    return str(answer.json()["error"]["message"])


async def test_the_challenge_is_one_header_in_the_form_that_all_clients_read(
    broker: MemoryBroker, vault: VaultClient
) -> None:
    answer = await vault.acting(None).get("/secrets/n")

    challenge = f'Bearer authorization="{AUTHORITY}/{broker.core.tenant}", resource="https://{DOMAIN}:{PORT}"'
    assert 401 == answer.status_code
    assert [challenge] == answer.headers.get_list("www-authenticate")
    assert "AKV10000" in answer.json()["error"]["message"]
    assert "application/json; charset=utf-8" == answer.headers["content-type"]


async def test_the_resource_has_no_port_where_the_client_used_none(vault: VaultClient) -> None:
    answer = await vault.acting(None).get("/secrets/n", headers={"host": f"{vault.vault}.{DOMAIN}"})

    assert answer.headers["www-authenticate"].endswith(f', resource="https://{DOMAIN}"')


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/secrets/n", "/nowhere", "/", "/certificates//../x", "/secrets/a_b?api-version=0"])
async def test_nothing_is_told_to_strangers(vault: VaultClient, method: str, path: str) -> None:
    """Not whether a path, an object or a vault exists, nor whether a body or version is good."""
    stranger = vault.acting(None)
    nowhere = VaultClient(vault.http, None, "no-such-vault")

    for client in (stranger, nowhere):
        assert 401 == (await client.send(method, path, b"{", version=None)).status_code


async def test_a_stranger_is_refused_for_that_and_not_for_the_size_of_the_body(
    broker: MemoryBroker, vault: VaultClient
) -> None:
    host = (b"host", f"{vault.vault}.{DOMAIN}".encode())
    answer = await bare_request(broker.site, "PUT", b"/secrets/n", [host, (b"content-length", b"999999999")])

    assert 401 == answer.status


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic dTpw", "bearer x", "Bearer a.b.c", "Bearer é", "Bearer a b", "Bearer ..", "PoP x"],
)
async def test_other_headers_are_no_credentials(broker: MemoryBroker, vault: VaultClient, header: str) -> None:
    host = (b"host", f"{vault.vault}.{DOMAIN}".encode())
    headers = [host, (b"authorization", header.encode("latin-1"))]
    answer = await bare_request(broker.site, "GET", b"/secrets/n", headers)

    assert 401 == answer.status
    assert b"www-authenticate" in dict(answer.headers)


async def test_the_scheme_is_read_without_regard_to_case(vault: VaultClient) -> None:
    answer = await vault.acting(None).get("/secrets", headers={"authorization": f"bEARER {vault.token}"})

    assert 200 == answer.status_code


async def test_a_token_for_another_audience_is_refused(broker: MemoryBroker, vault: VaultClient) -> None:
    management = broker.token(("Key Vault Administrator", "/"), audience="https://login.example")

    assert "AKV10022" in await _refusal(vault, management)


async def test_tokens_for_the_public_cloud_name_are_taken(broker: MemoryBroker, vault: VaultClient) -> None:
    token = broker.token(("Key Vault Administrator", "/"), audience="https://vault.azure.net")

    assert 200 == (await vault.acting(token).get("/secrets")).status_code


async def test_time_limits_of_tokens_hold(vault: VaultClient, key: RSAKey, claims: dict[str, Any]) -> None:
    now = int(time.time())

    assert 200 == (await vault.acting(_signed(key, claims | {"exp": now + 60})).get("/secrets")).status_code
    for times in ({"exp": now - 1}, {"exp": now}, {"nbf": now + 400}, {"exp": "never"}, {"exp": None}, {"exp": 1e30}):
        assert "expired" in await _refusal(vault, _signed(key, claims | times))
    without = {name: value for name, value in claims.items() if name != "exp"}
    assert "expired" in await _refusal(vault, _signed(key, without))


async def test_tokens_of_another_tenant_are_refused(vault: VaultClient, key: RSAKey, claims: dict[str, Any]) -> None:
    assert "AKV10032" in await _refusal(vault, _signed(key, claims | {"tid": "other"}))


async def test_claims_of_other_types_are_refused(vault: VaultClient, key: RSAKey, claims: dict[str, Any]) -> None:
    for name in ("aud", "oid", "appid", "tid"):
        for value in (None, 1, [], {}, [claims[name]], ""):
            await _refusal(vault, _signed(key, claims | {name: value}))


async def test_the_object_id_has_to_be_the_applications_own(
    broker: MemoryBroker, vault: VaultClient, key: RSAKey, claims: dict[str, Any]
) -> None:
    other, _ = broker.application()

    await _refusal(vault, _signed(key, claims | {"oid": other.object_id}))
    await _refusal(vault, _signed(key, claims | {"appid": other.id}))


async def test_foreign_and_forged_signatures_are_refused(
    vault: VaultClient, key: RSAKey, claims: dict[str, Any], administrator: str
) -> None:
    head, body, signature = administrator.split(".")
    stranger = RSAKey.import_key(rsa.generate_private_key(65537, 2048))
    public = key.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    payload = _segment(json.dumps(claims).encode())
    forged = [jwt.encode({"alg": "RS256", "kid": key.kid}, claims, stranger)]
    for algorithm in ("none", "None", "", "HS256", "RS384", "PS256"):
        start = f"{_segment(json.dumps({'alg': algorithm, 'kid': key.kid}).encode())}.{payload}"
        forged += [f"{start}.", f"{start}.{_segment(hmac.new(public, start.encode(), hashlib.sha256).digest())}"]
    flipped = ("B" if signature[0] == "A" else "A") + signature[1:]
    other_body = _segment(json.dumps(claims | {"exp": claims["exp"] + 1}).encode())
    forged += [f"{head}.{body}.{flipped}", f"{head}.{other_body}.{signature}", f"{head}.{body}", f"{head}.{body}."]
    forged += [_signed(key, claims, "RS512"), f"{administrator}.x", administrator.replace(".", "..", 1)]

    for token in forged:
        await _refusal(vault, token)


@pytest.mark.parametrize(
    "header",
    [b"[]", b"1", b'"alg"', b"null", b"{}", b'{"alg":1}', b'{"alg":["RS256"]}',
     b'{"alg":"RS256","crit":["b64"]}',
     b'{"alg":"RS256","kid":{}}', b'{"alg":"RS256","crit":1}', b"[" * 4000, b'{"a":' * 1200, b"\xff", b"", b"9" * 4500],
    ids=lambda header: header[:12].decode("latin-1"),
)  # fmt: skip
async def test_a_token_with_a_strange_header_is_only_refused(
    vault: VaultClient, administrator: str, header: bytes
) -> None:
    _, body, signature = administrator.split(".")

    await _refusal(vault, f"{_segment(header)}.{body}.{signature}")
    await _refusal(vault, f"{administrator.split('.', maxsplit=1)[0]}.{_segment(header)}.{signature}")


async def test_a_long_token_is_not_looked_at(vault: VaultClient, key: RSAKey, claims: dict[str, Any]) -> None:
    assert "too long" in await _refusal(vault, _signed(key, claims | {"padding": "x" * 9000}))


async def test_a_disabled_or_deleted_application_is_out_at_once(broker: MemoryBroker, vault: VaultClient) -> None:
    application, secret = broker.application(("Key Vault Administrator", "/"))
    tokens = broker.broker.tokens
    token = tokens.issue(application.id, secret, f"https://{DOMAIN}", AUTHORITY)
    management = broker.token(("Broker Administrator", "/"), audience="https://login.example")
    assert 200 == (await vault.acting(token).get("/secrets")).status_code

    async with broker.client() as admin:
        path, headers = f"/admin/applications/{application.id}", {"authorization": f"Bearer {management}"}
        assert 200 == (await admin.patch(path, json={"enabled": False}, headers=headers)).status_code
        await _refusal(vault, token)
        assert 200 == (await admin.patch(path, json={"enabled": True}, headers=headers)).status_code
        assert 200 == (await vault.acting(token).get("/secrets")).status_code
        assert 204 == (await admin.delete(path, headers=headers)).status_code
    await _refusal(vault, token)


async def test_an_answer_has_the_id_that_the_client_gave(vault: VaultClient) -> None:
    given = await vault.get("/secrets", headers={"x-ms-client-request-id": "abc-1"})
    other = await vault.get("/secrets", headers={"x-ms-client-request-id": "no\x7f" * 50})

    assert "abc-1" == given.headers["x-ms-request-id"]
    assert "no" not in other.headers["x-ms-request-id"]
    assert "no-store" == given.headers["cache-control"]
