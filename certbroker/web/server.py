"""Listening: granian in this process, with certificates that can be swapped while it serves.

A listener owns its socket, so that its port is known before anything is served and survives a swap. For a swap a second
granian server with the new certificate starts on the same socket; the old one marks its responses as the last on their
connections, waits until those have gone, and stops. No request is refused meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any, Final

import structlog
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from certbroker.web.http import MAX_HEADERS
from certbroker.web.served_certificate import Certificate, private_copy

_BACKLOG: Final = 1024
_DRAIN_SECONDS: Final = 5
_log = structlog.get_logger("certbroker.server")


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit it. Without it a response in two parts waits 40 ms for the client's delayed ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.bind((host, port))
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    return listening


class _Server(Server):
    """granian on a socket that is ours. It offers no public way to hand one over.

    Nor for what is read already: its TLS opens files by name, at a moment of its own choice.
    """

    def __init__(self, listening: socket.socket, certificate: Certificate | None, **settings: Any) -> None:
        super().__init__(**settings)
        self._descriptor = os.dup(listening.fileno())
        self._copies = () if certificate is None else (private_copy(certificate.chain), private_copy(certificate.key))
        if self._copies:
            chain, key = (f"/dev/fd/{copy.fileno()}" for copy in self._copies)
            # rustls offers forward secrecy only: ECDHE suites in TLS 1.2 and those of TLS 1.3.
            tls: Any = (True, chain, key, None, str(SSLProtocols.tls12), None, [], False)
            self.ssl_ctx = tls

    def close(self) -> None:
        """Let go of what it was served with, once it has ended."""
        for copy in self._copies:
            copy.close()

    def _init_shared_socket(self) -> None:
        self._shd = SocketHolder(self._descriptor, False, _BACKLOG)  # type: ignore[call-arg, assignment]  # stubs lag behind
        self._ssp = None


class _Draining:
    """The application, which can be told to let go of its connections."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, _closing(send) if self.draining else send)


def _closing(send: Send) -> Send:
    """`send`, with a note in the response that it is the last on its connection."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return closing


class Listener:
    """One socket with what serves it."""

    def __init__(self, listening: socket.socket, application: ASGIApp, certificate: Certificate | None = None) -> None:
        self._listening = listening
        self._application = application
        self._certificate = certificate
        self._serving: tuple[_Server, _Draining, asyncio.Task[None]] | None = None
        self._swapping = asyncio.Lock()

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    async def start(self) -> None:
        """Serve."""
        self._serving = self._serve(self._certificate)
        await asyncio.sleep(0)

    async def swap(self, certificate: Certificate) -> None:
        """Serve with another certificate from now on."""
        async with self._swapping:
            old, self._serving = self._serving, self._serve(certificate)
            if old is not None:
                await _retire(*old)
                _log.info("server certificate swapped", port=self.port)

    async def stop(self) -> None:
        """Let requests in flight finish, then stop."""
        self._listening.close()
        if self._serving is not None:
            await _retire(*self._serving, patience=0.0)

    def _serve(self, certificate: Certificate | None) -> tuple[_Server, _Draining, asyncio.Task[None]]:
        application = _Draining(self._application)
        server = _Server(
            self._listening,
            certificate,
            target=application,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=30_000, max_buffer_size=max(8192, 2 * MAX_HEADERS)),
            websockets=False,
            backlog=_BACKLOG,
            log_enabled=False,
        )
        return server, application, asyncio.get_running_loop().create_task(server.serve())


async def _retire(
    server: _Server, application: _Draining, task: asyncio.Task[None], patience: float = _DRAIN_SECONDS
) -> None:
    application.draining = True
    await asyncio.sleep(patience)
    server.stop()  # type: ignore[no-untyped-call]  # granian leaves it untyped
    await task
    server.close()
