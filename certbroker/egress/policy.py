"""What may be contacted."""

from __future__ import annotations

import importlib.metadata
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final

import httpx

from certbroker.ports.egress import EgressRefused

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL: Final = 8192

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,254}", re.ASCII)


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
        literal = _literal(parsed.host)
        host = parsed.raw_host.decode("ascii")
        if not host or not 0 < (443 if parsed.port is None else parsed.port) <= 65535:
            raise EgressRefused(f"The URL {shown} has no host or no possible port.")
        if literal is None and not _HOST.fullmatch(host):
            raise EgressRefused(f"The URL {shown} is malformed: its host is neither a name nor an address.")
        if parsed.userinfo:
            raise EgressRefused(f"The URL {shown} carries a user name, which is not allowed.")
        self._check_listed(parsed.host)
        if parsed.scheme == "http" and not matches(parsed.host, self.plain_http_hosts):
            raise EgressRefused(f"The URL {shown} is plain http: only https is allowed for {parsed.host}.")
        if literal is not None:
            self.check_address(parsed.host, literal)
        return parsed.copy_with(fragment=None)

    def check_host(self, host: str, port: int) -> None:
        """EgressRefused unless a connection by TLS may be made there, as far as that can be told without DNS."""
        literal = _literal(host)
        if not 0 < port <= 65535 or (literal is None and not _HOST.fullmatch(host)):
            raise EgressRefused(f"{host[:200]!r} with port {port} is no host name or address with a port.")
        self._check_listed(host)
        if literal is not None:
            self.check_address(host, literal)

    def _check_listed(self, host: str) -> None:
        if self.allowed_hosts and not matches(host, self.allowed_hosts):
            raise EgressRefused(f"The host {host} is not among the operator's allowed hosts.")

    def check_address(self, host: str, address: IPAddress) -> None:
        """EgressRefused unless the address is public or in `allowed_networks`. `host` is for the message."""
        forms = _reached(address)
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


def _reached(address: IPAddress) -> list[IPAddress]:
    """The addresses that are reached by connecting to this one, all of which have to be allowed.

    IPv4-mapped and NAT64 addresses (RFC 4291 section 2.5.5.2, RFC 6052) only stand for an IPv4 address; 6to4 and Teredo
    (RFC 3056, RFC 4380) lead through one.
    """
    if not isinstance(address, ipaddress.IPv6Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    if address.sixtofour is not None:
        return [address, address.sixtofour]
    return [address, *(address.teredo or ())]


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
