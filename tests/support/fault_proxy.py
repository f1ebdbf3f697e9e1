"""An HTTPS reverse proxy in front of a real Pebble, which does to single requests what a test tells it.

    with FaultProxy(tmp_path, pebble) as proxy:
        proxy.directory_url                       # what an issuer is configured with; trust `proxy.ca_path`
        proxy.script("finalize", lose_reply)      # the next finalize takes effect at the CA, and nobody hears of it
        proxy.script("newOrder", fault, nth=2, times=3)
        proxy.reached("finalize")                 # how many of them the CA has accepted
        proxy.stop()                              # connections are refused until `start`

Pebble builds its URLs, and checks those in signatures, by the Host header. It is passed on, so everything that follows
the directory goes through the proxy, and nothing has to be rewritten. What faults there are is in `ca_faults`.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from pebble.launcher import Pebble
from pebble.loopback import HOST, LoopbackHTTP, free_ports
from pebble.tls import write_endpoint_certificate

# The first part of Pebble's paths, for those that the directory does not name.
_RESOURCES = {
    "dir": "directory",
    "my-order": "order",
    "authZ": "authz",
    "chalZ": "challenge",
    "finalize-order": "finalize",
    "certZ": "certificate",
    "my-account": "account",
    "list-orderz": "orders",
}
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Reply:
    """An answer: the CA's, or what is made of it."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def without(self, *names: str) -> Reply:
        """The same without these headers."""
        unwanted = {name.lower() for name in names}
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0].lower() not in unwanted))

    def having(self, **headers: str) -> Reply:
        """The same with these headers instead of its own; an underscore stands for a hyphen."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self.without(*named), headers=(*self.without(*named).headers, *named.items()))

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def changed(self, **fields: Any) -> Reply:
        """The same with other fields in its JSON."""
        return replace(self, body=json.dumps(self.json() | fields).encode())

    def encoded(self) -> bytes:
        """As HTTP/1.1."""
        lines = [f"HTTP/1.1 {self.status} {http.client.responses.get(self.status, 'Something')}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"Content-Length: {len(self.body)}", "", ""]
        return "\r\n".join(lines).encode("latin-1") + self.body


@dataclass
class Passed:
    """One request as it went. `reached` is the CA's status, None while it has not seen the request."""

    endpoint: str
    path: str
    reached: int | None = None
    answered: int | None = None


class Exchange:
    """One request, and the means to answer it."""

    def __init__(self, handler: _Handler, endpoint: str, passed: Passed, body: bytes) -> None:
        self._handler = handler
        self.endpoint = endpoint
        self.body = body
        self.passed = passed

    @property
    def payload(self) -> Any:
        """What was signed."""
        encoded = json.loads(self.body)["payload"]
        return json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)) or b"null")

    def forward(self) -> Reply:
        """Let the CA act, and return what it answers."""
        reply = self._handler.ask(self.body)
        self.passed.reached = reply.status
        return reply

    def send(self, reply: Reply) -> None:
        self.passed.answered = reply.status
        body = b"" if self._handler.command == "HEAD" else reply.body
        self.write(replace(reply, body=body).encoded())

    def write(self, data: bytes) -> bool:
        """Bytes as they are; False when the client has had enough."""
        try:
            self._handler.wfile.write(data)
        except OSError:
            return False
        return True

    def drop(self) -> None:
        """Cut the connection."""
        self._handler.close_connection = True
        with contextlib.suppress(OSError):
            self._handler.connection.shutdown(socket.SHUT_RDWR)


Fault = Callable[[Exchange], None]


def proceed(exchange: Exchange) -> None:
    """What happens when nothing is scripted."""
    exchange.send(exchange.forward())


@dataclass
class _Script:
    fault: Fault
    ahead: int
    times: float


class FaultProxy:
    """A context manager, or `start` and `stop`, which may be repeated: the port and the certificate stay.

    Endpoints: directory, newNonce, newAccount, newOrder, revokeCert, keyChange and renewalInfo, by the names in the
    directory; order, authz, challenge, finalize, certificate, account and orders.
    """

    def __init__(self, folder: Path, pebble: Pebble) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca_path, certificate, key = write_endpoint_certificate(folder)
        self.port = free_ports(1)[0]
        self.url = f"https://{HOST}:{self.port}"
        self.directory_url = f"{self.url}/dir"
        self.log: list[Passed] = []
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)
        self._upstream = ssl.create_default_context(cafile=str(pebble.ca_path))
        self._pebble = pebble
        self._scripts: dict[str, list[_Script]] = {}
        self._endpoints: dict[str, str] = {}
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def script(self, endpoint: str, fault: Fault, *, nth: int = 1, times: float = 1) -> None:
        """Let `fault` answer the `nth` request for the endpoint from now on, and those after it, so many in all.

        Scripts for one endpoint take turns: the first that has reached its number and is not used up.
        """
        assert endpoint in (*_RESOURCES.values(), *self._endpoints.values()), endpoint
        with self._lock:
            self._scripts.setdefault(endpoint, []).append(_Script(fault, nth - 1, times))

    def reset(self) -> None:
        """Forget scripts and the log."""
        with self._lock:
            self._scripts.clear()
            self.log.clear()

    def count(self, endpoint: str) -> int:
        """How many requests there were for the endpoint."""
        with self._lock:
            return sum(passed.endpoint == endpoint for passed in self.log)

    def reached(self, endpoint: str) -> int:
        """How many of them the CA has accepted."""
        with self._lock:
            mine = [passed for passed in self.log if passed.endpoint == endpoint]
        return sum(passed.reached is not None and passed.reached < 300 for passed in mine)

    def certificates(self) -> set[str]:
        """The serial numbers of those that were downloaded, in hexadecimal."""
        paths = [passed.path for passed in self.log if passed.endpoint == "certificate" and passed.reached == 200]
        return {path.rpartition("/")[2].lstrip("0") for path in paths}

    def unused(self) -> list[str]:
        """The endpoints for which faults are left that were to happen a certain number of times."""
        return [
            endpoint
            for endpoint, scripts in self._scripts.items()
            if any(script.ahead or 0 < script.times < float("inf") for script in scripts)
        ]

    def start(self) -> Self:
        if self._server is None:
            self._endpoints = self._named_in_the_directory()
            self._server = _Server(self)
            self._server.start()
        return self

    def stop(self) -> None:
        """Be gone: connections are cut, and new ones refused."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def connect(self) -> http.client.HTTPSConnection:
        """A connection to Pebble."""
        return http.client.HTTPSConnection(HOST, self._pebble.port, context=self._upstream, timeout=20)

    def _named_in_the_directory(self) -> dict[str, str]:
        directory = json.loads(LoopbackHTTP(self._pebble.port, self._upstream).get("/dir") or b"{}")
        return {urlsplit(url).path: name for name, url in directory.items() if isinstance(url, str)}

    def _serve(self, handler: _Handler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        path = urlsplit(handler.path).path
        endpoint = self._endpoint(path)
        passed = Passed(endpoint, path)
        with self._lock:
            self.log.append(passed)
            fault = self._fault(endpoint)
        fault(Exchange(handler, endpoint, passed, body))

    def _endpoint(self, path: str) -> str:
        for known, endpoint in self._endpoints.items():
            if path == known or path.startswith(f"{known}/"):
                return endpoint
        return _RESOURCES.get(path.split("/")[1], "unknown")

    def _fault(self, endpoint: str) -> Fault:
        chosen: Fault | None = None
        for script in self._scripts.get(endpoint, []):
            if script.ahead:
                script.ahead -= 1
            elif chosen is None and script.times > 0:
                script.times -= 1
                chosen = script.fault
        return chosen or proceed


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection of a client, with one of its own to Pebble."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._ca: http.client.HTTPSConnection | None = None

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        if self._ca is not None:
            self._ca.close()

    def handle(self) -> None:
        # A client that goes away, or does not like our certificate, is part of the game.
        with contextlib.suppress(OSError):
            super().handle()

    def do_GET(self) -> None:
        self.server.proxy._serve(self)

    do_HEAD = do_POST = do_GET  # noqa: N815 - the base class calls by these names.

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it.
        pass

    def ask(self, body: bytes) -> Reply:
        """Pebble's answer to this request. A connection that it has closed meanwhile is opened anew."""
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        for _ in range(2):
            if self._ca is None:
                self._ca = self.server.proxy.connect()
            try:
                self._ca.request(self.command, self.path, body or None, headers)
                answer = self._ca.getresponse()
                content = answer.read()
            except (http.client.HTTPException, OSError):
                self._ca.close()
                self._ca = None
                continue
            kept = tuple(pair for pair in answer.getheaders() if pair[0].lower() not in _HOP_BY_HOP)
            return Reply(answer.status, kept, content)
        raise ConnectionError("Pebble does not answer")


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self._connections: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__((HOST, proxy.port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()
        with self._guard:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        # The handshake waits for the client, so it is made by the connection's own thread at its first read.
        wrapped = self.proxy._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._guard:
            self._connections.add(wrapped)
        return wrapped, address

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._connections.discard(request)
        super().shutdown_request(request)
