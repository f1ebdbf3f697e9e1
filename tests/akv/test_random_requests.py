"""Requests that chance puts together: none is a 500, and what is accepted can be done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certbroker.web.akv.routes import _Node
from certbroker.web.akv.vault import VaultApp
from tests.support.memory_broker import MemoryBroker, VaultClient, check_form

pytestmark = pytest.mark.anyio


def _patterns(node: _Node, path: str = "") -> Iterator[tuple[str, str]]:
    for method in node.routes:
        yield method, path
    for literal, child in node.literals.items():
        yield from _patterns(child, f"{path}/{literal}")
    if node.parameter is not None:
        yield from _patterns(node.parameter[1], f"{path}/{{}}")


ROUTES = sorted(_patterns(VaultApp(None)._router._root))  # type: ignore[arg-type]

WORDS = st.sampled_from([
    "s", "c", "n", "j", "", "Self", "Unknown", "CN=x", "CN=", "AutoRenew", "EC", "RSA", "P-256", "P-521", "7.4",
    "1.2.3", "application/x-pem-file", "digitalSignature", "keyAgreement", "a@b", "http://x", "10.0.0.1",
    "-----BEGIN", "x.example",
])  # fmt: skip
TEXT = st.one_of(WORDS, st.text(st.characters(codec="utf-8"), max_size=12))
MEMBERS = st.sampled_from([
    "value", "contentType", "attributes", "tags", "enabled", "nbf", "exp", "policy", "key_props", "secret_props",
    "x509_props", "lifetime_actions", "issuer", "exportable", "kty", "key_size", "reuse_key", "crv", "subject",
    "ekus", "sans", "key_usage", "validity_months", "emails", "dns_names", "upns", "uris", "ipAddresses", "trigger",
    "action", "action_type", "days_before_expiry", "lifetime_percentage", "name", "cty", "pwd", "x5c", "contacts",
    "cancellation_requested", "email", "phone", "provider", "credentials", "account_id", "org_details", "id",
    "admin_details", "key", "key_ops", "alg", "digest", "Hsm", "n", "e", "d", "p", "x", "y", "release_policy",
])  # fmt: skip
KEYS = st.one_of(MEMBERS, st.text(max_size=4))
BOOLEAN = st.booleans()
NUMBERS = st.one_of(st.integers(), st.integers(-3, 100), st.floats(allow_nan=False, allow_infinity=False))
JSON = st.recursive(
    st.one_of(st.none(), BOOLEAN, NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=20,
)


def _shaped(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these members, most of them of the right type."""
    return st.fixed_dictionaries(
        {}, optional={name: st.one_of(each, each, each, JSON) for name, each in members.items()}
    )


TEXTS = st.lists(TEXT, max_size=3)
ACTIONS = _shaped(
    trigger=_shaped(lifetime_percentage=st.integers(0, 100), days_before_expiry=st.integers(0, 400)),
    action=_shaped(action_type=TEXT),
)
POLICY = _shaped(
    key_props=_shaped(exportable=BOOLEAN, kty=st.just("EC"), key_size=st.integers(), reuse_key=BOOLEAN, crv=TEXT),
    secret_props=_shaped(contentType=TEXT),
    x509_props=_shaped(
        subject=TEXT,
        ekus=TEXTS,
        sans=_shaped(emails=TEXTS, dns_names=TEXTS, upns=TEXTS, uris=TEXTS, ipAddresses=TEXTS),
        key_usage=TEXTS,
        validity_months=st.integers(-1, 1300),
    ),
    lifetime_actions=st.lists(ACTIONS, max_size=2),
    issuer=_shaped(name=WORDS, cty=TEXT, cert_transparency=BOOLEAN),
)
BODIES = _shaped(
    value=TEXT,
    contentType=TEXT,
    attributes=_shaped(enabled=BOOLEAN, nbf=st.integers(), exp=st.integers()),
    tags=st.dictionaries(TEXT, TEXT, max_size=3),
    policy=POLICY,
    x5c=TEXTS,
    cancellation_requested=BOOLEAN,
    contacts=st.lists(_shaped(email=TEXT, name=TEXT, phone=TEXT), max_size=2),
    provider=TEXT,
    credentials=_shaped(account_id=TEXT, pwd=TEXT),
    org_details=_shaped(id=TEXT, admin_details=st.lists(_shaped(email=TEXT, phone=TEXT), max_size=2)),
)
USES = _shaped(
    kty=st.just("EC"),
    crv=WORDS,
    key_ops=TEXTS,
    key=_shaped(kty=WORDS, crv=WORDS, n=TEXT, e=TEXT, d=TEXT, p=TEXT, q=TEXT, x=TEXT, y=TEXT),
    alg=WORDS,
    value=TEXT,
    digest=TEXT,
)
SEGMENTS = st.one_of(WORDS, st.text(max_size=6), st.just("0" * 32), st.just("versions"))
QUERIES = st.dictionaries(
    st.one_of(st.sampled_from(["maxresults", "$skiptoken", "includePending", "request_id", "outContentType"]), TEXT),
    st.one_of(TEXT, st.integers(0, 30).map(str)),
    max_size=3,
)


@pytest.fixture(scope="module")
def playground(broker: MemoryBroker, http: httpx.AsyncClient, administrator: str) -> VaultClient:
    """A vault in which generated requests may do what they can."""
    return VaultClient(http, administrator, broker.new_vault())


@given(
    route=st.sampled_from(ROUTES),
    segments=st.lists(SEGMENTS, min_size=3, max_size=3),
    query=QUERIES,
    body=st.one_of(BODIES, BODIES, USES, POLICY, JSON, st.binary(max_size=40)),
)
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
async def test_no_request_is_our_fault(
    playground: VaultClient,
    route: tuple[str, str],
    segments: list[str],
    query: dict[str, str],
    body: Any,
) -> None:
    method, pattern = route
    path = pattern.format(*(quote(segment, safe="") for segment in segments))
    given_query = "&".join(f"{quote(name, safe='$')}={quote(value, safe='')}" for name, value in query.items())
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await playground.send(method, f"{path}?{given_query}" if given_query else path, content)

    check_form(answer)


@given(policy=POLICY)
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
async def test_every_accepted_policy_can_be_issued(playground: VaultClient, policy: Any) -> None:
    """What is accepted is never found to be impossible later, when nobody is there to be told."""
    answer = await playground.post("/certificates/policy/create", {"policy": policy})

    check_form(answer)
    if answer.status_code == 202:
        if answer.json()["issuer"]["name"].lower() == "self":
            assert "completed" == (await playground.settled("policy"))["status"]
        else:
            assert answer.json()["csr"]
        await playground.delete("/certificates/policy")
        await playground.delete("/deletedcertificates/policy")
