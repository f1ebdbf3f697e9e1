"""Answers tls-alpn-01 challenges (RFC 8737) on a listener of its own: a handshake with the protocol `acme-tls/1`, and
the connection is closed. Everything else is refused.

The standard library's TLS takes certificates from files and cannot refuse a protocol, so this is pyOpenSSL, fed by
asyncio: connections wait on the event loop, and each step of a handshake is taken on a thread.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from issuers.acme.tls_alpn import PROTOCOL, validated_place

# A CA comes from five places or so at once, and for as many names as an order has.
_MAX_CONNECTIONS: Final = 512
_SECONDS: Final = 10.0
_PAUSE: Final = 0.1
_CHUNK: Final = 4096
# Two hellos of a client with post-quantum key shares are 4 KiB.
_MAX_RECEIVED: Final = 32 * 1024

_log = structlog.get_logger("certbroker.challenges")

Prepared = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]
Prepare = Callable[[str], Prepared | None]
"""Makes the certificate for a DNS name or address; None where no answer has been put up."""


class _Refused(Exception):
    """The client wants something else than a validation."""


class ValidationListener:
    """One socket that shows validation certificates."""

    def __init__(self, listening: socket.socket, prepare: Prepare) -> None:
        self._listening = listening
        self._prepare = prepare
        # One thread: pyOpenSSL keeps what a callback raised in the context, where another thread would find it.
        self._thread = ThreadPoolExecutor(1, "tls-alpn-01")
        self._stopping = False
        self._open: set[asyncio.Task[None]] = set()
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.set_min_proto_version(SSL.TLS1_2_VERSION)
        # A CA wants a handshake of its own each time, so there is nothing to resume.
        self._context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        self._context.set_options(SSL.OP_NO_TICKET)
        self._context.set_tlsext_servername_callback(self._show)
        self._context.set_alpn_select_callback(_select)

    async def start(self) -> None:
        self._resume(asyncio.get_running_loop())

    async def stop(self) -> None:
        """Close the socket and every connection: the CA comes again, to another replica or after the restart."""
        self._stopping = True
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        await asyncio.sleep(0)  # What was accepted just now begins, and so will close its connection.
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _resume(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._stopping:
            loop.add_reader(self._listening, self._accept, loop)

    def _accept(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            client, _ = self._listening.accept()
        except (BlockingIOError, ConnectionError):
            return  # The client has gone before it was taken.
        except OSError:
            # There are too many open files: without a pause the loop would do nothing but try again.
            loop.remove_reader(self._listening)
            loop.call_later(_PAUSE, self._resume, loop)
            return
        if len(self._open) >= _MAX_CONNECTIONS:
            client.close()
            return
        client.setblocking(False)
        task = loop.create_task(self._serve(client))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                async with asyncio.timeout(_SECONDS):
                    await self._validate(client)
            except (TimeoutError, OSError):
                pass  # The client was slow, or has gone.

    async def _validate(self, client: socket.socket) -> None:
        """One handshake, to its end or to the alert that refuses it."""
        loop = asyncio.get_running_loop()
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        received = bytearray()
        connection.set_app_data(received)
        more = True
        while more and len(received) <= _MAX_RECEIVED:
            data = await loop.sock_recv(client, _CHUNK)
            if not data:
                return
            received += data
            connection.bio_write(data)
            more = await loop.run_in_executor(self._thread, _step, connection)
            await loop.sock_sendall(client, _outgoing(connection))

    def _show(self, connection: SSL.Connection) -> None:
        """Called within a handshake, once the server name is known: without a certificate it fails."""
        # OpenSSL asks about the protocols that are offered, but not when there are none. They stand in the hello in
        # clear.
        if PROTOCOL not in connection.get_app_data():
            return
        name = connection.get_servername()
        try:
            place = None if name is None else validated_place(name.decode("ascii"))
            prepared = None if place is None else self._prepare(place)
        except UnicodeDecodeError:
            return
        except Exception:
            _log.exception("a tls-alpn-01 answer could not be prepared")
            return
        if prepared is not None:
            certificate, key = prepared
            connection.use_certificate(certificate)
            connection.use_privatekey(key)


def _select(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    if PROTOCOL not in offered:
        raise _Refused
    return PROTOCOL


def _step(connection: SSL.Connection) -> bool:
    """Go on with what has been received; whether more is needed."""
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return True
    except (SSL.Error, _Refused):
        return False
    connection.shutdown()
    return False


def _outgoing(connection: SSL.Connection) -> bytes:
    """What OpenSSL has for the client."""
    found = bytearray()
    while True:
        try:
            found += connection.bio_read(_CHUNK)
        except SSL.WantReadError:
            return bytes(found)
