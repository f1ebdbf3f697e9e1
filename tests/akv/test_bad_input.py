"""Requests that no decent client sends: none is a 500, each is refused in the documented form."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.support.memory_broker import DOMAIN, MemoryBroker, VaultClient, bare_request, check_form

pytestmark = pytest.mark.anyio

WRITES = [
    ("PUT", "/secrets/n"),
    ("PATCH", "/secrets/s"),
    ("POST", "/secrets/restore"),
    ("POST", "/certificates/n/create"),
    ("POST", "/certificates/n/import"),
    ("PATCH", "/certificates/c"),
    ("PATCH", "/certificates/c/policy"),
    ("PATCH", "/certificates/c/pending"),
    ("POST", "/certificates/c/pending/merge"),
    ("POST", "/certificates/restore"),
    ("PUT", "/certificates/contacts"),
    ("PUT", "/certificates/issuers/i"),
    ("PATCH", "/certificates/issuers/j"),
]


def _everywhere(value: bytes) -> bytes:
    """A body with that value in every place where a text may stand."""
    members = b"value contentType provider email cancellation_requested x5c contacts tags attributes key_props".split()
    return b"{" + b"".join(b'"%s":%s,' % (member, value) for member in members) + b'"issuer":{"name":%s}}' % value


NOT_JSON = {
    "empty": b"",
    "text": b"hello",
    "half": b'{"value": "v"',
    "two": b'{"value":"v"}{"value":"w"}',
    "trailing": b'{"value":"v"} x',
    "single quotes": b"{'value':'v'}",
    "lone surrogate": _everywhere(b'"\\ud800"'),
    "not utf-8": _everywhere(b'"\xff"'),
    "utf-16": '{"value":"v"}'.encode("utf-16"),
    "bom": b'\xef\xbb\xbf{"value":"v"}',
    "deep list": b"[" * 100_000,
    "deep object": b'{"value":' * 50_000,
    "deep unknown": b'{"unknown":' + b"[" * 90_000 + b"]" * 90_000 + b"}",
    "nan": _everywhere(b"NaN"),
    "huge number": _everywhere(b"1e99999"),
    "control character": _everywhere(b'"\x01"'),
}

WRONG_TYPES = {
    "null": None,
    "list": [],
    "text": "value",
    "number": 1,
    "boolean": True,
    "wrong members": {
        "value": 1,
        "tags": [],
        "attributes": "on",
        "policy": [],
        "cancellation_requested": "yes",
        "x5c": "text",
        "contacts": {},
        "provider": [],
        "key_props": 1,
    },
    "huge integers": {
        "value": 10**400,
        "attributes": {"nbf": 10**400, "exp": -(10**400), "enabled": 10**30},
        "policy": {"x509_props": {"validity_months": 10**400}},
        "x509_props": {"validity_months": 10**400},
        "x5c": [10**400],
        "contacts": 10**400,
        "provider": 10**400,
        "cancellation_requested": 10**400,
    },
}


@pytest.fixture(scope="module")
def shared(broker: MemoryBroker, http: httpx.AsyncClient, administrator: str) -> VaultClient:
    """One vault with something of each kind in it, whose content no bad request changes."""
    return VaultClient(http, administrator, broker.new_vault())


@pytest.fixture(autouse=True)
async def furnished(shared: VaultClient) -> None:
    if (await shared.get("/secrets/s")).status_code == 404:
        await shared.put("/secrets/s", {"value": "v", "tags": {"a": "b"}})
        await shared.create("c")
        await shared.put("/certificates/issuers/j", {"provider": "Test"})


async def _content(vault: VaultClient) -> list[Any]:
    paths = ("/secrets", "/keys", "/certificates?includePending=true", "/certificates/c", "/certificates/issuers")
    return [(await vault.get(path)).json() for path in (*paths, "/certificates/contacts", "/certificates/c/pending")]


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
async def test_what_is_not_json_is_refused(shared: VaultClient, method: str, path: str, body: bytes) -> None:
    before = await _content(shared)
    answer = await shared.send(method, path, body)

    check_form(answer)
    assert 400 == answer.status_code
    assert before == await _content(shared)


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize("body", WRONG_TYPES.values(), ids=WRONG_TYPES.keys())
async def test_what_has_the_wrong_types_is_refused(shared: VaultClient, method: str, path: str, body: Any) -> None:
    before = await _content(shared)
    answer = await shared.send(method, path, json.dumps(body).encode())

    check_form(answer)
    assert 400 == answer.status_code
    assert before == await _content(shared)


@pytest.mark.parametrize(
    ("path", "member"),
    [
        ("/admin/vaults", b"name"),
        ("/admin/doctor", b"issuer"),
        ("/admin/applications", b"name"),
        ("/admin/assignments", b"application"),
        ("/admin/drills", b"issuer"),
        ("/admin/discovery/sightings/s/adopt", b"vault"),
    ],
)
async def test_what_is_not_json_is_refused_by_the_administration_too(
    broker: MemoryBroker, http: httpx.AsyncClient, path: str, member: bytes
) -> None:
    token = broker.token(("Broker Administrator", "/"), audience=broker.hosts.management_audience)
    deep = b"[" * 60_000
    refusals = [
        await http.post(path, content=b'{"%s":%s' % (member, rest), headers={"authorization": f"Bearer {token}"})
        for rest in (b'"\xff"}', b'"\xff', b'"\\ud800"}', b"1e99999}", b'"x"} y', b'"x","unknown":%s' % deep, deep)
    ]

    for answer in refusals:
        check_form(answer)
    assert {400} == {answer.status_code for answer in refusals}


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_a_mebibyte_is_refused(broker: MemoryBroker, shared: VaultClient, announced: bool) -> None:
    headers = [
        (b"host", f"{shared.vault}.{DOMAIN}".encode()),
        (b"authorization", f"Bearer {shared.token}".encode()),
        (b"content-length", b"1048577") if announced else (b"transfer-encoding", b"chunked"),
    ]
    answer = await bare_request(
        broker.site, "PUT", b"/secrets/n", headers, [b" " * 65536] * 16 + [b" "], b"api-version=7.4"
    )

    assert 413 == answer.status
    assert b"close" == dict(answer.headers)[b"connection"]
    assert "RequestEntityTooLarge" == json.loads(answer.body)["error"]["code"]


@pytest.mark.parametrize(
    "headers",
    [
        [(b"host", b"other.example")],
        [(b"authorization", b"Bearer x")],
        [(b"content-length", b"2"), (b"content-length", b"2")],
        [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")],
        [(b"content-length", b"-1")],
        [(b"content-length", b"two")],
        [(b"content-length", b"9" * 5000)],
        [(b"content-length", "\uff12".encode())],
        [(b"x", b"x" * 40_000)],
    ],
    ids=lambda headers: f"{headers[0][0].decode()} {headers[0][1][:12].decode('latin-1')} {len(headers)}",
)
async def test_headers_that_can_be_read_in_two_ways_are_refused(
    broker: MemoryBroker, shared: VaultClient, headers: list[tuple[bytes, bytes]]
) -> None:
    own = [(b"host", f"{shared.vault}.{DOMAIN}".encode()), (b"authorization", f"Bearer {shared.token}".encode())]
    answer = await bare_request(broker.site, "PUT", b"/secrets/n", [*own, *headers], [b"{}"], b"api-version=7.4")

    assert answer.status in (400, 413)
    assert json.loads(answer.body)["error"]["code"] in ("BadParameter", "RequestEntityTooLarge")
    assert 404 == (await shared.get("/secrets/n")).status_code


@pytest.mark.parametrize(
    "host", [b"", b"a b", b"a/b", b"a,b", b"a:99999999", b"\xff.example", b"[::1", b"a" * 300, b"a@b"]
)
async def test_hosts_that_are_none_are_refused(broker: MemoryBroker, host: bytes) -> None:
    answer = await bare_request(broker.site, "GET", b"/secrets", [(b"host", host)])

    assert 400 == answer.status


async def test_a_missing_host_is_refused(broker: MemoryBroker) -> None:
    assert 400 == (await bare_request(broker.site, "GET", b"/secrets", [])).status


@pytest.mark.parametrize(
    "path",
    [
        *(
            b"/secrets/../secrets/s",
            b"/secrets/%2e%2e/secrets/s",
            b"/secrets/s%2F..",
            b"/./secrets/s",
            b"/secrets/s\x00",
        ),
        *(b"/secrets/\xc3\xa9", b"/secrets/s\\", b"/secrets/<s>", b"/secrets/s%", b"/secrets/%zz", b'/secrets/"s"'),
        *(b"/secrets/s\x00", b"/secrets/" + b"s" * 3000, b"", b"*", b"s", b"/secrets/s#x", b"/secrets/s|"),
        b"https://elsewhere.example/secrets/s",
    ],
)
async def test_paths_that_name_nothing_are_refused(broker: MemoryBroker, shared: VaultClient, path: bytes) -> None:
    own = [(b"host", f"{shared.vault}.{DOMAIN}".encode()), (b"authorization", f"Bearer {shared.token}".encode())]
    answer = await bare_request(broker.site, "GET", path, own, (), b"api-version=7.4")

    assert answer.status in (400, 404)
    assert {"code", "message"} == json.loads(answer.body)["error"].keys()


@pytest.mark.parametrize(
    "query",
    [
        b"api-version=7.4&api-version=7.4",
        b"api-version=7.4&api-version=7.5",
        b"api%2dversion=7.4&api-version=7.4",
        b"api-version=7.4&a=1&a=2",
        b"api-version=7.4&" + b"&".join(b"a%d=" % n for n in range(40)),
        b"api-version=7.4;x=1",
        b"api-version=%ff",
        b"\xff=\xff",
        b"&" * 3000,
    ],
)
async def test_queries_that_can_be_read_in_two_ways_are_refused(
    broker: MemoryBroker, shared: VaultClient, query: bytes
) -> None:
    own = [(b"host", f"{shared.vault}.{DOMAIN}".encode()), (b"authorization", f"Bearer {shared.token}".encode())]
    answer = await bare_request(broker.site, "GET", b"/secrets/s", own, (), query)

    assert (400, "BadParameter") == (answer.status, json.loads(answer.body)["error"]["code"])


async def test_a_client_that_goes_away_changes_nothing(broker: MemoryBroker, shared: VaultClient) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [
        (b"host", f"{shared.vault}.{DOMAIN}".encode()),
        (b"authorization", f"Bearer {shared.token}".encode()),
        (b"content-length", b"20"),
    ]
    scope = {"type": "http", "method": "PUT", "raw_path": b"/secrets/n", "headers": headers}
    await broker.site({**scope, "query_string": b"api-version=7.4", "client": None}, receive, send)

    assert 400 == sent[0]["status"]
    assert 404 == (await shared.get("/secrets/n")).status_code


async def test_a_request_that_is_given_up_while_it_is_written_is_whole_or_nothing(shared: VaultClient) -> None:
    writes = [asyncio.ensure_future(shared.put(f"/secrets/w{number}", {"value": "v"})) for number in range(20)]
    await asyncio.sleep(0.002)
    for write in writes:
        write.cancel()
    await asyncio.gather(*writes, return_exceptions=True)
    names = [item["id"].rpartition("/")[2] for item in (await shared.get("/secrets")).json()["value"]]

    for name in names:
        assert 200 == (await shared.get(f"/secrets/{name}")).status_code
    for number in range(20):
        if f"w{number}" in names:
            await shared.delete(f"/secrets/w{number}")
            await shared.delete(f"/deletedsecrets/w{number}")


# --- Generated requests -------------------------------------------------------------------------------------------
