"""An authoritative name server for some zones that takes dynamic updates signed with TSIG (RFC 2136, RFC 8945).

Real UDP and TCP on the same port of the loopback interface. Every host in the zones has the address 127.0.0.1.
"""

from __future__ import annotations

import socketserver
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.tsigkeyring

KEY_NAME = "certbroker-test."
KEY_SECRET = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I="
WRONG_SECRET = "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I="


class AuthoritativeServer:
    """The server. A context manager. `delay` is how long an update takes to be seen, in seconds.

    `texts` are TXT records, `caa` CAA records as in a zone file, `aliases` CNAME records, which are followed within the
    zones; `nameserver` is what their NS records say. It can be asked as a resolver too. Questions for names in `silent`
    fail.
    """

    def __init__(
        self,
        *zones: str,
        delay: float = 0.0,
        refuse: bool = False,
        aliases: Mapping[str, str] | None = None,
        texts: Mapping[str, Iterable[str]] | None = None,
        caa: Mapping[str, Iterable[str]] | None = None,
        nameserver: str = "ns.invalid.",
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.zones = [dns.name.from_text(zone) for zone in zones or ("example.org.",)]
        self.aliases = {dns.name.from_text(name): dns.name.from_text(to) for name, to in (aliases or {}).items()}
        self._caa = {dns.name.from_text(name): [*values] for name, values in (caa or {}).items()}
        self.silent: set[str] = set()
        self.nameserver = nameserver
        self.delay = delay
        self.refuse = refuse
        self.updates = 0
        self._records: dict[dns.name.Name, dict[str, float]] = defaultdict(dict)
        for name, values in (texts or {}).items():
            self._records[dns.name.from_text(name)] = dict.fromkeys(values, 0.0)
        self._lock = threading.Lock()
        keyring = dns.tsigkeyring.from_text({KEY_NAME: KEY_SECRET})
        server = self

        def respond(wire: bytes) -> bytes | None:
            try:
                query = dns.message.from_wire(wire, keyring=keyring)
            except dns.tsig.BadSignature:
                return server._not_authorized(wire)
            except dns.exception.DNSException:
                return None
            return server._answer(query).to_wire()

        class UDPHandler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, socket = self.request
                reply = respond(data)
                if reply is not None:
                    socket.sendto(reply, self.client_address)

        class TCPHandler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while len(prefix := self.rfile.read(2)) == 2:
                    reply = respond(self.rfile.read(struct.unpack("!H", prefix)[0]))
                    if reply is None:
                        return
                    self.wfile.write(struct.pack("!H", len(reply)) + reply)

        class TCPServer(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 64

        self._tcp = TCPServer(address, TCPHandler)
        self.host, self.port = address[0], self._tcp.server_address[1]
        self._udp = socketserver.ThreadingUDPServer((self.host, self.port), UDPHandler)
        self._udp.daemon_threads = True
        self._threads = [
            threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            for listener in (self._tcp, self._udp)
        ]

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def values(self, name: str) -> set[str]:
        """The TXT values that are there, whether or not they can be seen yet."""
        with self._lock:
            return {*self._records[dns.name.from_text(name)]}

    def records(self) -> dict[str, set[str]]:
        """All TXT values by the absolute name, with its final dot."""
        with self._lock:
            return {name.to_text(): {*values} for name, values in self._records.items() if values}

    def replace(self, name: str, values: Iterable[str]) -> None:
        """Let the name have these TXT values and no other."""
        with self._lock:
            self._records[dns.name.from_text(name)] = dict.fromkeys(values, 0.0)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for listener in (self._tcp, self._udp):
            listener.shutdown()
            listener.server_close()
        for thread in self._threads:
            thread.join()

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        if query.opcode() == dns.opcode.UPDATE:
            response.set_rcode(self._update(query))
        elif query.question:
            question = query.question[0]
            if question.name.to_text(omit_final_dot=True) in self.silent:
                response.set_rcode(dns.rcode.SERVFAIL)
            elif self._zone(question.name) is not None:
                self._look_up(response, question.name, question.rdtype)
            else:
                response.set_rcode(dns.rcode.REFUSED)
        return response

    def _zone(self, name: dns.name.Name) -> dns.name.Name | None:
        return next((zone for zone in self.zones if name.is_subdomain(zone)), None)

    def _look_up(self, response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> None:
        for _ in range(10):
            if name not in self.aliases:
                break
            target = self.aliases[name]
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", target.to_text()))
            if kind == dns.rdatatype.CNAME:
                return
            name = target
        zone = self._zone(name)
        found: list[str] = []
        if kind == dns.rdatatype.SOA and name == zone:
            found = ["ns.invalid. admin.invalid. 1 3600 600 86400 60"]
        elif kind == dns.rdatatype.NS and name == zone:
            found = [self.nameserver]
        elif kind == dns.rdatatype.A:
            found = ["127.0.0.1"]
        elif kind == dns.rdatatype.CAA:
            found = self._caa.get(name, [])
        elif kind == dns.rdatatype.TXT:
            now = time.monotonic()
            with self._lock:
                found = [_text(value) for value, visible in self._records[name].items() if visible <= now]
        if found:
            response.answer.append(dns.rrset.from_text_list(name, 60, dns.rdataclass.IN, kind, found))

    def _update(self, query: dns.message.Message) -> dns.rcode.Rcode:
        if not query.had_tsig or self.refuse:
            return dns.rcode.REFUSED
        if query.sections[0][0].name not in self.zones:
            return dns.rcode.NOTAUTH
        with self._lock:
            self.updates += 1
            for change in query.sections[2]:
                for record in change:
                    value = b"".join(record.strings).decode()
                    if change.deleting == dns.rdataclass.NONE:
                        self._records[change.name].pop(value, None)
                    else:
                        self._records[change.name][value] = time.monotonic() + self.delay
        return dns.rcode.NOERROR

    def _not_authorized(self, wire: bytes) -> bytes:
        """A reply without a signature: the header of the query, as a response with NOTAUTH."""
        number, flags = struct.unpack("!HH", wire[:4])
        return struct.pack("!HHHHHH", number, flags | 0x8000 | dns.rcode.NOTAUTH, 0, 0, 0, 0)


def _text(value: str) -> str:
    """A TXT record in the form of a zone file: strings of at most 255 bytes."""
    return " ".join(f'"{value[start : start + 255]}"' for start in range(0, len(value), 255))
