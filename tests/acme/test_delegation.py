"""dns-01 where `_acme-challenge` is a CNAME into another zone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certbroker.egress import EgressPolicy, OutsideDNS
from certbroker.ports.issuer import DNSPublisher, IssuanceRequest, IssuerUnavailable
from issuers.acme import ACMEIssuer
from issuers.acme.delegation import end_of_aliases
from issuers.acme.dns_hook import DNSHook, DNSHookPublisher
from issuers.acme.dns_update import DNSUpdatePublisher, DNSUpdateServer
from pebble.launcher import Pebble
from tests.support.acme_ports import (
    LOOPBACK,
    MemoryJournal,
    NoAliases,
    Surroundings,
    drive,
    issued,
    names_in,
    request_for,
)
from tests.support.dns_server import KEY_NAME, KEY_SECRET, AuthoritativeServer

pytestmark = pytest.mark.xdist_group("acme-dns")

Unasked = Callable[[ACMEIssuer, IssuanceRequest, MemoryJournal], None]

OPTIONS = "challenge=dns-01;dns=main"
ALIASES = {
    "_acme-challenge.www.example.org": "www.acme.example.net",
    "_acme-challenge.far.example.org": "a.example.org",
    "a.example.org": "b.example.org",
    "b.example.org": "far.acme.example.net",
    "_acme-challenge.round.example.org": "c.example.org",
    "c.example.org": "_acme-challenge.round.example.org",
} | {f"long{number}.example.org": f"long{number + 1}.example.org" for number in range(10)}


@pytest.fixture(scope="module")
def server() -> Iterator[AuthoritativeServer]:
    """Serves `example.org`, which takes no updates in these tests, and `acme.example.net`, which does."""
    with AuthoritativeServer("example.org", "acme.example.net", aliases=ALIASES) as server:
        yield server


@pytest.fixture
def names(server: AuthoritativeServer) -> OutsideDNS:
    return OutsideDNS(EgressPolicy(allowed_networks=LOOPBACK), (server.address,))


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("_acme-challenge.plain.example.org", "_acme-challenge.plain.example.org"),
        ("_acme-challenge.www.example.org", "www.acme.example.net"),
        ("_acme-challenge.FAR.example.org", "far.acme.example.net"),
        ("long3.example.org", "long10.example.org"),
    ],
)
def test_the_end_of_a_chain_is_found(names: OutsideDNS, name: str, end: str) -> None:
    assert end == end_of_aliases(name, names)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (
            "_acme-challenge.round.example.org",
            "in a circle: _acme-challenge.round.example.org → c.example.org → _acme-challenge.round.example.org",
        ),
        ("long0.example.org", "further than the CA will follow: long0.example.org → long1.example.org"),
    ],
)
def test_a_chain_without_a_usable_end_is_shown(names: OutsideDNS, name: str, complaint: str) -> None:
    with pytest.raises(IssuerUnavailable, match=complaint) as caught:
        end_of_aliases(name, names)

    assert "DNSDelegationBroken" == caught.value.problem.code


def test_where_nobody_can_say_the_record_goes_as_far_as_is_known(
    server: AuthoritativeServer, names: OutsideDNS, caplog: pytest.LogCaptureFixture
) -> None:
    server.silent.add("b.example.org")
    try:
        found = end_of_aliases("_acme-challenge.far.example.org", names)
    finally:
        server.silent.clear()

    assert "b.example.org" == found
    assert "Whether there is a CNAME record at b.example.org is not known" in caplog.text


@pytest.fixture
def publisher(server: AuthoritativeServer) -> DNSPublisher:
    """May write the zone that is delegated to, and no other."""
    return DNSUpdatePublisher(
        DNSUpdateServer(
            server="127.0.0.1",
            port=server.port,
            key_name=KEY_NAME,
            key_secret=KEY_SECRET,
            zone="acme.example.net",
            nameservers=(server.address,),
            timeout=2.0,
            propagation=5.0,
        )
    )


@pytest.fixture(scope="module")
def pebble(start_pebble: Callable[..., Pebble], server: AuthoritativeServer) -> Pebble:
    return start_pebble(authz_reuse=0, dns_server=server.address)


@pytest.fixture
def delegated(ca: Surroundings, names: OutsideDNS, publisher: DNSPublisher) -> Surroundings:
    ca.names, ca.dns = names, {"main": publisher}
    return ca


def test_a_certificate_for_names_that_are_delegated_and_a_wildcard(
    delegated: Surroundings, server: AuthoritativeServer
) -> None:
    journal = MemoryJournal()
    request = request_for("www.example.org", "*.www.example.org", "far.example.org")

    leaf, *_ = issued(drive(delegated.issuer(OPTIONS), request, journal))

    assert {"www.example.org", "*.www.example.org", "far.example.org"} == names_in(leaf)
    published = [name for _, name, _ in json.loads((journal.intended("challenge") or {})["answers"])]
    assert ["far.acme.example.net", "www.acme.example.net", "www.acme.example.net"] == sorted(published)
    assert set() == server.values("www.acme.example.net") | server.values("far.acme.example.net")


def test_a_record_is_withdrawn_where_it_was_published_though_the_cname_has_changed(
    delegated: Surroundings, server: AuthoritativeServer, unasked: Unasked
) -> None:
    issuer, request, journal = delegated.issuer(OPTIONS), request_for("www.example.org"), MemoryJournal()
    unasked(issuer, request, journal)
    assert 1 == len(server.values("www.acme.example.net"))

    delegated.names = NoAliases()
    delegated.issuer(OPTIONS).abandon(request, journal)

    assert set() == server.values("www.acme.example.net")


def test_a_circle_delays_the_order_and_asks_nothing_of_the_publisher(
    delegated: Surroundings, server: AuthoritativeServer
) -> None:
    before, journal = server.updates, MemoryJournal()

    with pytest.raises(IssuerUnavailable, match="in a circle"):
        delegated.issuer(OPTIONS).advance(request_for("round.example.org"), journal)

    assert before == server.updates
    assert journal.intended("challenge") is None


def test_a_hook_gets_the_name_that_it_has_to_write(delegated: Surroundings, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = f"import os; open({str(seen)!r}, 'a').write(os.environ['CERTBROKER_DNS_NAME'] + '\\n')"
    delegated.dns["main"] = DNSHookPublisher(DNSHook((sys.executable, "-c", script)))

    delegated.issuer(OPTIONS).advance(request_for("www.example.org"), MemoryJournal())

    assert "www.acme.example.net\n" == seen.read_text()
