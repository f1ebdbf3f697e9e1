"""DNS look-ups, by real servers."""

from __future__ import annotations

import ipaddress
import time

import pytest

from certbroker.egress import EgressPolicy, OutsideDNS
from certbroker.egress.dns import read_server
from certbroker.ports.dns import DNSUnanswered
from tests.support.acme_ports import LOOPBACK
from tests.support.dns_server import AuthoritativeServer

HERE = EgressPolicy(allowed_networks=LOOPBACK)
NAME = "_acme-challenge.www.example.org"


def test_the_answer_of_the_zones_own_server_counts_and_not_what_a_resolver_has_kept() -> None:
    kept = {NAME: "old.example.org"}
    now = {NAME: "New.Example.NET"}
    with (
        AuthoritativeServer("example.org", aliases=now) as own,
        AuthoritativeServer("example.org", aliases=kept, nameserver="ns.example.org.") as resolver,
    ):
        dns = OutsideDNS(HERE, (resolver.address,), authoritative_port=own.port)

        assert "new.example.net" == dns.alias(NAME)
        assert "new.example.net" == dns.alias(f"{NAME}.")


def test_a_server_that_the_policy_forbids_is_not_asked() -> None:
    with (
        AuthoritativeServer("example.org", aliases={NAME: "inside.example.org"}) as own,
        AuthoritativeServer(
            "example.org", aliases={NAME: "outside.example.org"}, nameserver="ns.example.org."
        ) as resolver,
    ):
        dns = OutsideDNS(EgressPolicy(), (resolver.address,), authoritative_port=own.port)

        assert "outside.example.org" == dns.alias(NAME)


def test_a_resolver_is_believed_where_the_zones_servers_cannot_be_asked() -> None:
    with AuthoritativeServer("example.org", aliases={NAME: "a.example.org"}) as resolver:
        assert "a.example.org" == OutsideDNS(HERE, (resolver.address,)).alias(NAME)


@pytest.mark.parametrize("authoritative", [True, False])
def test_a_name_without_the_record_has_none(authoritative: bool) -> None:
    nameserver = "ns.example.org." if authoritative else "ns.invalid."
    with AuthoritativeServer("example.org", nameserver=nameserver) as server:
        dns = OutsideDNS(HERE, (server.address,), authoritative_port=server.port)

        assert (None, ()) == (dns.alias("nothing.example.org"), dns.txt("nothing.example.org"))


def test_texts_are_those_of_the_name_itself_with_their_strings_joined() -> None:
    long = "a" * 250 + "; b=" + "c" * 250
    with AuthoritativeServer("example.org", texts={NAME: ["one", long]}) as server:
        dns = OutsideDNS(HERE, (server.address,))

        assert {"one", long} == {*dns.txt(NAME)}


def test_a_failure_is_told_from_the_absence_of_a_record_and_is_bounded_in_time() -> None:
    with AuthoritativeServer("example.org") as server:
        server.silent.add(NAME)
        began = time.monotonic()

        with pytest.raises(DNSUnanswered, match=NAME):
            OutsideDNS(HERE, (server.address,)).alias(NAME)

        assert time.monotonic() - began < 20


@pytest.mark.parametrize("name", ["a" * 64 + ".example.org", "a..b", ""])
def test_what_is_no_name_is_unanswered(name: str) -> None:
    with pytest.raises(DNSUnanswered), AuthoritativeServer() as server:
        OutsideDNS(HERE, (server.address,)).txt(name)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("192.0.2.53:5353", ("192.0.2.53", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_resolvers_are_written_as_addresses_with_or_without_a_port(text: str, server: tuple[str, int]) -> None:
    assert server == read_server(text)


@pytest.mark.parametrize("text", ["", "ns.example.org", "192.0.2.53:", "192.0.2.53:0", "192.0.2.53:x", "300.0.2.1:53"])
def test_what_is_no_resolver_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        OutsideDNS(HERE, (text,))


def test_with_a_proxy_only_the_resolver_is_asked() -> None:
    policy = EgressPolicy(allowed_networks=(ipaddress.ip_network("127.0.0.0/8"),), proxy="http://192.0.2.1:3128")
    with (
        AuthoritativeServer("example.org", aliases={NAME: "direct.example.org"}) as own,
        AuthoritativeServer(
            "example.org", aliases={NAME: "told.example.org"}, nameserver="ns.example.org."
        ) as resolver,
    ):
        dns = OutsideDNS(policy, (resolver.address,), authoritative_port=own.port)

        assert "told.example.org" == dns.alias(NAME)
