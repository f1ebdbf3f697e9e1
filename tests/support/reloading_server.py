"""A TLS server in a process of its own that loads its certificate when it starts and on SIGHUP, as servers do.

Run as a module, with the directory that has fullchain.pem and privkey.pem, and a file for its port and process id.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import sys
import threading
from pathlib import Path


def _main(directory: Path, note: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def load(*_: object) -> None:
        context.load_cert_chain(directory / "fullchain.pem", directory / "privkey.pem")

    load()
    signal.signal(signal.SIGHUP, load)
    listening = socket.create_server(("127.0.0.1", 0))
    whole = note.with_suffix(".new")
    whole.write_text(f"{listening.getsockname()[1]} {os.getpid()}")
    whole.rename(note)
    while True:
        connection, _ = listening.accept()
        threading.Thread(target=_serve, args=(context, connection), daemon=True).start()


def _serve(context: ssl.SSLContext, connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(10)
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
