"""A load generator for HTTP/1.1 over TLS with keep-alive, light enough to leave the server a core of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and the headers that every request to it carries. `address` is where it listens."""

    host: str
    port: int
    ca: str
    headers: dict[str, str] = field(default_factory=dict)

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """One request as bytes on the wire."""
        headers = {"Host": f"{self.host}:{self.port}", "Content-Length": str(len(body)), **self.headers}
        if body:
            headers["Content-Type"] = "application/json"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


class Poller:
    """Asks one question after the other on one connection."""

    def __init__(self, target: Target) -> None:
        context = ssl.create_default_context(cafile=target.ca)
        self._connection = http.client.HTTPSConnection(target.host, target.port, context=context)
        self._headers = target.headers

    def get(self, path: str) -> tuple[int, Any]:
        """Status and body."""
        self._connection.request("GET", path, headers=self._headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def close(self) -> None:
        self._connection.close()


@dataclass(slots=True)
class Result:
    """What came back: the seconds it took over all, and each response's status."""

    seconds: float
    statuses: dict[int, int]
    bodies: list[bytes]

    @property
    def per_second(self) -> float:
        return sum(self.statuses.values()) / self.seconds


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the last one has been answered."""

    def __init__(self, requests: Iterator[bytes], result: Result, *, keep_bodies: bool) -> None:
        self._requests = requests
        self._result = result
        self._keep_bodies = keep_bodies
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own does not inherit from it.

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        mark = head.find(b"content-length:")
        length = int(head[mark + 15 :].split(b"\r\n", 1)[0]) if mark >= 0 else 0
        end = head_end + 4 + length
        if len(self._buffer) < end:
            return
        status = int(head[9:12])
        self._result.statuses[status] = self._result.statuses.get(status, 0) + 1
        if self._keep_bodies:
            self._result.bodies.append(self._buffer[head_end + 4 : end])
        self._buffer = self._buffer[end:]
        self.next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed the connection"))

    def next(self) -> None:
        """Send the next request, or finish."""
        assert self._transport is not None
        request = next(self._requests, None)
        if request is not None:
            self._transport.write(request)
        elif not self.done.done():
            self.done.set_result(None)
            self._transport.close()


async def drive(target: Target, requests: Iterator[bytes], connections: int, *, keep_bodies: bool = False) -> Result:
    """Send the requests over this many connections; connecting is not timed."""
    context = ssl.create_default_context(cafile=target.ca)
    loop = asyncio.get_running_loop()
    result = Result(0.0, {}, [])
    opened = [
        await loop.create_connection(
            lambda: _Connection(requests, result, keep_bodies=keep_bodies),
            "127.0.0.1",
            target.port,
            ssl=context,
            server_hostname=target.host,
        )
        for _ in range(connections)
    ]
    started = time.perf_counter()
    for _, protocol in opened:
        protocol.next()
    await asyncio.gather(*(protocol.done for _, protocol in opened))
    result.seconds = time.perf_counter() - started
    return result


def for_seconds(request: bytes, seconds: float) -> Iterator[bytes]:
    """The same request again and again for so long."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        yield request
