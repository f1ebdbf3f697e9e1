"""The token endpoint and what leads to it, on the wire."""

from __future__ import annotations

import base64
import json
import time
from asyncio import to_thread
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import KeySet

from certbroker.domain.access import Application, Credential, secret_digest
from certbroker.domain.audit import Caller
from tests.support.memory_broker import AUTHORITY, DOMAIN, PORT, MemoryBroker, VaultClient

pytestmark = pytest.mark.anyio

SCOPE = f"https://{DOMAIN}:{PORT}/.default"
FORM_TYPE = {"content-type": "application/x-www-form-urlencoded"}

Known = tuple[Application, str]


@pytest.fixture(scope="module")
def known(broker: MemoryBroker) -> Known:
    """An application that may read secrets, and its secret."""
    return broker.application(("Key Vault Reader", "/"))


@pytest.fixture
def form(known: Known) -> dict[str, str]:
    application, secret = known
    return {
        "grant_type": "client_credentials",
        "client_id": application.id,
        "client_secret": secret,
        "scope": SCOPE,
        "client_info": "1",
        "claims": '{"access_token":{"xms_cc":{"values":["CP1"]}}}',
    }


def _refused(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert {"error", "error_description"} == body.keys()
    assert "no-store" == answer.headers["cache-control"]
    return answer.status_code, body["error"]


def _claims(token: str) -> dict[str, Any]:
    middle = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return found


@pytest.mark.parametrize("prefix", ["/{tenant}", "/{TENANT}", "/adfs", "/ADFS", "/dstsv2/{tenant}", "/dstsv2/adfs"])
@pytest.mark.parametrize("version", ["/v2.0", ""])
async def test_a_token_is_given_at_every_endpoint_and_opens_a_vault(
    broker: MemoryBroker, http: httpx.AsyncClient, known: Known, form: dict[str, str], prefix: str, version: str
) -> None:
    tenant = broker.core.tenant
    path = prefix.format(tenant=tenant, TENANT=tenant.upper())
    answer = await http.post(f"{path}/oauth2{version}/token", data=form)

    assert 200 == answer.status_code, answer.text
    body = answer.json()
    assert ("Bearer", 3600, 3600) == (body["token_type"], body["expires_in"], body["ext_expires_in"])
    assert 0 < body["refresh_in"] < body["expires_in"]
    assert ("no-store", "no-cache") == (answer.headers["cache-control"], answer.headers["pragma"])
    claims = _claims(body["access_token"])
    assert (f"https://{DOMAIN}", known[0].id, known[0].object_id, known[0].object_id, tenant) == (
        claims["aud"],
        claims["appid"],
        claims["oid"],
        claims["sub"],
        claims["tid"],
    )
    vault = VaultClient(http, body["access_token"], broker.new_vault())
    assert 200 == (await vault.get("/secrets")).status_code


@pytest.mark.parametrize(
    "resource", [f"https://{DOMAIN}", f"https://{DOMAIN}/", f"https://{DOMAIN}:{PORT}", "https://vault.azure.net"]
)
async def test_the_older_form_names_a_resource(http: httpx.AsyncClient, form: dict[str, str], resource: str) -> None:
    older = {name: value for name, value in form.items() if name != "scope"} | {"resource": resource}

    assert 200 == (await http.post("/adfs/oauth2/token", data=older)).status_code


@pytest.mark.parametrize("scope", [f"https://{DOMAIN}/.default openid", "https://login.example/.default"])
async def test_further_scopes_are_ignored(http: httpx.AsyncClient, form: dict[str, str], scope: str) -> None:
    assert 200 == (await http.post("/adfs/oauth2/v2.0/token", data=form | {"scope": scope})).status_code


async def test_basic_authentication_serves_as_well(http: httpx.AsyncClient, known: Known, form: dict[str, str]) -> None:
    application, secret = known
    body = {"grant_type": form["grant_type"], "scope": form["scope"]}

    for user, password in ((application.id, secret), (quote(application.id, safe=""), quote(secret, safe=""))):
        answer = await http.post("/adfs/oauth2/v2.0/token", data=body, auth=(user, password))
        assert 200 == answer.status_code
    assert (401, "invalid_client") == _refused(
        await http.post("/adfs/oauth2/v2.0/token", data=body, auth=(application.id, "wrong"))
    )
    for garbage in ("Basic", "Basic !", "Basic /w==", "Basic " + base64.b64encode(b"no colon").decode()):
        answer = await http.post("/adfs/oauth2/v2.0/token", data=body, headers={"authorization": garbage})
        assert (401, "invalid_client") == _refused(answer)


async def test_the_keys_verify_the_tokens(http: httpx.AsyncClient, broker: MemoryBroker, form: dict[str, str]) -> None:
    token = (await http.post("/adfs/oauth2/v2.0/token", data=form)).json()["access_token"]
    tenant = broker.core.tenant

    for path in (f"/{tenant}/discovery/v2.0/keys", "/adfs/discovery/keys", f"/dstsv2/{tenant}/discovery/v2.0/keys"):
        keys = (await http.get(path)).json()
        assert {"kty", "n", "e", "kid", "use", "alg"} == keys["keys"][0].keys()
        decoded = jwt.decode(token, KeySet.import_key_set(keys), algorithms=["RS256"])
        assert decoded.header["kid"] == keys["keys"][0]["kid"]


@pytest.mark.parametrize(
    "path",
    [
        f"{place}/.well-known/openid-configuration"
        for place in ("/{tenant}/v2.0", "/{tenant}", "/adfs", "/dstsv2/{tenant}", "/dstsv2/{tenant}/v2.0")
    ],
)
async def test_discovery_leads_to_a_token(
    http: httpx.AsyncClient, broker: MemoryBroker, form: dict[str, str], path: str
) -> None:
    configuration = (await http.get(path.format(tenant=broker.core.tenant))).json()

    assert {"issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"} <= configuration.keys()
    base = f"https://login.example:{PORT}{path.format(tenant=broker.core.tenant).partition('/v2.0/')[0]}"
    base = base.partition("/.well-known")[0]
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "issuer"):
        assert configuration[name].startswith(base)
    answer = await http.post(configuration["token_endpoint"], data=form)
    assert 200 == answer.status_code
    assert 200 == (await http.get(configuration["jwks_uri"])).status_code


async def test_instance_discovery_says_that_this_is_an_authority_of_its_own(
    http: httpx.AsyncClient, broker: MemoryBroker
) -> None:
    found = (await http.get("/common/discovery/instance?api-version=1.1&authorization_endpoint=x")).json()

    assert f"{broker.core.tenant}/v2.0/.well-known/openid-configuration" in found["tenant_discovery_endpoint"]
    assert [f"login.example:{PORT}"] == found["metadata"][0]["aliases"]


async def test_the_metadata_of_the_cloud_name_both_endpoints(http: httpx.AsyncClient) -> None:
    found = (await http.get("/metadata/endpoints?api-version=2022-09-01")).json()

    assert AUTHORITY == found["authentication"]["loginEndpoint"]
    assert f"{DOMAIN}:{PORT}" == found["suffixes"]["keyVaultDns"]
    assert AUTHORITY == found["resourceManager"]
    for path in ("/subscriptions", "/tenants"):
        assert {"value": []} == (await http.get(path)).json()


async def test_wrong_credentials_are_told_apart_by_nobody(
    http: httpx.AsyncClient, broker: MemoryBroker, known: Known, form: dict[str, str]
) -> None:
    """Unknown client, wrong secret, expired secret, disabled application: one answer."""
    expired, disabled = broker.application()[0], broker.application()
    store, access = broker.broker.store, broker.broker.access
    now = int(time.time())
    credential = Credential("expired", expired.id, secret_digest("expired secret"), now - 100, now - 1)
    await to_thread(store.write, lambda transaction: transaction.identities.add_credential(credential))
    await to_thread(access.enable_application, Caller("operator", "Test"), disabled[0].id, enabled=False)
    answers = [
        await http.post("/adfs/oauth2/v2.0/token", data=form | {"client_id": client_id, "client_secret": secret})
        for client_id, secret in (
            ("nobody", known[1]),
            (known[0].id, "wrong"),
            (known[0].id, known[1] + "x"),
            (known[0].id, disabled[1]),
            (known[0].name, known[1]),
            (expired.id, "expired secret"),
            (disabled[0].id, disabled[1]),
            (known[0].id, "\0"),
            ("\0", known[1]),
        )
    ]

    assert {(401, "invalid_client")} == {_refused(answer) for answer in answers}
    assert 1 == len({answer.text for answer in answers})
    assert known[1] not in answers[1].text


@pytest.mark.parametrize(
    ("changed", "status", "error"),
    [
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": None}, 400, "unsupported_grant_type"),
        ({"client_id": None}, 401, "invalid_client"),
        ({"client_secret": ""}, 401, "invalid_client"),
        ({"scope": "https://elsewhere.example/.default"}, 400, "invalid_scope"),
        ({"scope": f"https://{DOMAIN}.evil.example/.default"}, 400, "invalid_scope"),
        ({"scope": f"https://x@{DOMAIN}.evil/.default"}, 400, "invalid_scope"),
        ({"scope": "https://[::1/.default"}, 400, "invalid_scope"),
        ({"scope": "//["}, 400, "invalid_scope"),
        ({"scope": "https://vault.example\u2100.x"}, 400, "invalid_scope"),
        ({"scope": ""}, 400, "invalid_scope"),
        ({"scope": None, "resource": "https://elsewhere.example"}, 400, "invalid_resource"),
        ({"scope": None}, 400, "invalid_resource"),
    ],
)
async def test_requests_that_ask_for_something_else_are_refused(
    http: httpx.AsyncClient, form: dict[str, str], changed: dict[str, str | None], status: int, error: str
) -> None:
    data = {name: value for name, value in (form | changed).items() if value is not None}

    assert (status, error) == _refused(await http.post("/adfs/oauth2/v2.0/token", data=data))


@pytest.mark.parametrize(
    "tenant", ["common", "organizations", "00000000-0000-0000-0000-000000000000", "x%00", "%2e%2e"]
)
async def test_other_tenants_are_not_found(http: httpx.AsyncClient, form: dict[str, str], tenant: str) -> None:
    answer = await http.post(f"/{tenant}/oauth2/v2.0/token", data=form)

    if answer.status_code == 404:
        assert tenant == "%2e%2e"
    else:
        assert (400, "invalid_request") == _refused(answer)
        assert "AADSTS90002" in answer.json()["error_description"]


@pytest.mark.parametrize(
    "body",
    [
        "grant_type=client_credentials&grant_type=client_credentials",
        "grant_type=client_credentials&client_id=a&client_id=b&client_secret=c",
        "&".join(f"f{number}=" for number in range(100)),
        "grant_type=é",
        b"\xff",
        '{"grant_type":"client_credentials"}',
        "",
    ],
)
async def test_forms_that_can_be_read_in_two_ways_are_refused(http: httpx.AsyncClient, body: str | bytes) -> None:
    answer = await http.post("/adfs/oauth2/v2.0/token", content=body, headers=FORM_TYPE)

    assert 400 == answer.status_code
    assert _refused(answer)[1] in ("invalid_request", "unsupported_grant_type")


async def test_a_huge_form_is_refused(http: httpx.AsyncClient, form: dict[str, str]) -> None:
    answer = await http.post("/adfs/oauth2/v2.0/token", data=form | {"padding": "x" * 70_000})

    assert (413, "invalid_request") == _refused(answer)


async def test_other_methods_are_not_served(http: httpx.AsyncClient) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert (await http.request(method, "/adfs/oauth2/v2.0/token")).status_code in (404, 405)


@given(
    fields=st.dictionaries(
        st.sampled_from(["grant_type", "client_id", "client_secret", "scope", "resource", "claims", "x"]),
        st.one_of(st.text(max_size=20), st.just("client_credentials"), st.text(max_size=10).map("https://".__add__)),
    ),
    authorization=st.one_of(st.none(), st.binary(max_size=12).map(lambda raw: base64.b64encode(raw).decode())),
)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
async def test_no_form_is_our_fault(http: httpx.AsyncClient, fields: dict[str, str], authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": f"Basic {authorization}"}
    content = "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())
    answer = await http.post("/adfs/oauth2/v2.0/token", content=content, headers=FORM_TYPE | headers)

    assert answer.status_code in (400, 401)
    assert {"error", "error_description"} == answer.json().keys()
