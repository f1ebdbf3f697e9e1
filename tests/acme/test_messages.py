"""Headers, problems and resources, as CAs write them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certbroker.ports.issuer import IssuerUnavailable
from issuers.acme.chain import MEDIA_TYPE, read_chain
from issuers.acme.messages import read_authorization, read_challenge, read_directory, read_order
from issuers.acme.nonces import NoncePool
from issuers.acme.problem import read_problem, refusal_of
from issuers.acme.signing import AccountKey, load_account_key, make_account_key
from issuers.acme.transport import Answer
from tests.support.certificates import Authority, pem

NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["valid", "dns", "pending"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["status", "type", "value", "url", "token", "identifier", "challenges", "finalize", "error"]
            )
            | st.sampled_from(
                ["authorizations", "identifiers", "meta", "profiles", "detail", "subproblems", "expires"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    body = value if isinstance(value, dict) else {}
    for read in (lambda: read_order(body, "u"), lambda: read_authorization(body, "u"), lambda: read_challenge(body)):
        try:
            read()
        except IssuerUnavailable:
            pass
    try:
        read_directory(body)
    except IssuerUnavailable:
        pass
    read_problem(value)


def test_fields_of_an_order() -> None:
    order = read_order(
        {
            "status": "valid",
            "expires": "2026-03-29T03:30:00.123456789+02:00",
            "identifiers": [{"type": "dns", "value": "WWW.example.org"}],
            "authorizations": ["a"],
            "finalize": "f",
            "certificate": "c",
            "notBefore": None,
        },
        "u",
    )

    assert NOW == order.expires.replace(microsecond=0) if order.expires else None
    assert ["www.example.org"] == [identifier.value for identifier in order.identifiers]


def test_a_problem_with_its_parts_is_one_line_of_bounded_length() -> None:
    part = {"type": "urn:ietf:params:acme:error:dns", "detail": "a\x1b[31m\nb", "identifier": {"value": "x.example"}}
    problem = read_problem(
        {"type": "urn:ietf:params:acme:error:compound", "detail": "d" * 9999, "subproblems": [part] * 99}
    )

    assert problem is not None
    text = problem.text()
    assert "x.example: a [31m b (dns)" in text
    assert "and 89 more" in text
    assert "\n" not in text
    assert len(text) < 2000
    assert "Correct the DNS records" in refusal_of(problem).message


def test_nonces_are_bounded_and_the_newest_is_taken_first() -> None:
    pool = NoncePool(size=3)
    for nonce in ("a", "b", "not a nonce", "c", "d", "", None):
        pool.put(nonce)

    assert ["d", "c", "b", None] == [pool.take() for _ in range(4)]


def test_no_nonce_is_given_out_twice() -> None:
    pool, taken = NoncePool(size=1000), []
    for number in range(1000):
        pool.put(f"n{number}")

    def take() -> None:
        while (nonce := pool.take()) is not None:
            taken.append(nonce)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1000 == len(taken) == len(set(taken))


def test_a_key_authorization_is_the_token_as_it_came_and_the_thumbprint() -> None:
    key: AccountKey = load_account_key(make_account_key("P-256"))

    assert f"tok-en_.{key.thumbprint}" == key.key_authorization("tok-en_")
    assert 43 == len(key.thumbprint)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('<https://ca/2>;rel="alternate"', ["https://ca/2"]),
        ('<https://ca/dir>;rel="index", </3>; rel=alternate', ["https://ca/3"]),
        ('<a>; title="x, y"; rel="up alternate", <b>;rel="alternate"', ["https://ca/a", "https://ca/b"]),
        ("<unfinished", []),
        ('<a, <b>;rel="alternate"', ["https://ca/b"]),
        ("", []),
        ("<a>;" * 5000, []),
    ],
)
def test_links(header: str, found: list[str]) -> None:
    assert found == Answer(200, {"link": header}, b"", "https://ca/1", None).links("alternate")


@pytest.mark.parametrize("part", ["<", "<a", '<a>;a="', "<a>;a= ", "<a>; ", ";rel=", " ", '<a>; a="b" '])
def test_no_link_header_takes_long(part: str) -> None:
    answer = Answer(200, {"link": part * 16384}, b"", "https://ca/1", None)
    begun = time.thread_time()
    for _ in range(20):
        answer.links("alternate")

    assert 5 > time.thread_time() - begun


def chain_of(body: str) -> Answer:
    return Answer(200, {"content-type": MEDIA_TYPE}, body.encode(), "https://ca/1", None)


def test_a_chain_is_read_in_its_order_whatever_is_between() -> None:
    chain = Authority("Intermediate", above=Authority("Root")).issue().chain

    assert chain == read_chain(chain_of("\r\nand\r\n".join(map(pem, chain))))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (lambda leaf: "", "has no certificates"),
        (lambda leaf: leaf * 11, "has more than 10 certificates"),
        (lambda leaf: leaf + "-----BEGIN CERTIFICATE-----\nMIIB", "malformed"),
        (lambda leaf: "-----BEGIN CERTIFICATE-----" * 38000, "malformed"),
        (lambda leaf: leaf.replace("CERTIFICATE", "X509 CRL"), "has no certificates"),
    ],
)
def test_what_is_no_chain_is_refused_without_reading_it_again_and_again(body: Callable[[str], str], said: str) -> None:
    """A megabyte of beginnings took minutes, in which nobody else could do anything."""
    answer = chain_of(body(pem(Authority().issue().certificate)))
    begun = time.thread_time()
    with pytest.raises(IssuerUnavailable, match=said):
        read_chain(answer)

    assert 3 > time.thread_time() - begun
