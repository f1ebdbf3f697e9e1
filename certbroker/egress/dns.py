"""DNS look-ups under the operator's egress policy, at the authoritative servers first.

Resolvers keep what they have seen, also that there was nothing, and inside a network they may tell something else than
outside. So a resolver is asked who serves the zone, and these servers are asked for the record. Where none of them
answers, because a firewall or the egress policy keeps us from it, the resolver's own answer counts.
"""

from __future__ import annotations

import ipaddress
import time
from typing import Any, Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from certbroker import background
from certbroker.egress.policy import EgressPolicy
from certbroker.ports.dns import CAARecord, DNSUnanswered
from certbroker.ports.egress import EgressRefused

_PORT: Final = 53
# Seconds for one look-up: half for finding and asking the zone's own servers, the rest for the resolver.
_SECONDS: Final = 10.0
_ONE_SERVER: Final = 2.0
_MAX_SERVERS: Final = 4
_MAX_TEXTS: Final = 100
_MAX_ALIASES: Final = 8


class OutsideDNS:
    """The `DNS` port. `resolvers` are `address`, `address:port` or `[address]:port`; the system's when there are none.

    `authoritative_port` is 53 everywhere but in tests. Raises ValueError for resolvers that are no addresses.
    """

    def __init__(
        self, policy: EgressPolicy, resolvers: tuple[str, ...] = (), *, authoritative_port: int = _PORT
    ) -> None:
        self._policy = policy
        self._resolvers = [dns.nameserver.Do53Nameserver(*read_server(text)) for text in resolvers]
        self._authoritative_port = authoritative_port

    def alias(self, name: str) -> str | None:
        for record in self._records(name, dns.rdatatype.CNAME):
            target: str = record.target.to_text(omit_final_dot=True).lower()
            return target
        return None

    def txt(self, name: str) -> tuple[str, ...]:
        found = self._records(name, dns.rdatatype.TXT)[:_MAX_TEXTS]
        return tuple(b"".join(record.strings).decode("utf-8", "replace") for record in found)

    def caa(self, name: str) -> tuple[CAARecord, ...]:
        for _ in range(_MAX_ALIASES):
            found = self._records(name, dns.rdatatype.CAA)[:_MAX_TEXTS]
            target = self.alias(name) if not found else None
            if target is None:
                return tuple(
                    CAARecord(each.flags, each.tag.decode("ascii", "replace"), each.value.decode("ascii", "replace"))
                    for each in found
                )
            name = target
        raise DNSUnanswered(f"The aliases of {name} lead on and on.")

    def _records(self, name: str, kind: dns.rdatatype.RdataType) -> list[Any]:
        with background.waiting():
            return self._looked_up(name, kind)

    def _looked_up(self, name: str, kind: dns.rdatatype.RdataType) -> list[Any]:
        began = time.monotonic()
        try:
            owner = dns.name.from_text(name)
            resolver = self._resolver()
            for server in self._authoritative(resolver, owner):
                left = began + _SECONDS / 2 - time.monotonic()
                found = self._ask(server, owner, kind, min(left, _ONE_SERVER)) if left > 0 else None
                if found is not None:
                    return found
            resolver.lifetime = _SECONDS / 2
            answer = resolver.resolve(owner, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return []
        except (dns.exception.DNSException, OSError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DNSUnanswered(f"No DNS server could say what {name} has: {reason[:300]}") from error
        return [] if answer.rrset is None else [*answer.rrset]

    def _resolver(self) -> dns.resolver.Resolver:
        resolver = dns.resolver.Resolver(configure=not self._resolvers)
        if self._resolvers:
            resolver.nameservers = [*self._resolvers]
        resolver.lifetime = _SECONDS / 4
        return resolver

    def _authoritative(self, resolver: dns.resolver.Resolver, owner: dns.name.Name) -> list[str]:
        """Addresses of the zone's servers that we may ask."""
        if self._policy.proxy is not None:
            return []  # Nothing but the proxy is reached from here.
        try:
            zone = dns.resolver.zone_for_name(owner, resolver=resolver, lifetime=_SECONDS / 4)
            names = [record.target for record in resolver.resolve(zone, dns.rdatatype.NS, search=False)]
        except (dns.exception.DNSException, OSError, ValueError):
            return []
        found: list[str] = []
        for name in names[:_MAX_SERVERS]:
            try:
                addresses = [*resolver.resolve_name(name, lifetime=_SECONDS / 4).addresses()]
                for address in addresses:
                    self._policy.check_address(name.to_text(), ipaddress.ip_address(address))
            except (dns.exception.DNSException, OSError, ValueError, EgressRefused):
                continue
            found += addresses
        return found[:_MAX_SERVERS]

    def _ask(
        self, address: str, owner: dns.name.Name, kind: dns.rdatatype.RdataType, timeout: float
    ) -> list[Any] | None:
        """What this server has for the name; None when it does not answer with authority."""
        query = dns.message.make_query(owner, kind, flags=0)
        try:
            response, _ = dns.query.udp_with_fallback(query, address, timeout, self._authoritative_port)
        except (dns.exception.DNSException, OSError, ValueError):
            return None
        if not response.flags & dns.flags.AA or response.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return None
        return [record for records in response.answer if _is(records, owner, kind) for record in records]


def read_server(text: str) -> tuple[str, int]:
    """Address and port of `address`, `address:port` or `[address]:port`. Raises ValueError."""
    try:
        return str(ipaddress.ip_address(text.strip("[]"))), _PORT
    except ValueError:
        address, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is not a DNS server such as 192.0.2.53 or 192.0.2.53:5353")
    return str(ipaddress.ip_address(address.strip("[]"))), int(port)


def _is(records: dns.rrset.RRset, owner: dns.name.Name, kind: dns.rdatatype.RdataType) -> bool:
    return records.name == owner and records.rdtype == kind
