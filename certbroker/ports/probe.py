"""Looking at what a TLS server presents."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from certbroker.domain.endpoints import StartTLS

__all__ = ["Failure", "IPAddress", "NotPresented", "Presented", "Probe", "StartTLS"]

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Failure(StrEnum):
    """Why nothing was seen."""

    REFUSED = "refused"
    """Our own policy forbids to look."""
    UNREACHABLE = "unreachable"
    """Nobody answered, or not in time."""
    GARBAGE = "garbage"
    """Something answered, and it was no TLS, or no handshake that has come as far as a certificate."""


@dataclass(frozen=True, slots=True)
class Presented:
    """What a server has shown."""

    address: IPAddress
    port: int
    chain: tuple[bytes, ...]
    """The certificates in DER, as they were sent, the server's own first. Nothing about them was verified but that they
    can be parsed, and that the server has the key of the first.
    """
    protocol: str
    """The version that was agreed on, such as `TLSv1.3`."""
    broken_off: str | None = None
    """What the server ended the handshake with after it had presented its certificate, as one does that demands a
    certificate of its clients.
    """


class NotPresented(Exception):
    """No certificate was seen. The text says why, for people, on one line."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure
        self.message = message


class Probe(Protocol):
    """Looks at TLS servers, within the egress policy. Blocking and thread-safe; never retries.

    Nothing is trusted, only looked at: whoever asks compares. What a server sends is bounded in size and time, and
    whatever it sends, nothing but NotPresented is raised.
    """

    def addresses(self, host: str, port: int, *, timeout: float = 5.0) -> tuple[IPAddress, ...]:
        """The addresses of a host, at least one and 32 at most, if the policy allows the host and each of them.

        `host` is a name or an address. An answer is given within `timeout` seconds. Raises NotPresented.
        """
        ...

    def look(
        self,
        address: IPAddress,
        port: int,
        server_name: str | None,
        *,
        starttls: StartTLS | None = None,
        timeout: float = 10.0,
    ) -> Presented:
        """Shake hands with the server at an address, in `timeout` seconds.

        The address has to be allowed; whether its name is, `addresses` has said. `server_name` is what the server is
        asked for (RFC 6066 section 3), a DNS name; without it, or when it is an address, the server shows its default.
        Raises NotPresented.
        """
        ...
