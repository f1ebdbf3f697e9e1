"""What discovery is given: places by the configuration, entries by monitors, certificates by servers."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbroker.config import ConfigurationError, build
from certbroker.domain.discovery import MOST_PROBES, Sighting, logged, seen_at, targets
from certbroker.domain.errors import Invalid
from certbroker.services.discovery.discoveries import name_for, policy_for
from tests.support.certificates import Authority, der


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (["www.example.com"], ["www.example.com:443", "www.example.com:8443"]),
        (["WWW.example.com:993"], ["www.example.com:993"]),
        (["192.0.2.1", "[2001:db8::1]:25"], ["192.0.2.1:443", "192.0.2.1:8443", "[2001:db8::1]:25"]),
        (["2001:db8::1"], ["[2001:db8::1]:443", "[2001:db8::1]:8443"]),
        (["192.0.2.0/30"], [f"192.0.2.{n}:{p}" for n in (1, 2) for p in (443, 8443)]),
        (["192.0.2.7/32", "192.0.2.7"], ["192.0.2.7:443", "192.0.2.7:8443"]),
    ],
)
def test_places_are_made_from_hosts_networks_and_ports(hosts: list[str], expected: list[str]) -> None:
    assert expected == [target.place for target in targets(hosts, (443, 8443))]


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"hosts": ["10.0.0.0/8"]}, "16777216 addresses"),
        ({"hosts": ["10.0.0.0/16", "10.1.0.0/16"]}, str(MOST_PROBES)),
        ({"hosts": ["::/0"]}, "addresses"),
        ({"hosts": ["a b"]}, "neither"),
        ({"hosts": ["host:0"]}, "no port"),
        ({"hosts": ["192.0.2.0/99"]}, "not a network"),
        ({"monitors": ["crt.sh"]}, "not a URL"),
        ({"rate": 0}, "rate"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_at_the_start(section: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        build({"discovery": section})


_ODD = st.one_of(st.none(), st.integers(), st.text(max_size=20), st.lists(st.integers(), max_size=2))


_FIELDS = ["serial_number", "issuer_name", "common_name", "name_value", "not_before", "not_after"]


@given(st.lists(st.one_of(_ODD, st.dictionaries(st.sampled_from(_FIELDS), _ODD)), max_size=5))
def test_no_entry_of_a_monitor_does_harm(entries: list[Any]) -> None:
    now = datetime.fromisoformat("2027-01-01T00:00:00+00:00")

    for each in logged(json.dumps(entries).encode(), "https://monitor.example/", now):
        assert each.names
        assert (each.issuer + each.subject).isprintable()


@given(st.binary(max_size=200))
def test_no_certificate_of_a_server_does_harm(leaf: bytes) -> None:
    now = datetime.fromisoformat("2027-01-01T00:00:00+00:00")
    with pytest.raises(ValueError, match=r"^The certificate cannot be read: [ -~]*…?$"):
        seen_at(leaf, "host:443", now)


def sighting(*names: str, leaf: bytes = b"") -> Sighting:
    now = datetime.fromisoformat("2027-01-01T00:00:00+00:00")
    return Sighting("ab", "ab", "CN=CA", "", names, now, now, ("host:443",), now, leaf=leaf)


def test_an_adopted_certificate_is_named_after_its_host_and_has_a_key_of_its_kind() -> None:
    leaf = der(Authority().issue("*.example.com").certificate)

    assert "wildcard-example-com" == name_for(sighting("*.example.com"))
    assert "192-0-2-1" == name_for(sighting("192.0.2.1"))
    policy = policy_for(sighting("*.example.com", "192.0.2.1", leaf=leaf), "ca")
    assert (("*.example.com",), ("192.0.2.1",)) == (policy.sans.dns_names, policy.sans.ip_addresses)
    assert "EC" == policy.key.kty
    with pytest.raises(Invalid, match="nothing to make one for"):
        policy_for(sighting(), "ca")
