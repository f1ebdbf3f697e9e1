"""dns-01 by dns-lexicon: by its provider for PowerDNS's API, and by that for dynamic updates at a real DNS server."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from certbroker.app import open_core
from certbroker.config import ConfigurationError, build
from certbroker.egress import EgressPolicy, OutsideDNS
from certbroker.ports.issuer import IssuerUnavailable
from issuers.acme.dns_lexicon import LexiconProvider, LexiconPublisher
from pebble.launcher import Pebble
from tests.support.acme_ports import LOOPBACK, MemoryJournal, Surroundings, drive, issued, names_in, request_for
from tests.support.dns_api import DNSAPI
from tests.support.dns_server import KEY_SECRET, AuthoritativeServer

pytestmark = pytest.mark.xdist_group("acme-lexicon")

TOKEN = "s3cret/token+with=signs"
NAME = "_acme-challenge.www.example.org"
HERE = EgressPolicy(allowed_networks=LOOPBACK)


@pytest.fixture(scope="module")
def server() -> Iterator[AuthoritativeServer]:
    with AuthoritativeServer("example.org", "sub.example.org") as server:
        yield server


@pytest.fixture(scope="module")
def api(server: AuthoritativeServer) -> Iterator[DNSAPI]:
    with DNSAPI(server, TOKEN) as api:
        yield api


@pytest.fixture(autouse=True)
def good_mood(api: DNSAPI) -> Iterator[None]:
    yield
    api.mood = "serve"


def publisher(server: AuthoritativeServer, api: DNSAPI, /, **changes: Any) -> LexiconPublisher:
    fields = {
        "provider": "powerdns",
        "zones": ("example.org",),
        "options": {"auth_token": TOKEN, "pdns_server": api.url},
        "propagation": 5.0,
        "timeout": 30.0,
    }
    return LexiconPublisher(LexiconProvider(**(fields | changes)), OutsideDNS(HERE, (server.address,)))


def test_values_are_added_and_removed_one_by_one_and_both_may_be_repeated(
    server: AuthoritativeServer, api: DNSAPI
) -> None:
    lexicon = publisher(server, api)
    for value in ("one", "two", "one"):
        lexicon.publish(NAME, value)
    assert {"one", "two"} == server.values(NAME)

    for _ in range(2):
        lexicon.withdraw(NAME, "one")
    assert {"two"} == server.values(NAME)

    lexicon.withdraw(NAME, "two")
    assert set() == server.values(NAME)


def test_a_provider_that_hangs_is_ended_in_time(server: AuthoritativeServer, api: DNSAPI) -> None:
    api.mood = "hang"
    began = time.monotonic()

    with pytest.raises(IssuerUnavailable, match="powerdns did not end within 3 seconds") as caught:
        publisher(server, api, timeout=3.0).publish(NAME, "value")

    assert time.monotonic() - began < 15
    assert "DNSPublisherFailed" == caught.value.problem.code


def test_a_refusal_is_shown_without_what_is_secret(
    server: AuthoritativeServer, api: DNSAPI, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    api.mood = "refuse"

    with pytest.raises(IssuerUnavailable, match=r"401 .*Unauthorized") as caught:
        publisher(server, api).publish(NAME, "value")

    told = caught.value.problem.message + caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in told
    assert TOKEN not in repr(LexiconProvider("powerdns", ("example.org",), {"auth_token": TOKEN}))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"provider": "nosuchprovider"}, "nosuchprovider"),
        ({"options": {"auth_token": TOKEN}}, "pdns_server"),
        ({"zones": ("example.net", "ample.org")}, "in none of its zones example.net, ample.org"),
    ],
)
def test_mistakes_of_the_operator_are_told(
    server: AuthoritativeServer, api: DNSAPI, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(IssuerUnavailable, match=complaint):
        publisher(server, api, **changes).publish(NAME, "value")


@pytest.mark.parametrize(
    "changes",
    [
        {"provider": "../x"},
        {"zones": ()},
        {"zones": ("a..b",)},
        {"options": {"AUTH-TOKEN": "x"}},
        {"ttl": -1},
        {"timeout": 0},
        {"propagation": 4000},
    ],
)
def test_contradictory_configuration_is_refused(
    server: AuthoritativeServer, api: DNSAPI, changes: dict[str, Any]
) -> None:
    with pytest.raises(ValueError):
        publisher(server, api, **changes)


def test_a_missing_extra_is_named_at_the_start(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "lexicon" else find(name, *more)
    )
    section = {"kind": "lexicon", "provider": "powerdns", "zones": ["example.org"], "options": {"auth_token": TOKEN}}

    with pytest.raises(ConfigurationError, match=r"dns\.main: .*pip install 'certbroker\[lexicon\]'") as caught:
        open_core(build({"data": {"directory": tmp_path}, "dns": {"main": section}}))

    assert TOKEN not in str(caught.value)


@pytest.fixture(scope="module")
def pebble(start_pebble: Callable[..., Pebble], server: AuthoritativeServer) -> Pebble:
    return start_pebble(authz_reuse=0, dns_server=server.address)


def test_a_wildcard_and_its_base_name_in_one_certificate(
    ca: Surroundings, server: AuthoritativeServer, api: DNSAPI
) -> None:
    """Two values of one name: lexicon reads the set and writes it back, so the changes follow each other."""
    ca.dns["main"] = publisher(server, api, zones=("example.org", "sub.example.org"))
    request = request_for("*.w.sub.example.org", "w.sub.example.org", "x.example.org")

    leaf, *_ = issued(drive(ca.issuer("challenge=dns-01;dns=main"), request, MemoryJournal(), 60))

    assert {"*.w.sub.example.org", "w.sub.example.org", "x.example.org"} == names_in(leaf)
    assert {} == server.records()


def test_dynamic_updates_at_a_real_dns_server() -> None:
    """Lexicon's `ddns` knows port 53 only, which a test may not have."""
    try:
        own = AuthoritativeServer("example.org", address=("127.0.0.54", 53))
    except OSError as error:
        pytest.skip(f"port 53 of 127.0.0.54 cannot be had: {error}")
    with own:
        options = {"auth_token": f"hmac-sha256:certbroker-test:{KEY_SECRET}", "ddns_server": "127.0.0.54"}
        names = OutsideDNS(HERE, (own.address,))
        lexicon = LexiconPublisher(LexiconProvider("ddns", ("example.org",), options, propagation=5.0), names)

        lexicon.publish(NAME, "value")
        assert {"value"} == own.values(NAME)

        lexicon.withdraw(NAME, "value")
        assert set() == own.values(NAME)
