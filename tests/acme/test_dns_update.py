"""dns-01 by dynamic update."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from certbroker.ports.issuer import DNSPublisher, IssuerUnavailable, RequestRefused
from issuers.acme.dns_update import DNSUpdatePublisher, DNSUpdateServer
from issuers.acme.identifiers import Unorderable, identifiers_of
from issuers.acme.messages import Identifier
from pebble.launcher import Pebble
from tests.support.acme_ports import MemoryJournal, Surroundings, drive, issued, names_in, request_for
from tests.support.dns_server import KEY_NAME, KEY_SECRET, WRONG_SECRET, AuthoritativeServer

pytestmark = pytest.mark.xdist_group("acme-dns")

NAME = "_acme-challenge.www.example.org"


def long_name(length: int) -> str:
    return (f"{'n' * 60}." * 5)[-length - 1 : -1]


@pytest.fixture(scope="module")
def server() -> Iterator[AuthoritativeServer]:
    with AuthoritativeServer() as server:
        yield server


def configured(server: AuthoritativeServer, /, **changes: Any) -> DNSUpdateServer:
    fields = {
        "server": "127.0.0.1",
        "port": server.port,
        "key_name": KEY_NAME,
        "key_secret": KEY_SECRET,
        "nameservers": (server.address,),
        "timeout": 2.0,
        "propagation": 5.0,
    }
    return DNSUpdateServer(**(fields | changes))


@pytest.fixture
def publisher(server: AuthoritativeServer) -> DNSPublisher:
    return DNSUpdatePublisher(configured(server))


def test_values_are_added_and_removed_one_by_one_and_both_may_be_repeated(
    server: AuthoritativeServer, publisher: DNSPublisher
) -> None:
    for value in ("one", "two", "one"):
        publisher.publish(NAME, value)
    assert {"one", "two"} == server.values(NAME)

    for _ in range(2):
        publisher.withdraw(NAME, "one")
    assert {"two"} == server.values(NAME)

    publisher.withdraw(NAME, "two")
    assert set() == server.values(NAME)


def test_publishing_waits_until_the_servers_answer_with_the_value() -> None:
    with AuthoritativeServer(delay=0.3) as server:
        publisher = DNSUpdatePublisher(configured(server))
        began = time.monotonic()

        publisher.publish(NAME, "slow")

        assert 0.3 <= time.monotonic() - began < 2


def test_the_wait_is_bounded() -> None:
    with AuthoritativeServer(delay=60) as server:
        publisher = DNSUpdatePublisher(configured(server, propagation=0.3))
        began = time.monotonic()

        publisher.publish(NAME, "never")

        assert 0.3 <= time.monotonic() - began < 2


def test_the_name_servers_of_the_zone_are_waited_for_as_far_as_they_can_be_found(server: AuthoritativeServer) -> None:
    DNSUpdatePublisher(configured(server, nameservers=())).publish(NAME, "found")

    assert "found" in server.values(NAME)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"key_secret": WRONG_SECRET}, "TSIG"),
        ({"zone": "example.net"}, "not in its zone"),
        ({"port": 1, "timeout": 0.5}, "does not answer|failed"),
    ],
)
def test_failures_say_what_is_wrong_and_never_the_key(
    server: AuthoritativeServer, changes: dict[str, Any], complaint: str
) -> None:
    publisher = DNSUpdatePublisher(configured(server, **changes))

    with pytest.raises(IssuerUnavailable, match=complaint) as caught:
        publisher.publish(NAME, "value")

    assert "DNSPublisherFailed" == caught.value.problem.code
    for secret in (KEY_SECRET, WRONG_SECRET):
        assert secret not in caught.value.problem.message
        assert secret not in repr(configured(server, **changes))


def test_a_server_that_refuses_is_named() -> None:
    with AuthoritativeServer(refuse=True) as server, pytest.raises(IssuerUnavailable, match="REFUSED"):
        DNSUpdatePublisher(configured(server)).publish(NAME, "value")


def test_a_name_outside_every_zone_is_an_error(publisher: DNSPublisher) -> None:
    with pytest.raises(IssuerUnavailable, match="no zone"):
        publisher.publish("_acme-challenge.www.example.com", "value")


@pytest.mark.parametrize(("challenge", "longest"), [("dns-01", 237), ("dns-persist-01", 233), ("http-01", 253)])
def test_a_name_whose_record_would_have_a_name_that_is_too_long_is_refused(challenge: str, longest: int) -> None:
    fits = long_name(longest)

    assert (Identifier("dns", fits),) == identifiers_of(request_for(fits).policy, challenge)
    if challenge != "http-01":
        assert 1 == len(identifiers_of(request_for(f"*.{fits}").policy, challenge))
        with pytest.raises(Unorderable, match=f"too long to be validated by {challenge}"):
            identifiers_of(request_for(f"n{fits}").policy, challenge)


@pytest.mark.parametrize("name", [f"_acme-challenge.{long_name(238)}", "_acme-challenge..example.org"])
def test_a_name_that_dns_does_not_have_is_an_error(publisher: DNSPublisher, name: str) -> None:
    for act in (publisher.publish, publisher.withdraw):
        with pytest.raises(IssuerUnavailable, match="can have no record at"):
            act(name, "value")


@pytest.mark.parametrize(
    "changes",
    [
        {"key_algorithm": "hmac-md5"},
        {"key_secret": "!"},
        {"server": "host:53"},
        {"server": ""},
        {"nameservers": ("ns:0",)},
        {"port": 0},
        {"ttl": -1},
        {"timeout": 0},
        {"zone": "a..b"},
    ],
)
def test_contradictory_configuration_is_refused(server: AuthoritativeServer, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        configured(server, **changes)


@pytest.fixture(scope="module")
def pebble(start_pebble: Callable[..., Pebble], server: AuthoritativeServer) -> Pebble:
    return start_pebble(authz_reuse=0, dns_server=server.address)


@pytest.fixture
def dns_ca(ca: Surroundings, publisher: DNSPublisher) -> Surroundings:
    ca.dns["main"] = publisher
    return ca


def test_a_wildcard_and_its_base_name_in_one_certificate(dns_ca: Surroundings, server: AuthoritativeServer) -> None:
    request = request_for("*.wild.example.org", "wild.example.org")

    leaf, *_ = issued(drive(dns_ca.issuer("challenge=dns-01;dns=main"), request, MemoryJournal()))

    assert {"*.wild.example.org", "wild.example.org"} == names_in(leaf)
    assert set() == server.values("_acme-challenge.wild.example.org")


def test_the_records_of_many_names_are_published_at_once(dns_ca: Surroundings, server: AuthoritativeServer) -> None:
    server.delay = 0.3
    names = [f"n{number}.example.org" for number in range(8)]
    began = time.monotonic()

    issued(drive(dns_ca.issuer("challenge=dns-01;dns=main"), request_for(*names), MemoryJournal()))

    server.delay = 0
    assert time.monotonic() - began < 8 * 0.3


def test_an_address_cannot_be_validated_by_dns(dns_ca: Surroundings) -> None:
    request = request_for("www.example.org", addresses=["127.0.0.1"])

    reply = dns_ca.issuer("challenge=dns-01;dns=main").advance(request, MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert "127.0.0.1 is an IP address" in reply.problem.message


def test_a_publisher_that_fails_delays_only(dns_ca: Surroundings, server: AuthoritativeServer) -> None:
    issuer, journal, request = dns_ca.issuer("challenge=dns-01;dns=main"), MemoryJournal(), request_for("d.example.org")
    server.refuse = True
    with pytest.raises(IssuerUnavailable):
        drive(issuer, request, journal)
    server.refuse = False

    assert issued(drive(issuer, request, journal))
    assert set() == server.values("_acme-challenge.d.example.org")


def test_a_record_that_cannot_be_withdrawn_does_not_cost_the_certificate(
    dns_ca: Surroundings, server: AuthoritativeServer, caplog: pytest.LogCaptureFixture
) -> None:
    issuer, journal, request = dns_ca.issuer("challenge=dns-01;dns=main"), MemoryJournal(), request_for("e.example.org")
    issuer.advance(request, journal)
    server.refuse = True

    assert issued(drive(issuer, request, journal))
    server.refuse = False

    assert "could not be withdrawn" in caplog.text
    issuer.abandon(request, journal)
    assert set() == server.values("_acme-challenge.e.example.org")
