"""What a CA, or whatever stands between, may send instead of a proper answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certbroker.ports.issuer import IssuerUnavailable, RequestRefused
from issuers.acme import transport
from tests.support.acme_ports import (
    MemoryJournal,
    Surroundings,
    drive,
    issued,
    persevere,
    request_for,
)
from tests.support.scripted_ca import CHAIN, Exchange, Fault, ScriptedCA, dropped, server_error

pytestmark = pytest.mark.xdist_group("acme-faults")

ROUTES = [
    "directory",
    "nonce",
    "account",
    "new-order",
    "order",
    "authorization",
    "challenge",
    "finalize",
    "certificate",
]


@pytest.fixture
def ca(scripted_ca: Surroundings) -> Surroundings:
    return scripted_ca


def garbage(exchange: Exchange) -> None:
    exchange.send(200, b'{"status": "val')


def nested(exchange: Exchange) -> None:
    exchange.send(200, b"[" * 100_000)


def not_an_object(exchange: Exchange) -> None:
    exchange.send(200, b'["status"]')


def html(exchange: Exchange) -> None:
    exchange.send(200, b"<html>Sign in to the wireless network</html>", "text/html")


def empty(exchange: Exchange) -> None:
    exchange.send(200, b"")


def huge(exchange: Exchange) -> None:
    exchange.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 104857600\r\n\r\n")
    for _ in range(100):
        exchange.write(b" " * (1 << 20))
    exchange.drop()


def truncated(exchange: Exchange) -> None:
    exchange.raw(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{"status"')


def not_http(exchange: Exchange) -> None:
    exchange.raw(b"SSH-2.0-OpenSSH_9.9\r\n")


def redirected(exchange: Exchange) -> None:
    exchange.send(302, location="/directory")


def bad_gateway(exchange: Exchange) -> None:
    exchange.send(502, b"<html>Bad gateway</html>", "text/html")


def rate_limited(exchange: Exchange) -> None:
    exchange.problem(429, "rateLimited", "too many certificates already issued", retry_after="600")


def firewall(exchange: Exchange) -> None:
    exchange.send(403, b"<html>Forbidden by the administrator</html>", "text/html")


BROKEN = [
    garbage,
    nested,
    not_an_object,
    html,
    empty,
    huge,
    truncated,
    dropped,
    not_http,
    redirected,
    server_error,
    bad_gateway,
    rate_limited,
    firewall,
]


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: fault.__name__)
def test_a_broken_answer_at_any_step_is_survived_with_one_certificate(
    scripted: ScriptedCA, ca: Surroundings, fault: Fault
) -> None:
    for route in ROUTES:
        scripted.fault(route, fault)

    issued(persevere(ca.issuer(), request_for("www.example.org"), MemoryJournal(), tries=20))

    assert 1 == len(scripted.issued)


@pytest.mark.parametrize("route", [route for route in ROUTES if route not in ("nonce", "challenge")])
def test_a_broken_answer_is_an_unavailable_issuer_and_not_an_error_of_ours(
    scripted: ScriptedCA, ca: Surroundings, route: str
) -> None:
    scripted.fault(route, garbage)

    with pytest.raises(IssuerUnavailable) as caught:
        drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert "IssuerAnswerInvalid" == caught.value.problem.code


def test_a_hanging_ca_does_not_hold_the_caller(
    scripted: ScriptedCA, ca: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_TIMEOUT", 0.3)
    scripted.fault("new-order", lambda exchange: time.sleep(3))
    began = time.monotonic()

    with pytest.raises(IssuerUnavailable):
        drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert 2.0 > time.monotonic() - began


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("0", 1),
        ("-5", 1),
        ("99999999999999999999999999", 86400),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=120), usegmt=True), 120),
        (lambda: format_datetime(datetime.now(UTC) - timedelta(days=120), usegmt=True), 1),
        ("soon", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_an_unavailable_ca_says_when_to_come_back(
    scripted: ScriptedCA, ca: Surroundings, status: int, value: str | Callable[[], str], seconds: int | None
) -> None:
    text = value if isinstance(value, str) else value()
    scripted.fault("new-order", lambda exchange: exchange.send(status, b"", retry_after=text))
    now = datetime.now(UTC)

    with pytest.raises(IssuerUnavailable) as caught:
        drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    retry_at = caught.value.retry_at
    if seconds is None or retry_at is None:
        assert (seconds, retry_at) == (None, None)
    else:
        assert abs((retry_at - now).total_seconds() - seconds) < 3


def test_a_rate_limit_is_named_as_such(scripted: ScriptedCA, ca: Surroundings) -> None:
    scripted.fault("new-order", rate_limited)

    with pytest.raises(IssuerUnavailable) as caught:
        drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert "RateLimited" == caught.value.problem.code
    assert "too many certificates already issued" in caught.value.problem.message


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.2/internal",
        "http://user@127.0.0.1.example.org/",
        "gopher://127.0.0.1/",
        "//[::1]/",
        "javascript:alert(1)",
        "http://[",
        "",
    ],
)
@pytest.mark.parametrize(
    ("route", "field"),
    [
        ("directory", "newOrder"),
        ("order", "finalize"),
        ("new-order", "authorizations"),
        ("authorization", "challenges"),
        ("finalize", "certificate"),
    ],
)
def test_urls_of_the_ca_lead_nowhere_else(
    scripted: ScriptedCA, ca: Surroundings, route: str, field: str, url: str
) -> None:
    value: object = url
    if field == "authorizations":
        value = [url]
    elif field == "challenges":
        value = [{"type": "http-01", "url": url, "status": "pending", "token": "t" * 32}]
    scripted.fault(route, lambda exchange: exchange.proceed(**{field: value}))

    with pytest.raises(IssuerUnavailable) as caught:
        drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert caught.value.problem.code in ("IssuerAnswerInvalid", "EgressRefused")


def test_another_host_may_be_allowed(scripted: ScriptedCA, ca: Surroundings) -> None:
    elsewhere = scripted.url.replace("127.0.0.1", "localhost")
    scripted.fault("directory", lambda exchange: exchange.proceed(newOrder=f"{elsewhere}/new-order"), times=2)

    with pytest.raises(IssuerUnavailable, match="hosts="):
        drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())
    issued(drive(ca.issuer("hosts=localhost"), request_for("www.example.org"), MemoryJournal()))


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (400, "badCSR", "key type"),
        (403, "caa", "CAA records"),
        (400, "rejectedIdentifier", "Remove the name"),
        (403, "userActionRequired", "instructions"),
        (409, "malformed", "create the certificate again"),
    ],
)
@pytest.mark.parametrize("route", ["new-order", "finalize"])
def test_a_refusal_has_the_cas_words_and_advice(
    scripted: ScriptedCA, ca: Surroundings, route: str, status: int, kind: str, advice: str
) -> None:
    scripted.fault(route, lambda exchange: exchange.problem(status, kind, "words\nof the CA"), acts=False)

    reply = drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert ("IssuerRefused", kind) == (reply.problem.code, reply.problem.detail)
    assert "words of the CA" in reply.problem.message
    assert advice in reply.problem.message


def test_a_certificate_for_another_key_is_refused(scripted: ScriptedCA, ca: Surroundings) -> None:
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    scripted.make_leaf = lambda csr, names: scripted.leaf_for(other, names)
    request, journal = request_for("www.example.org"), MemoryJournal()

    replies = [drive(ca.issuer(), request, journal) for _ in range(3)]

    assert all(isinstance(reply, RequestRefused) for reply in replies)
    assert isinstance(replies[0], RequestRefused)
    assert "CertificateMismatch" == replies[0].problem.code
    assert 1 == scripted.hits["finalize"]


def test_a_certificate_for_other_names_is_refused(scripted: ScriptedCA, ca: Surroundings) -> None:
    scripted.make_leaf = lambda csr, names: scripted.leaf_for(csr.public_key(), ["www.example.net"])

    reply = drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert "without the name www.example.org" in reply.problem.message


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"not PEM", CHAIN),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", CHAIN),
        (b"", "text/html"),
    ],
)
def test_a_broken_certificate_is_downloaded_again(
    scripted: ScriptedCA, ca: Surroundings, body: bytes, media_type: str
) -> None:
    request, journal = request_for("www.example.org"), MemoryJournal()
    scripted.fault("certificate", lambda exchange: exchange.send(200, body, media_type))

    with pytest.raises(IssuerUnavailable):
        drive(ca.issuer(), request, journal)
    issued(drive(ca.issuer(), request, journal))

    assert 1 == len(scripted.issued)


def test_a_certificate_that_cannot_be_downloaded_is_never_ordered_again(scripted: ScriptedCA, ca: Surroundings) -> None:
    request, journal = request_for("www.example.org"), MemoryJournal()
    scripted.fault("certificate", lambda exchange: exchange.problem(404, "malformed"), times=3)
    for _ in range(3):
        with pytest.raises(IssuerUnavailable):
            drive(ca.issuer(), request, journal)

    issued(drive(ca.issuer(), request, journal))

    assert 1 == len(scripted.issued)
