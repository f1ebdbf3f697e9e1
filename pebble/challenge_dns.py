"""What Pebble sees in DNS: the management interface of pebble-challtestsrv.

Every name has an A record of 127.0.0.1 and no AAAA record unless a test says otherwise, so http-01 works for any name.
Names are taken with or without the final dot.
"""

import json
from dataclasses import dataclass
from typing import Any

from pebble.loopback import LoopbackHTTP


@dataclass(frozen=True)
class ChallengeDNS:
    """A DNS server that says what it is told. Changes are in force when the call returns."""

    http: LoopbackHTTP
    dns_port: int
    """UDP and TCP on 127.0.0.1."""

    def set_default_ipv4(self, address: str) -> None:
        """What names without an A record of their own answer; empty for nothing."""
        self.http.post("/set-default-ipv4", {"ip": address})

    def set_default_ipv6(self, address: str) -> None:
        """What names without an AAAA record of their own answer; empty for nothing."""
        self.http.post("/set-default-ipv6", {"ip": address})

    def add_a(self, host: str, *addresses: str) -> None:
        self._post("add-a", host, addresses=list(addresses))

    def clear_a(self, host: str) -> None:
        self._post("clear-a", host)

    def add_aaaa(self, host: str, *addresses: str) -> None:
        self._post("add-aaaa", host, addresses=list(addresses))

    def clear_aaaa(self, host: str) -> None:
        self._post("clear-aaaa", host)

    def set_cname(self, host: str, target: str) -> None:
        self._post("set-cname", host, target=target)

    def clear_cname(self, host: str) -> None:
        self._post("clear-cname", host)

    def set_txt(self, host: str, value: str) -> None:
        """Add a value: a name may have several at once, as a wildcard and its base name need."""
        self._post("set-txt", host, value=value)

    def clear_txt(self, host: str) -> None:
        """Remove all values."""
        self._post("clear-txt", host)

    def set_servfail(self, host: str) -> None:
        """Answer every query for this name with SERVFAIL."""
        self._post("set-servfail", host)

    def clear_servfail(self, host: str) -> None:
        self._post("clear-servfail", host)

    def queries(self, host: str) -> list[dict[str, Any]]:
        """The queries seen for this name, oldest first, as challtestsrv records them."""
        history: list[dict[str, Any]] = json.loads(self._post("dns-request-history", host)) or []
        return history

    def clear_queries(self, host: str) -> None:
        self._post("clear-request-history", host, type="dns")

    def _post(self, action: str, host: str, **fields: object) -> bytes:
        return self.http.post(f"/{action}", {"host": host.removesuffix("."), **fields})
