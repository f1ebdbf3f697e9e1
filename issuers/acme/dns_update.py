"""Publishing dns-01 records by dynamic update (RFC 2136), signed with TSIG (RFC 8945)."""

from __future__ import annotations

import base64
import ipaddress
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.tsigkeyring
import dns.update

from certbroker.domain.operation import Problem
from certbroker.ports.issuer import IssuerUnavailable
from issuers.acme.problem import printable

ALGORITHMS: Final = ("hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")

_FIRST_LOOK: Final = 0.05
_LONGEST_LOOK: Final = 5.0
_PORT: Final = 53


@dataclass(frozen=True, slots=True)
class DNSUpdateServer:
    """A name server that takes dynamic updates.

    `server` is a name or an address; the `nameservers` may have a port too, as `host:port` or `[address]:port`.
    """

    server: str
    """The primary server, which updates are sent to."""
    key_name: str
    key_secret: str = field(repr=False)
    """The TSIG key in base64."""
    port: int = 53
    key_algorithm: str = "hmac-sha256"
    zone: str | None = None
    """The zone to update; found by asking the server for SOA records when it is not given."""
    ttl: int = 60
    """Seconds. Short, because a resolver that has cached the absence of the record keeps it for as long as this."""
    timeout: float = 10.0
    """Seconds for one query or update."""
    propagation: float = 120.0
    """Seconds to wait until all name servers answer with the record. Then the CA is asked all the same."""
    nameservers: tuple[str, ...] = ()
    """The servers to wait for; those in the zone's NS records, with the primary, when none are given."""

    def __post_init__(self) -> None:
        """ValueError, naming the field, for what cannot work."""
        if self.key_algorithm.lower().rstrip(".") not in ALGORITHMS:
            raise ValueError(f"key_algorithm {self.key_algorithm!r} is not one of {', '.join(ALGORITHMS)}.")
        if not 0 <= self.ttl <= 86_400:
            raise ValueError("ttl is between 0 and 86400 seconds.")
        if not 0 < self.timeout <= 60 or not 0 <= self.propagation <= 3600:
            raise ValueError("timeout is at most 60 and propagation at most 3600 seconds.")
        if not self.server or not 1 <= self.port <= 65535 or _endpoint(self.server, 0)[1] != 0:
            raise ValueError("server is a name or an address, and port is between 1 and 65535.")
        for server in self.nameservers:
            _endpoint(server, _PORT)
        try:
            base64.b64decode(self.key_secret, validate=True)
            dns.tsigkeyring.from_text({self.key_name: self.key_secret})
            dns.name.from_text(self.zone or ".")
        except (ValueError, dns.exception.DNSException):
            raise ValueError("key_name and zone are domain names and key_secret is base64.") from None


class DNSUpdatePublisher:
    """The `DNSPublisher` port over one such server. Thread-safe: it holds no connection."""

    def __init__(self, server: DNSUpdateServer) -> None:
        self._server = server
        self._keyring = dns.tsigkeyring.from_text({server.key_name: server.key_secret})

    def publish(self, name: str, value: str) -> None:
        owner = self._owner(name)
        zone = self._zone(owner)
        update = self._update(zone)
        update.add(owner, self._server.ttl, "TXT", _quoted(value))
        self._send(update, name)
        self._wait(zone, owner, value)

    def withdraw(self, name: str, value: str) -> None:
        owner = self._owner(name)
        update = self._update(self._zone(owner))
        update.delete(owner, "TXT", _quoted(value))
        self._send(update, name)

    def _owner(self, name: str) -> dns.name.Name:
        try:
            return dns.name.from_text(name)
        except dns.exception.DNSException as error:
            raise self._unavailable(f"it can have no record at {name}", error) from error

    def _update(self, zone: dns.name.Name) -> dns.update.UpdateMessage:
        return dns.update.UpdateMessage(
            zone,
            keyring=self._keyring,
            keyname=dns.name.from_text(self._server.key_name),
            keyalgorithm=dns.name.from_text(self._server.key_algorithm),
        )

    def _send(self, update: dns.update.UpdateMessage, name: str) -> None:
        address, port = self._primary()
        try:
            answer = dns.query.tcp(update, address, self._server.timeout, port)
        except (OSError, dns.exception.DNSException, ValueError) as error:
            raise self._unavailable(f"the update of {name} failed", error) from error
        if answer.rcode() != dns.rcode.NOERROR:
            code = dns.rcode.to_text(answer.rcode())
            raise self._unavailable(
                f"it answered the update of {name} with {code}; check the zone and the key's rights"
            )

    def _zone(self, owner: dns.name.Name) -> dns.name.Name:
        """The zone of `owner`: the longest of its parents that the server has an SOA record for."""
        if self._server.zone is not None:
            zone = dns.name.from_text(self._server.zone)
            if not owner.is_subdomain(zone):
                raise self._unavailable(f"{owner} is not in its zone {zone}")
            return zone
        parent = owner
        while parent != dns.name.root:
            for found in self._ask(self._primary(), parent, dns.rdatatype.SOA):
                if found.rdtype == dns.rdatatype.SOA and found.name == parent:
                    return parent
            parent = parent.parent()
        raise self._unavailable(f"it has no zone for {owner}")

    def _wait(self, zone: dns.name.Name, owner: dns.name.Name, value: str) -> None:
        """Return once every name server answers with the value, or the wait for that is over."""
        deadline = time.monotonic() + self._server.propagation
        waiting = self._nameservers(zone)
        pause = _FIRST_LOOK
        while True:
            waiting = [server for server in waiting if not self._serves(server, owner, value)]
            left = deadline - time.monotonic()
            if not waiting or left <= 0:
                return
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_LOOK)

    def _serves(self, server: tuple[str, int], owner: dns.name.Name, value: str) -> bool:
        try:
            answer = self._ask(server, owner, dns.rdatatype.TXT)
        except IssuerUnavailable:
            return False
        wanted = value.encode()
        return any(
            b"".join(record.strings) == wanted
            for records in answer
            if records.rdtype == dns.rdatatype.TXT
            for record in records
        )

    def _nameservers(self, zone: dns.name.Name) -> list[tuple[str, int]]:
        if self._server.nameservers:
            return [address for server in self._server.nameservers for address in _addresses(*_endpoint(server, _PORT))]
        found = [self._primary()]
        try:
            answer = self._ask(found[0], zone, dns.rdatatype.NS)
        except IssuerUnavailable:
            return found
        for records in answer:
            if records.rdtype == dns.rdatatype.NS:
                for record in records:
                    found += _addresses(record.target.to_text(omit_final_dot=True), _PORT)
        return list(dict.fromkeys(found))

    def _ask(
        self, server: tuple[str, int], name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> Iterable[dns.rrset.RRset]:
        """The answer section; empty for a name without such records. Never from a cache: recursion is not desired."""
        query = dns.message.make_query(name, kind, flags=0)
        try:
            answer, _ = dns.query.udp_with_fallback(query, server[0], self._server.timeout, server[1])
        except (OSError, dns.exception.DNSException, ValueError) as error:
            raise self._unavailable(f"it does not answer a query for {name}", error) from error
        return answer.answer

    def _primary(self) -> tuple[str, int]:
        addresses = _addresses(_endpoint(self._server.server, 0)[0], self._server.port)
        if not addresses:
            raise self._unavailable("its name cannot be resolved")
        return addresses[0]

    def _unavailable(self, what: str, error: Exception | None = None) -> IssuerUnavailable:
        # dnspython's texts name the servers and the reason and never the key.
        reason = f" ({printable(str(error)) or type(error).__name__})" if error is not None else ""
        return IssuerUnavailable(Problem("DNSPublisherFailed", f"DNS server {self._server.server}: {what}{reason}."))


def _quoted(value: str) -> str:
    """A TXT character-string (RFC 1035 section 5.1). dns-01 values are base64url and at most 255 bytes."""
    if len(value) > 255 or not value.isascii() or not value.isprintable() or '"' in value or "\\" in value:
        raise ValueError("The value of a dns-01 record is at most 255 plain ASCII characters.")
    return f'"{value}"'


def _endpoint(server: str, default: int) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, `address` or `[address]:port`."""
    try:
        return str(ipaddress.ip_address(server.strip("[]"))), default
    except ValueError:
        pass
    host, colon, port = server.rpartition(":")
    if not colon and server:
        return server, default
    host = host.strip("[]")
    if not host or not port.isdecimal() or len(port) > 5 or not 1 <= int(port) <= 65535:
        raise ValueError(f"{server!r} is not a server such as ns1.example.org or 192.0.2.1:53.")
    return host, int(port)


def _addresses(host: str, port: int) -> list[tuple[str, int]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys((str(address[0]), port) for *_, address in found))
