"""A load generator for HTTP/1.1 with keep-alive, with TLS or without, light enough to leave the server a core."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and the headers that every request to it carries. Without a CA to trust it is asked without TLS."""

    host: str
    port: int
    ca: str | None
    headers: dict[str, str] = field(default_factory=dict)

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """One request as bytes on the wire."""
        headers = {"Host": f"{self.host}:{self.port}", "Content-Length": str(len(body)), **self.headers}
        if body:
            headers["Content-Type"] = "application/json"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


class Poller:
    """Asks one question after the other on one connection. A client library would take longer than the server does."""

    def __init__(self, target: Target) -> None:
        context = ssl.create_default_context(cafile=target.ca)
        plain = socket.create_connection(("127.0.0.1", target.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = context.wrap_socket(plain, server_hostname=target.host)
        self._target = target

    def get(self, path: str) -> tuple[int, Any]:
        """Status and body."""
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        """The same of any request."""
        self._connection.sendall(self._target.request(method, path, body))
        buffer = b""
        while (answer := _answer(buffer)) is None:
            received = self._connection.recv(65536)
            if not received:
                raise ConnectionError("the server closed the connection")
            buffer += received
        status, received, _ = answer
        return status, json.loads(received)

    def close(self) -> None:
        self._connection.close()


def _answer(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    """Status and body of the response at the start of the buffer, and what is behind it; None before it is whole."""
    head_end = buffer.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    head = buffer[:head_end].lower()
    mark = head.find(b"content-length:")
    length = int(head[mark + 15 :].split(b"\r\n", 1)[0]) if mark >= 0 else 0
    end = head_end + 4 + length
    if len(buffer) < end:
        return None
    return int(head[9:12]), buffer[head_end + 4 : end], buffer[end:]


@dataclass(slots=True)
class Result:
    """What came back: the seconds it took over all, and each response's status."""

    seconds: float
    statuses: dict[int, int]

    @property
    def per_second(self) -> float:
        return sum(self.statuses.values()) / self.seconds


# Stands for no request yet: the connection pauses, because asking without a pause would take the server its time from
# what is measured.
PAUSE: Final = b""
_PAUSE_SECONDS: Final = 0.005


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the last one has been answered."""

    def __init__(self, requests: Iterator[bytes], result: Result, bodies: list[bytes] | None) -> None:
        self._requests = requests
        self._result = result
        self._bodies = bodies
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own does not inherit from it.

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        answer = _answer(self._buffer)
        if answer is None:
            return
        status, body, self._buffer = answer
        self._result.statuses[status] = self._result.statuses.get(status, 0) + 1
        if self._bodies is not None:
            self._bodies.append(body)
        self.next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed the connection"))

    def next(self) -> None:
        """Send the next request, or finish."""
        assert self._transport is not None
        request = next(self._requests, None)
        if request == PAUSE:
            asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self.next)
        elif request is not None:
            self._transport.write(request)
        elif not self.done.done():
            self.done.set_result(None)
            self._transport.close()


async def drive(
    target: Target, requests: Iterator[bytes], connections: int, *, bodies: list[bytes] | None = None
) -> Result:
    """Send the requests over this many connections; connecting is not timed.

    The next request is taken when the last one has been answered, and what it was answered is in `bodies`.
    """
    context = None if target.ca is None else ssl.create_default_context(cafile=target.ca)
    loop = asyncio.get_running_loop()
    result = Result(0.0, {})
    opened = [
        await loop.create_connection(
            lambda: _Connection(requests, result, bodies),
            "127.0.0.1",
            target.port,
            ssl=context,
            server_hostname=None if context is None else target.host,
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
