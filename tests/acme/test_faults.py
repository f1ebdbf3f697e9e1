"""What a CA, or whatever stands between, may send instead of a proper answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certbroker.ports.issuer import IssuerUnavailable, RequestRefused, StillWaiting
from issuers.acme import order, ordering, transport
from tests.support.acme_ports import (
    MemoryJournal,
    NoBoard,
    Surroundings,
    drive,
    issued,
    loopback_egress,
    persevere,
    request_for,
)
from tests.support.scripted_ca import CHAIN, Exchange, Fault, ScriptedCA

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
def scripted() -> Iterator[ScriptedCA]:
    with ScriptedCA() as ca:
        yield ca


@pytest.fixture
def ca(scripted: ScriptedCA) -> Iterator[Surroundings]:
    egress = loopback_egress(plain_http=True)
    yield Surroundings(egress, NoBoard(), scripted.directory_url)
    egress.close()


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


def dropped(exchange: Exchange) -> None:
    exchange.drop()


def not_http(exchange: Exchange) -> None:
    exchange.raw(b"SSH-2.0-OpenSSH_9.9\r\n")


def redirected(exchange: Exchange) -> None:
    exchange.send(302, location="/directory")


def server_error(exchange: Exchange) -> None:
    exchange.problem(500, "serverInternal")


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


def test_two_requests_that_get_one_and_the_same_order_both_end_with_a_certificate_of_their_own() -> None:
    """Let's Encrypt gives a pending or ready order for the same names to whoever asks."""
    egress = loopback_egress(plain_http=True)
    with ScriptedCA(reuse_orders=True) as scripted:
        ca = Surroundings(egress, NoBoard(), scripted.directory_url)
        requests = [request_for("www.example.org", operation=f"operation {number}") for number in range(2)]
        journals = [MemoryJournal(), MemoryJournal()]
        assert isinstance(ca.issuer().advance(requests[0], journals[0]), StillWaiting)

        # The second is faster with the order that the first has made.
        leaves = [issued(drive(ca.issuer(), requests[number], journals[number]))[0] for number in (1, 0)]

        assert (journals[0].recorded("order") or {})["url"] == (journals[1].recorded("order") or {})["url"]
        assert 2 == len({leaf.serial_number for leaf in leaves}) == len(scripted.issued)
    egress.close()


def test_a_lost_order_is_not_made_twice_where_the_ca_gives_the_same_one_again() -> None:
    egress = loopback_egress(plain_http=True)
    with ScriptedCA(reuse_orders=True) as scripted:
        ca = Surroundings(egress, NoBoard(), scripted.directory_url)
        scripted.fault("new-order", dropped)

        issued(persevere(ca.issuer(), request_for("www.example.org"), MemoryJournal()))

        assert ["1"] == [*scripted._orders]
    egress.close()


def test_an_order_whose_description_is_unreadable_is_kept_by_its_url(scripted: ScriptedCA, ca: Surroundings) -> None:
    scripted.fault("new-order", lambda exchange: exchange.send(201, b"{", location=exchange.proper[1]["location"]))

    issued(persevere(ca.issuer(), request_for("www.example.org"), MemoryJournal()))

    assert 1 == scripted.hits["new-order"]


def test_a_vanished_order_is_made_again_and_not_for_ever(
    scripted: ScriptedCA, ca: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordering, "_BETWEEN_ORDERS", timedelta(0))
    monkeypatch.setattr(order, "_LAG", timedelta(0))
    monkeypatch.setattr(order, "_LAG_AFTER_FINALIZE", timedelta(0))
    scripted.fault("order", lambda exchange: exchange.problem(404, "malformed", "no such order"), times=2)
    issued(drive(ca.issuer(), request_for("www.example.org"), MemoryJournal()))
    assert 3 == scripted.hits["new-order"]

    scripted.fault("order", lambda exchange: exchange.problem(404, "malformed", "no such order"), times=5)
    reply = drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert "5 orders came to nothing" in reply.problem.message


def test_an_order_that_a_replica_of_the_ca_does_not_know_yet_is_waited_for(
    scripted: ScriptedCA, ca: Surroundings
) -> None:
    scripted.fault("order", lambda exchange: exchange.problem(404, "malformed", "no such order"), times=3)

    issued(drive(ca.issuer(), request_for("www.example.org"), MemoryJournal()))

    assert 1 == scripted.hits["new-order"]


def test_an_order_that_failed_inside_the_ca_is_made_again(scripted: ScriptedCA, ca: Surroundings) -> None:
    error = {"type": "urn:ietf:params:acme:error:serverInternal", "detail": "oops"}
    scripted.fault("order", lambda exchange: exchange.proceed(status="invalid", error=error))

    issued(drive(ca.issuer(), request_for("www.example.org"), MemoryJournal()))

    assert 2 == scripted.hits["new-order"]


def test_after_a_second_failure_inside_the_ca_the_next_order_waits(scripted: ScriptedCA, ca: Surroundings) -> None:
    error = {"type": "urn:ietf:params:acme:error:serverInternal", "detail": "oops"}
    scripted.fault("order", lambda exchange: exchange.proceed(status="invalid", error=error), times=2)
    issuer, request, journal = ca.issuer(), request_for("www.example.org"), MemoryJournal()

    replies = [issuer.advance(request, journal) for _ in range(20)]

    assert isinstance(replies[-1], StillWaiting)
    assert timedelta(minutes=1) < replies[-1].pause
    assert 2 == scripted.hits["new-order"]


def test_an_order_that_failed_for_good_is_refused_with_all_subproblems(scripted: ScriptedCA, ca: Surroundings) -> None:
    error = {
        "type": "urn:ietf:params:acme:error:compound",
        "detail": "several problems",
        "subproblems": [
            {
                "type": "urn:ietf:params:acme:error:caa",
                "detail": "CAA record forbids issuance",
                "identifier": {"type": "dns", "value": "www.example.org"},
            }
        ],
    }
    scripted.fault("order", lambda exchange: exchange.proceed(status="invalid", error=error))

    reply = drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert "www.example.org: CAA record forbids issuance" in reply.problem.message
    assert "Allow this CA in the CAA records" in reply.problem.message


def test_an_authorization_for_a_name_that_was_not_ordered_is_not_answered(
    scripted: ScriptedCA, ca: Surroundings
) -> None:
    foreign = {"type": "dns", "value": "victim.example.net"}
    scripted.fault("authorization", lambda exchange: exchange.proceed(identifier=foreign))

    with pytest.raises(IssuerUnavailable, match="was not ordered"):
        drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert {} == ca.board.answers


@pytest.mark.parametrize("token", ["../../etc/passwd", "short", "a" * 300, "with space and more", "tok\u00e9n" * 5])
def test_a_token_that_is_none_is_not_put_up(scripted: ScriptedCA, ca: Surroundings, token: str) -> None:
    challenge = {"type": "http-01", "url": f"{scripted.url}/challenge/1", "status": "pending", "token": token}
    scripted.fault("authorization", lambda exchange: exchange.proceed(challenges=[challenge]))

    with pytest.raises(IssuerUnavailable, match="token"):
        drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert {} == ca.board.answers


@pytest.mark.parametrize("status", ["expired", "deactivated", "revoked"])
def test_an_authorization_that_ended_costs_a_new_order(scripted: ScriptedCA, ca: Surroundings, status: str) -> None:
    scripted.fault("authorization", lambda exchange: exchange.proceed(status=status))

    issued(drive(ca.issuer(), request_for("www.example.org"), MemoryJournal()))

    assert 2 == scripted.hits["new-order"]


def test_an_order_that_stays_pending_after_a_failure_is_noticed(
    scripted: ScriptedCA, ca: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from issuers.acme import authorizing

    monkeypatch.setattr(authorizing, "_LOOK_CLOSER", timedelta(0))
    request, journal = request_for("www.example.org"), MemoryJournal()
    ca.issuer().advance(request, journal)
    failed = [
        {
            "type": "http-01",
            "url": f"{scripted.url}/challenge/1",
            "status": "invalid",
            "token": "t" * 32,
            "error": {"type": "urn:ietf:params:acme:error:dns", "detail": "NXDOMAIN looking up A"},
        }
    ]
    scripted.fault("order", lambda exchange: exchange.proceed(status="pending"))
    scripted.fault("authorization", lambda exchange: exchange.proceed(status="invalid", challenges=failed))

    reply = drive(ca.issuer(), request, journal)

    assert isinstance(reply, RequestRefused)
    assert "www.example.org: NXDOMAIN looking up A" in reply.problem.message


def test_a_challenge_of_the_chosen_kind_must_be_offered(scripted: ScriptedCA, ca: Surroundings) -> None:
    challenge = {"type": "tls-alpn-01", "url": f"{scripted.url}/c", "status": "pending", "token": "t" * 32}
    scripted.fault("authorization", lambda exchange: exchange.proceed(challenges=[challenge]))

    reply = drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert "The CA offers tls-alpn-01 for www.example.org" in reply.problem.message


def test_endless_bad_nonces_end(scripted: ScriptedCA, ca: Surroundings) -> None:
    scripted.fault("account", lambda exchange: exchange.problem(400, "badNonce"), times=100)

    with pytest.raises(IssuerUnavailable, match="nonces"):
        drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert 20 == scripted.hits["account"]


def test_finalize_again_is_not_asked_of_an_order_that_lags(scripted: ScriptedCA, ca: Surroundings) -> None:
    """A replica of the CA still shows the order as ready after it took the CSR."""
    request, journal = request_for("www.example.org"), MemoryJournal()
    scripted.fault("finalize", lambda exchange: exchange.proceed(status="ready", certificate=None))
    issuer = ca.issuer()
    while ("recorded", "finalize") not in journal.writes:
        issuer.advance(request, journal)
    scripted.fault("order", lambda exchange: exchange.proceed(status="ready"))

    assert isinstance(issuer.advance(request, journal), StillWaiting)
    issued(drive(issuer, request, journal))

    assert 1 == scripted.hits["finalize"]


@pytest.mark.parametrize("route", ["order", "certificate"])
@pytest.mark.parametrize(("status", "kind"), [(403, "userActionRequired"), (400, "malformed"), (503, "serverInternal")])
def test_after_finalize_nothing_is_refused_and_no_other_issuer_may_be_asked(
    scripted: ScriptedCA, ca: Surroundings, route: str, status: int, kind: str
) -> None:
    """The certificate exists by then, whatever the CA says when it is asked for it."""
    request, journal = request_for("www.example.org"), MemoryJournal()
    scripted.fault("finalize", dropped)
    with pytest.raises(IssuerUnavailable) as lost:
        drive(ca.issuer(), request, journal)
    scripted.fault(route, lambda exchange: exchange.problem(status, kind))

    with pytest.raises(IssuerUnavailable) as caught:
        drive(ca.issuer(), request, journal)
    issued(drive(ca.issuer(), request, journal))

    assert (True, True) == (lost.value.committed, caught.value.committed)
    assert 1 == len(scripted.issued)


@pytest.mark.parametrize("route", ["directory", "account", "new-order", "order", "authorization", "challenge"])
def test_before_finalize_another_issuer_may_be_asked(scripted: ScriptedCA, ca: Surroundings, route: str) -> None:
    scripted.fault(route, server_error)

    with pytest.raises(IssuerUnavailable) as caught:
        drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert not caught.value.committed


def test_a_finalize_that_is_refused_although_it_was_obeyed_brings_the_certificate(
    scripted: ScriptedCA, ca: Surroundings
) -> None:
    scripted.fault("finalize", lambda exchange: exchange.problem(400, "malformed", "the order has a CSR already"))

    issued(drive(ca.issuer(), request_for("www.example.org"), MemoryJournal()))

    assert 1 == len(scripted.issued)


def test_a_finalize_that_was_accepted_is_not_refused_afterwards(
    scripted: ScriptedCA, ca: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica of the CA that lags behind shows the order as ready, and will not have the CSR a second time."""
    monkeypatch.setattr(order, "_FINALIZE_AGAIN", timedelta(0))
    request, journal = request_for("www.example.org"), MemoryJournal()
    scripted.fault("finalize", lambda exchange: exchange.proceed(status="ready", certificate=None))
    issuer = ca.issuer()
    while ("recorded", "finalize") not in journal.writes:
        issuer.advance(request, journal)
    scripted.fault("order", lambda exchange: exchange.proceed(status="ready"), times=2)
    scripted.fault("finalize", lambda exchange: exchange.problem(400, "malformed"), acts=False)

    with pytest.raises(IssuerUnavailable) as caught:
        issuer.advance(request, journal)
    issued(drive(issuer, request, journal))

    assert caught.value.committed
    assert 1 == len(scripted.issued)
