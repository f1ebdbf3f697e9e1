"""tls-alpn-01 (RFC 8737): what the listener shows, what it refuses, and what a real CA makes of it."""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from certbroker.ports.issuer import IssuanceRequest, IssuerUnavailable, RequestRefused
from issuers.acme import ACMEIssuer
from issuers.acme.tls_alpn import validated_place, validation_certificate
from pebble.launcher import Pebble
from tests.support.acme_ports import (
    MemoryJournal,
    NoBoard,
    Surroundings,
    drive,
    issued,
    loopback_egress,
    names_in,
    persevere,
    request_for,
)
from tests.support.broker import DevBroker
from tests.support.validation import shake_hands, validating
from tests.support.wire import Wire, creation

pytestmark = pytest.mark.xdist_group("acme-tls-alpn")

Unasked = Callable[[ACMEIssuer, IssuanceRequest, MemoryJournal], None]

OPTIONS = "challenge=tls-alpn-01"
ANSWERS = {"www.example.org": "token.thumbprint", "192.0.2.7": "other.thumbprint", "2001:db8::1": "third.thumbprint"}


@pytest.fixture(scope="module")
def listener() -> Iterator[int]:
    with validating(ANSWERS.get) as port:
        yield port


@pytest.mark.parametrize(
    ("server_name", "place"),
    [
        ("www.example.org", "www.example.org"),
        ("WWW.Example.ORG.", "www.example.org"),
        ("7.2.0.192.in-addr.arpa", "192.0.2.7"),
        ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "2001:db8::1"),
        ("2.0.192.in-addr.arpa", None),
        ("07.2.0.192.in-addr.arpa", None),
        ("x.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", None),
        ("192.0.2.7", None),
        ("*.example.org", None),
        ("a..b", None),
        ("", None),
    ],
)
def test_a_server_name_stands_for_a_name_or_for_an_address_in_the_reverse_zone(
    server_name: str, place: str | None
) -> None:
    assert place == validated_place(server_name)


def test_the_certificate_is_that_of_the_rfc() -> None:
    certificate, key = validation_certificate("www.example.org", "token.thumbprint", datetime.now(UTC))

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    identifier = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
    assert [x509.DNSName("www.example.org")] == [*names]
    assert identifier.critical
    assert isinstance(identifier.value, x509.UnrecognizedExtension)
    assert b"\x04\x20" + hashlib.sha256(b"token.thumbprint").digest() == identifier.value.value
    assert key.public_key() == certificate.public_key()
    certificate.verify_directly_issued_by(certificate)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_validation_is_a_handshake_and_nothing_after_it(listener: int, version: ssl.TLSVersion) -> None:
    certificate, protocol, after = shake_hands(listener, "www.example.org", ["h2", "acme-tls/1"], version)

    assert {"www.example.org"} == names_in(certificate)
    assert ("acme-tls/1", b"") == (protocol, after)


def test_an_address_is_shown_for_its_name_in_the_reverse_zone(listener: int) -> None:
    certificate, _, _ = shake_hands(listener, "7.2.0.192.in-addr.arpa")

    assert {"192.0.2.7"} == names_in(certificate)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("name", "protocols"),
    [
        ("other.example.org", ["acme-tls/1"]),
        (None, ["acme-tls/1"]),
        ("www.example.org", ["h2", "http/1.1"]),
        ("www.example.org", []),
    ],
)
def test_everything_else_is_refused_before_a_certificate_is_shown(
    listener: int, name: str | None, protocols: list[str], version: ssl.TLSVersion
) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        shake_hands(listener, name, protocols, version)


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nhost: www.example.org\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70_000]
)
def test_what_is_no_handshake_is_closed_and_harms_nobody(listener: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", listener), timeout=10) as client:
        try:
            client.sendall(sent)
            while client.recv(4096):
                pass
        except ConnectionError:
            pass

    assert shake_hands(listener, "www.example.org")


def test_idle_connections_do_not_keep_others_out_and_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certbroker.web.tls_alpn._SECONDS", 1.0)
    with validating(ANSWERS.get) as port, ExitStack() as idle:
        silent = [idle.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(100)]

        assert shake_hands(port, "www.example.org")
        assert {b""} == {each.recv(1) for each in silent}


def test_connections_are_bounded_and_places_become_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certbroker.web.tls_alpn._MAX_CONNECTIONS", 2)
    with validating(ANSWERS.get) as port:
        with ExitStack() as idle:
            for _ in range(2):
                idle.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            with pytest.raises(OSError):
                shake_hands(port, "www.example.org")
        deadline = time.monotonic() + 10
        while True:
            try:
                found = shake_hands(port, "www.example.org")
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    assert {"www.example.org"} == names_in(found[0])


def test_an_answer_that_cannot_be_read_refuses_and_the_next_is_shown() -> None:
    broken = iter([True, False])

    def answer(place: str) -> str | None:
        if next(broken):
            raise OSError("the disk is gone")
        return ANSWERS[place]

    with validating(answer) as port:
        with pytest.raises(ssl.SSLError):
            shake_hands(port, "www.example.org")

        assert shake_hands(port, "www.example.org")


@pytest.fixture(scope="module")
def pebble(start_pebble: Callable[..., Pebble]) -> Pebble:
    return start_pebble(authz_reuse=0)


@pytest.fixture
def tls_ca(pebble: Pebble) -> Iterator[Surroundings]:
    board, egress = NoBoard(), loopback_egress(str(pebble.ca_path))
    with validating(board.answers.get, pebble.tls_port):
        yield Surroundings(egress, board, pebble.directory_url)
    egress.close()


def test_names_and_addresses_are_validated_by_a_real_ca(tls_ca: Surroundings) -> None:
    names = [f"n{number}.example.org" for number in range(5)]
    request = request_for(*names, addresses=["127.0.0.1"])

    leaf, *_ = issued(drive(tls_ca.issuer(OPTIONS), request, MemoryJournal()))

    assert {*names, "127.0.0.1"} == names_in(leaf)
    assert {} == tls_ca.board.answers


def test_an_abandoned_request_leaves_no_answers(tls_ca: Surroundings, unasked: Unasked) -> None:
    issuer, request, journal = tls_ca.issuer(OPTIONS), request_for("gone.example.org"), MemoryJournal()
    unasked(issuer, request, journal)
    assert ["gone.example.org"] == [*tls_ca.board.answers]

    issuer.abandon(request, journal)

    assert {} == tls_ca.board.answers


def test_two_orders_for_one_name_are_validated_one_after_the_other(tls_ca: Surroundings) -> None:
    """As for a name with an RSA and an ECDSA certificate that are renewed together."""
    first, second = [request_for("twin.example.org", operation=each) for each in ("first", "second")]
    journals = [MemoryJournal(), MemoryJournal()]
    issuer = tls_ca.issuer(OPTIONS)
    issuer.advance(first, journals[0])

    with pytest.raises(IssuerUnavailable) as caught:
        issuer.advance(second, journals[1])
    assert "ChallengePlaceTaken" == caught.value.problem.code
    assert "twin.example.org" in caught.value.problem.message

    issued(drive(issuer, first, journals[0]))
    issued(persevere(issuer, second, journals[1]))
    assert {} == tls_ca.board.answers


def test_a_name_that_leads_elsewhere_is_refused_with_the_cas_words(pebble: Pebble, tls_ca: Surroundings) -> None:
    pebble.dns.set_servfail("broken.example.org")

    reply = drive(tls_ca.issuer(OPTIONS), request_for("broken.example.org"), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert "broken.example.org" in reply.problem.message


def test_a_wildcard_name_is_refused_at_once(tls_ca: Surroundings) -> None:
    reply = tls_ca.issuer(OPTIONS).advance(request_for("*.example.org"), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert "challenge=dns-01" in reply.problem.message


def test_a_broker_answers_on_its_own_listener_and_shows_nothing_afterwards(tmp_path: Path, pebble: Pebble) -> None:
    environment = {"CERTBROKER_SERVER__TLS_ALPN01_LISTEN": f"127.0.0.1:{pebble.tls_port}"}
    with DevBroker(tmp_path / "broker", trust=[pebble.ca_path], environment=environment) as broker:
        wire = Wire(broker)
        options = {"id": f"directory={pebble.directory_url};{OPTIONS}"}
        wire.ok("PUT", "/certificates/issuers/ca", {"provider": "ACME", "org_details": options})

        wire.ok("POST", "/certificates/web/create", creation("ca", "www.example.net"))
        wire.completed("web")

        assert {"www.example.net"} == names_in(wire.stored("web").certificate)
        with pytest.raises(ssl.SSLError):
            shake_hands(pebble.tls_port, "www.example.net")
