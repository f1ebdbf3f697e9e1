"""What may be contacted."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certbroker.egress import EgressPolicy
from certbroker.egress.policy import is_public, matches
from certbroker.ports.egress import EgressRefused

POLICY = EgressPolicy()

NOT_PUBLIC = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(EgressRefused, match="not public"):
        POLICY.check_address("host.example", ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_public_addresses_are_allowed(address: str) -> None:
    POLICY.check_address("host.example", ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203"])
def test_an_allowed_network_is_allowed_however_its_addresses_are_written(address: str) -> None:
    policy = EgressPolicy(allowed_networks=(ipaddress.ip_network("10.0.0.0/8"),))

    policy.check_address("host.example", ipaddress.ip_address(address))
    with pytest.raises(EgressRefused):
        policy.check_address("host.example", ipaddress.ip_address("192.168.0.1"))


@settings(deadline=None)
@given(st.ip_addresses())
def test_every_address_is_judged(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    try:
        POLICY.check_address("host.example", address)
    except EgressRefused:
        return
    assert is_public(address) or (isinstance(address, ipaddress.IPv6Address))


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://ca.example/", "plain http"),
        ("ftp://ca.example/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("unix:///run/socket", "scheme"),
        ("//ca.example/", "scheme"),
        ("ca.example", "scheme"),
        ("", "scheme"),
        ("https://", "no host"),
        ("https:///path", "no host"),
        ("https://ca.example:0/", "no possible port"),
        ("https://ca.example:70000/", "no possible port"),
        ("https://user@ca.example/", "user name"),
        ("https://user:secret@ca.example/", "user name"),
        ("https://ca.example\\@127.0.0.1/", "user name|malformed"),
        ("https://127.0.0.1/", "not public"),
        ("https://[::1]/", "not public"),
        ("https://[::ffff:169.254.169.254]/", "not public"),
        ("https://ca.example/\r\nHost: other", "malformed"),
        ("https://ca.example/" + "x" * 9000, "more than"),
        ("https://[", "malformed"),
        ("https://xn--\u2028/", "malformed"),
    ],
)
def test_urls_that_are_refused_name_the_rule(url: str, rule: str) -> None:
    with pytest.raises(EgressRefused, match=rule) as caught:
        POLICY.check_url(url)

    assert "secret" not in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=100) | st.text(max_size=60).map("https://".__add__))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    try:
        assert "https" == POLICY.check_url(text).scheme
    except EgressRefused:
        pass


def test_ports_and_paths_are_free() -> None:
    assert "https://ca.example:14000/a?b=c" == str(POLICY.check_url("https://CA.example:14000/a?b=c#fragment"))


def test_hosts_can_be_limited() -> None:
    policy = EgressPolicy(allowed_hosts=("ca.example", "*.acme.example"))

    for allowed in ("ca.example", "CA.EXAMPLE.", "a.acme.example", "a.b.acme.example"):
        policy.check_url(f"https://{allowed}/")
    for refused in ("acme.example", "xacme.example", "www.ca.example", "ca.example.net"):
        with pytest.raises(EgressRefused, match="allowed hosts"):
            policy.check_url(f"https://{refused}/")


def test_plain_http_is_for_the_hosts_that_are_named() -> None:
    policy = EgressPolicy(plain_http_hosts=("crl.example",))

    policy.check_url("http://crl.example/list.crl")
    with pytest.raises(EgressRefused, match="plain http"):
        policy.check_url("http://other.example/")
    assert matches("anything", ("*",))


@pytest.mark.parametrize("agent", ["", " ", "two\nlines", "\u00fcber"])
def test_a_user_agent_is_mandatory(agent: str) -> None:
    with pytest.raises(ValueError, match="user_agent"):
        EgressPolicy(user_agent=agent)


def test_the_user_agent_names_the_product() -> None:
    assert POLICY.user_agent.startswith("certbroker/")
