"""A server on this machine that does with each connection what a script says; among them, TLS with certificates."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.certificates import Identity

Script = Callable[[socket.socket], None]


class Server:
    """Listens from its making until it is closed. The script may be replaced at any time."""

    def __init__(self, script: Script, address: str = "127.0.0.1", port: int = 0) -> None:
        self.script = script
        self.connections = 0
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listening = socket.create_server((address, port), family=family)
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # Wakes the thread that waits in accept().
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            self.script(connection)


def context_of(pem: str) -> ssl.SSLContext:
    """What serves the certificate and chain with the key that the text has."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "all.pem"
        file.write_text(pem)
        context.load_cert_chain(file)
    return context


def shaking(context: ssl.SSLContext) -> Script:
    """Shakes hands, and waits for the other side to leave."""

    def script(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1)

    return script


def serving(identity: Identity) -> Script:
    """Shakes hands with that certificate and its chain."""
    return shaking(context_of(identity.pem()))


def says(data: bytes) -> Script:
    """Waits for a hello, so that closing resets nothing, and says something that is no TLS."""

    def script(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(data)

    return script
