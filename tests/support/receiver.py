"""A webhook's receiver on loopback, over HTTPS: agrees to be told, takes what comes, and answers as it is told to."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.certificates import Authority, pem


@dataclass(frozen=True)
class Posted:
    """A request. Header names are in lower case."""

    method: str
    headers: dict[str, str]
    body: bytes
    path: str = ""

    @property
    def event(self) -> Any:
        """The event in it, of which Event Grid's schema has a list."""
        found = json.loads(self.body)
        return found[0] if isinstance(found, list) else found


@dataclass(frozen=True)
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def agree(request: Posted) -> Answer:
    """What a receiver does that knows both handshakes, and takes everything."""
    if request.method == "OPTIONS":
        return Answer(200, {"WebHook-Allowed-Origin": "*"})
    if request.headers.get("aeg-event-type") == "SubscriptionValidation":
        code = request.event["data"]["validationCode"]
        return Answer(200, {"Content-Type": "application/json"}, json.dumps({"validationResponse": code}).encode())
    return Answer()


class Receiver:
    """The receiver, from construction to `close`. `answer` may be replaced at any time."""

    def __init__(self, folder: Path, answer: Callable[[Posted], Answer] = agree) -> None:
        self.requests: list[Posted] = []
        self.answer = answer
        authority = Authority("Receiver CA")
        identity = authority.issue("localhost")
        self.trust = folder / "receiver-ca.pem"
        self.trust.write_text(pem(authority.certificate))
        chain = folder / "receiver.pem"
        chain.write_text(identity.pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_POST(self) -> None:
                self._answer()

            def do_OPTIONS(self) -> None:
                self._answer()

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Posted(self.command, headers, body, self.path)
                receiver.requests.append(request)
                answer = receiver.answer(request)
                self.send_response(answer.status)
                for name, value in (answer.headers | {"Content-Length": str(len(answer.body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, form: str, *values: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> tuple[Any, Any]:
                connection, address = super().get_request()
                connection.settimeout(10)
                return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that went away is no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"https://localhost:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def events(self) -> list[Posted]:
        """What was delivered: no handshakes."""
        return [
            each
            for each in self.requests
            if each.method == "POST" and each.headers.get("aeg-event-type") != "SubscriptionValidation"
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
