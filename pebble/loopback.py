"""HTTP to servers on this machine, and ports for them.

The standard library's client on purpose: what watches or times certbroker's own HTTP client sees none of this.
"""

import json
import random
import socket
import ssl
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from typing import Any

HOST = "127.0.0.1"

# Below the range that Linux and macOS take ports of outgoing connections from: a port that was free stays free.
_PORTS = range(20000, 32000)


class LoopbackError(Exception):
    """The server on this machine answered with an error."""


@dataclass(frozen=True)
class LoopbackHTTP:
    """One server. A new connection for each request: these calls are few, and the server may restart between."""

    port: int
    tls: ssl.SSLContext | None = None

    def get(self, path: str) -> bytes | None:
        """The body, or None for a 404."""
        return self._request("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> bytes:
        """The body of the reply."""
        reply = self._request("POST", path, json.dumps(body).encode())
        if reply is None:
            raise LoopbackError(f"POST {path}: 404")
        return reply

    def _request(self, method: str, path: str, body: bytes | None) -> bytes | None:
        connection = (
            HTTPSConnection(HOST, self.port, context=self.tls, timeout=10)
            if self.tls
            else HTTPConnection(HOST, self.port, timeout=10)
        )
        try:
            # Pebble refuses requests without a User-Agent.
            headers = {"Content-Type": "application/json", "User-Agent": "certbroker-tests"}
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            content = reply.read()
        finally:
            connection.close()
        if reply.status == 404:
            return None
        if reply.status >= 400:
            raise LoopbackError(f"{method} {path}: {reply.status} {content.decode(errors='replace')}")
        return content


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody holds now, for TCP and UDP."""
    chosen: list[int] = []
    with ExitStack() as held:
        for port in random.sample(_PORTS, len(_PORTS)):
            if len(chosen) == count:
                break
            if _hold(port, held):
                chosen.append(port)
    if len(chosen) < count:
        raise LoopbackError(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop}")
    return chosen


def _hold(port: int, held: ExitStack) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            held.enter_context(socket.socket(socket.AF_INET, kind)).bind((HOST, port))
        except OSError:
            return False
    return True
