"""A DNS provider that fails, before a record is changed and after: one certificate, and no record left behind."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable

import pytest

from certbroker.domain.operation import Problem
from certbroker.ports.issuer import IssuerUnavailable, RequestRefused
from pebble.challenge_dns import ChallengeDNS
from pebble.launcher import Pebble
from tests.support.acme_ports import MemoryJournal, Surroundings, drive, issued, persevere, request_for

pytestmark = pytest.mark.xdist_group("acme-dns")

NAMES = ("a.dns.example.org", "b.dns.example.org", "*.b.dns.example.org")


class FaultyProvider:
    """Publishes where Pebble looks. Calls fail that are asked to, by their number among all of their kind."""

    def __init__(self, dns: ChallengeDNS) -> None:
        self.records: dict[str, set[str]] = defaultdict(set)
        self.failing: dict[tuple[str, int], str] = {}
        self.calls = {"publish": 0, "withdraw": 0}
        self.propagates = True
        self._dns = dns
        self._lock = threading.Lock()

    def publish(self, name: str, value: str) -> None:
        self._call("publish", lambda: self.records[name].add(value), name)

    def withdraw(self, name: str, value: str) -> None:
        self._call("withdraw", lambda: self.records[name].discard(value), name)

    def left(self) -> list[str]:
        return [name for name, values in self.records.items() if values]

    def _call(self, kind: str, change: Callable[[], None], name: str) -> None:
        with self._lock:
            self.calls[kind] += 1
            fails = self.failing.get((kind, self.calls[kind]))
            if fails != "before":
                change()
                self._spread(name)
        if fails is not None:
            raise IssuerUnavailable(Problem("DNSPublisherFailed", "The provider is away."))

    def _spread(self, name: str) -> None:
        if self.propagates:
            self._dns.clear_txt(name)
            for value in self.records[name]:
                self._dns.set_txt(name, value)


@pytest.fixture
def provider(pebble: Pebble, ca: Surroundings) -> FaultyProvider:
    provider = FaultyProvider(pebble.dns)
    ca.dns["faulty"] = provider
    return provider


@pytest.mark.parametrize("fails", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("kind", ["publish", "withdraw"])
def test_a_call_that_fails_is_made_again_and_leaves_nothing(
    ca: Surroundings, provider: FaultyProvider, kind: str, number: int, fails: str
) -> None:
    provider.failing[kind, number] = fails

    issued(persevere(ca.issuer("challenge=dns-01;dns=faulty"), request_for(*NAMES), MemoryJournal()))

    assert [] == provider.left()


def test_records_that_cannot_be_taken_away_cost_no_certificate(ca: Surroundings, provider: FaultyProvider) -> None:
    provider.failing = {("withdraw", number): "before" for number in range(1, 100)}

    issued(drive(ca.issuer("challenge=dns-01;dns=faulty"), request_for(*NAMES), MemoryJournal()))

    assert 6 == provider.calls["withdraw"]


def test_a_record_that_the_ca_cannot_see_is_one_failure_and_not_many(
    ca: Surroundings, provider: FaultyProvider
) -> None:
    """To ask again while a record spreads costs one of the few failures that a CA allows."""
    provider.propagates = False
    journal = MemoryJournal()

    reply = drive(ca.issuer("challenge=dns-01;dns=faulty"), request_for(NAMES[0]), journal)

    assert isinstance(reply, RequestRefused)
    assert "a.dns.example.org" in reply.problem.message
    assert journal.intended("order.2") is None
    assert [] == provider.left()
