"""What may be contacted."""

from __future__ import annotations

import importlib.metadata
import ipaddress
from dataclasses import dataclass, field
from typing import Final

import httpx

from certbroker.ports.egress import EgressRefused

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL: Final = 8192

# Addresses inside these stand for an IPv4 address that the network may translate to (RFC 6052, RFC 8215): what
# matters is the address that is reached in the end.
_NAT64: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))


def default_user_agent() -> str:
    """`certbroker/<version>`. Some servers (Pebble since 2.10, RFC 8555 section 6.1) refuse requests without one."""
    try:
        return f"certbroker/{importlib.metadata.version('certbroker')}"
    except importlib.metadata.PackageNotFoundError:
        return "certbroker/0"


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """The operator's rules for requests to other servers. The defaults allow https to any public address.

    `allowed_networks`: networks that may be contacted although they are private, loopback, link-local or reserved.
    `allowed_hosts`: when not empty, only these hosts may be contacted. An entry is a host name, `*.` and a domain for
    all names below it, or `*`.
    `plain_http_hosts`: hosts, written likewise, that may be contacted by http without TLS.
    `trust`: files with CA certificates in PEM, trusted besides those of the system.
    `proxy`: the URL of an http proxy. It resolves the names then, so of the rules on addresses only those for literal
    addresses in URLs hold here; the rest is the proxy's duty.
    `user_agent`: sent with every request.
    """

    allowed_networks: tuple[IPNetwork, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    plain_http_hosts: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    proxy: str | None = field(default=None, repr=False)  # It may carry a password.
    user_agent: str = field(default_factory=default_user_agent)

    def __post_init__(self) -> None:
        if not self.user_agent.strip() or not self.user_agent.isascii() or not self.user_agent.isprintable():
            raise ValueError("egress: user_agent is printable ASCII and not empty.")

    def check_url(self, url: str) -> httpx.URL:
        """The URL, parsed once for both the check and the request; EgressRefused when a rule forbids it."""
        if len(url) > MAX_URL:
            raise EgressRefused(f"The URL has more than {MAX_URL} characters.")
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise EgressRefused(f"The URL {url[:200]!r} is malformed: {error}.") from None
        shown = _shown(parsed)
        if parsed.scheme not in ("https", "http"):
            raise EgressRefused(f"The URL {shown} has the scheme {parsed.scheme[:20]!r}: only https is allowed.")
        if not parsed.host or parsed.port == 0:
            raise EgressRefused(f"The URL {shown} has no host or the port 0.")
        if parsed.userinfo:
            raise EgressRefused(f"The URL {shown} carries a user name, which is not allowed.")
        if self.allowed_hosts and not matches(parsed.host, self.allowed_hosts):
            raise EgressRefused(f"The host {parsed.host} is not among the operator's allowed hosts.")
        if parsed.scheme == "http" and not matches(parsed.host, self.plain_http_hosts):
            raise EgressRefused(f"The URL {shown} is plain http: only https is allowed for {parsed.host}.")
        literal = _literal(parsed.host)
        if literal is not None:
            self.check_address(parsed.host, literal)
        return parsed.copy_with(fragment=None)

    def check_address(self, host: str, address: IPAddress) -> None:
        """EgressRefused unless the address is public or in `allowed_networks`. `host` is for the message."""
        forms = [address, *_embedded(address)]
        if any(
            form in network for form in forms for network in self.allowed_networks if form.version == network.version
        ):
            return
        for form in forms:
            if not is_public(form):
                raise EgressRefused(
                    f"{host} has the address {address}, which is not public. "
                    "Add its network to the allowed networks of the egress policy if it may be contacted."
                )


def is_public(address: IPAddress) -> bool:
    """Whether the address is a unicast address of the public Internet."""
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return False  # Deprecated by RFC 3879, and still routed inside some networks.
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def matches(host: str, patterns: tuple[str, ...]) -> bool:
    """Whether a host is named by one of the patterns: itself, `*.domain`, or `*`."""
    host = host.lower().rstrip(".")
    for pattern in patterns:
        pattern = pattern.lower().rstrip(".")
        if pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:])):
            return True
    return False


def _embedded(address: IPAddress) -> list[IPAddress]:
    """The IPv4 addresses that an IPv6 address stands for: mapped, 6to4, Teredo (server, client), NAT64."""
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    found: list[IPAddress] = [*(address.teredo or ())]
    found += [inner for inner in (address.ipv4_mapped, address.sixtofour) if inner is not None]
    if any(address in network for network in _NAT64):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _shown(url: httpx.URL) -> str:
    """The URL without what might be a password in it, short enough for a message."""
    try:
        return repr(str(url.copy_with(userinfo=b"", query=None, fragment=None))[:200])
    except (httpx.InvalidURL, ValueError):
        return "that was given"
