"""The broker's listener for tls-alpn-01, on an event loop of its own, and clients of it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from cryptography import x509

from certbroker.web.server import bind
from certbroker.web.tls_alpn import ValidationListener
from issuers.acme.tls_alpn import validation_certificate


@contextmanager
def validating(answer: Callable[[str], str | None], port: int = 0) -> Iterator[int]:
    """Serve the key authorizations that `answer` has for names and addresses; the port."""
    listening = bind("127.0.0.1", port)
    port = listening.getsockname()[1]
    started, ended = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    def prepare(place: str):  # type: ignore[no-untyped-def]  # what the listener takes
        found = answer(place)
        return None if found is None else validation_certificate(place, found, datetime.now(UTC))

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        listener = ValidationListener(listening, prepare)
        await listener.start()
        started.set()
        await ended.wait()
        await listener.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    try:
        yield port
    finally:
        loops[0].call_soon_threadsafe(ended.set)
        thread.join()


def shake_hands(
    port: int,
    name: str | None,
    protocols: Sequence[str] = ("acme-tls/1",),
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> tuple[x509.Certificate, str | None, bytes]:
    """The certificate, the protocol, and what the server sends after the handshake. Raises OSError when refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if protocols:
        context.set_alpn_protocols([*protocols])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der), tls.selected_alpn_protocol(), tls.recv(1)
