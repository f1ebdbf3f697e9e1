"""Bodies that never come to their end: each place that reads one gives up in time, and lets go of the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from certbroker.web import http, server
from certbroker.web.server import Listener, bind
from tests.support.memory_broker import DOMAIN, MemoryBroker

pytestmark = pytest.mark.anyio

_TOKEN = "/adfs/oauth2/v2.0/token"
_OWN = "login.example"

# The fewest connections that granian can be told to take.
_CONNECTIONS = 128


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def served(
    tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[tuple[MemoryBroker, int]]:
    """A broker that waits for bodies a short time only, and the port where it is served without TLS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "BODY_SECONDS", 1.0)
        patch.setattr(server, "_BACKLOG", _CONNECTIONS)
        broker = MemoryBroker(tmp_path_factory.mktemp("bodies"))
        listener = Listener(bind("127.0.0.1", 0), broker.site)
        await listener.start()
        async with broker.running():
            yield broker, listener.port
        await listener.stop()


async def _begun(port: int, head: str, body: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a request has begun."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}\r\n\r\n".encode() + body)
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("place", ["token", "administration", "vault"])
async def test_a_body_that_does_not_end_is_answered_with_408_on_a_connection_that_is_closed(
    served: tuple[MemoryBroker, int], place: str, framing: str
) -> None:
    broker, port = served
    if place == "vault":
        host = f"{broker.new_vault()}.{DOMAIN}"
        line, token = "PUT /secrets/s?api-version=7.4", broker.token(("Key Vault Administrator", "/"))
    else:
        host = _OWN
        line = f"POST {_TOKEN}" if place == "token" else "POST /admin/vaults"
        token = broker.token(("Broker Administrator", "/"), audience=broker.hosts.management_audience)
    head = f"{line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{framing}"
    reader, writer = await _begun(port, head, b"5\r\ngrant\r\n")

    async with asyncio.timeout(10):
        answer = (await reader.read()).decode().lower()
    writer.close()

    assert answer.startswith("http/1.1 408")
    assert "connection: close" in answer
    assert "within 1 seconds" in answer


async def test_whoever_begins_as_many_requests_as_there_are_connections_keeps_them_for_a_short_time_only(
    served: tuple[MemoryBroker, int],
) -> None:
    _, port = served
    head = f"POST {_TOKEN} HTTP/1.1\r\nHost: {_OWN}\r\nContent-Length: 100"
    stalled = [await _begun(port, head) for _ in range(_CONNECTIONS + 10)]

    async with asyncio.timeout(20):
        reader, writer = await _begun(port, f"GET /healthz HTTP/1.1\r\nHost: {_OWN}\r\nConnection: close")
        answer = await reader.read()
    for _, each in [*stalled, (reader, writer)]:
        each.close()

    assert answer.startswith(b"HTTP/1.1 200"), answer
