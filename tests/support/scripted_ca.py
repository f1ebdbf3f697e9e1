"""A CA over real HTTP that does ACME as far as a client can tell, and then whatever a test wants to see survived.

It checks no signature. Its faults stand for what real CAs, proxies and attackers between do: each is a function that
gets the exchange and the proper answer, and sends what it likes.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import itertools
import json
import socket
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

PROBLEM = "application/problem+json"
CHAIN = "application/pem-certificate-chain"


class Exchange:
    """One request, and the means to answer it. `proper` is what the CA would answer, after having acted."""

    def __init__(self, handler: http.server.BaseHTTPRequestHandler, proper: tuple[int, dict[str, str], bytes]) -> None:
        self._handler = handler
        self.proper = proper

    def send(self, status: int, body: bytes = b"", content_type: str = "application/json", **headers: str) -> None:
        """Answer with a nonce, and `retry_after` as Retry-After."""
        handler = self._handler
        handler.send_response(status)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Replay-Nonce", "bm9uY2U")
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        self.write(body)

    def problem(self, status: int, kind: str, detail: str = "because", **headers: str) -> None:
        body = json.dumps({"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail}).encode()
        self.send(status, body, PROBLEM, **headers)

    def proceed(self, **changes: Any) -> None:
        """The proper answer, with fields of its JSON changed."""
        status, headers, body = self.proper
        if changes:
            body = json.dumps(json.loads(body) | changes).encode()
        media_type = headers.pop("content_type", "application/json")
        self.send(status, body, media_type, **headers)

    def raw(self, data: bytes) -> None:
        """Bytes on the wire, and the end of the connection."""
        self.write(data)
        self.drop()

    def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # The client may have had enough.
            self._handler.wfile.write(data)
            self._handler.wfile.flush()

    def drop(self) -> None:
        self._handler.close_connection = True
        with contextlib.suppress(OSError):
            self._handler.connection.shutdown(socket.SHUT_RDWR)


Fault = Callable[[Exchange], None]


class ScriptedCA:
    """The CA. A context manager.

    Routes, for `fault` and `hits`: directory, nonce, account, new-order, order, orders, authorization, challenge,
    finalize, certificate, revoke, renewal-info.

    reuse_orders    give a pending or ready order again to whoever orders the same names
    list_orders     let accounts list their orders
    renewal_info    offer RFC 9773: one window for all certificates, and one order that replaces a certificate
    """

    def __init__(self, *, reuse_orders: bool = False, list_orders: bool = False, renewal_info: bool = False) -> None:
        self.reuse_orders = reuse_orders
        self.list_orders = list_orders
        self.renewal_info = renewal_info
        self.window = {"start": "2026-06-01T00:00:00Z", "end": "2026-06-02T00:00:00Z"}
        self.ordered: list[dict[str, Any]] = []
        """What came to new-order."""
        self.hits: Counter[str] = Counter()
        self.issued: list[x509.Certificate] = []
        self.make_leaf: Callable[[x509.CertificateSigningRequest, list[str]], bytes] = self._leaf
        self._faults: dict[str, list[tuple[Fault, bool]]] = defaultdict(list)
        self._orders: dict[str, dict[str, Any]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._key = ec.generate_private_key(ec.SECP256R1())
        ca = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # Header and body are written apart: 40 ms each else.

            def do_GET(self) -> None:
                ca._serve(self)

            def do_HEAD(self) -> None:
                ca._serve(self)

            def do_POST(self) -> None:
                ca._serve(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it.
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.directory_url = f"{self.url}/directory"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def fault(self, route: str, fault: Fault, times: int = 1, *, acts: bool = True) -> None:
        """Let `fault` answer the next requests for the route; the CA does what they ask for only if it `acts`."""
        self._faults[route] += [(fault, acts)] * times

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("content-length", 0))
        sent = json.loads(handler.rfile.read(length)) if length else {}
        payload = sent.get("payload", "")
        decoded = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        route, _, number = handler.path.strip("/").partition("/")
        with self._lock:
            self.hits[route] += 1
            faults = self._faults[route]
            fault, acts = faults.pop(0) if faults else (Exchange.proceed, True)
            proper = self._answer(route, number, json.loads(decoded) if decoded else None) if acts else (200, {}, b"")
        fault(Exchange(handler, proper))

    def _answer(self, route: str, number: str, payload: Any) -> tuple[int, dict[str, str], bytes]:
        match route:
            case "directory":
                names = {"newNonce": "nonce", "newAccount": "account", "newOrder": "new-order", "revokeCert": "revoke"}
                names |= {"renewalInfo": "renewal-info"} if self.renewal_info else {}
                return self._json(200, {key: f"{self.url}/{path}" for key, path in names.items()})
            case "nonce" | "revoke":
                return 200, {}, b""
            case "account":
                orders = {"orders": f"{self.url}/orders"} if self.list_orders else {}
                return self._json(201, {"status": "valid"} | orders, location=f"{self.url}/account/1")
            case "orders":
                return self._json(200, {"orders": [f"{self.url}/order/{number}" for number in self._orders]})
            case "renewal-info":
                return self._json(200, {"suggestedWindow": self.window})
            case "new-order":
                self.ordered.append(payload)
                if any(payload.get("replaces", "") == order.get("replaces") for order in self._orders.values()):
                    body = {"type": "urn:ietf:params:acme:error:alreadyReplaced", "detail": "there is an order"}
                    return 409, {"content_type": PROBLEM}, json.dumps(body).encode()
                number = self._new_order(payload)
                return self._json(201, self._shown(number), location=f"{self.url}/order/{number}")
            case "order" if number in self._orders:
                return self._json(200, self._shown(number))
            case "authorization" if number in self._orders:
                return self._json(200, self._authorization(number))
            case "challenge" if number in self._orders:
                if self._orders[number]["status"] == "pending":
                    self._orders[number]["status"] = "ready"
                return self._json(200, self._authorization(number)["challenges"][0])
            case "finalize" if number in self._orders:
                return self._finalize(number, payload)
            case "certificate" if number in self._orders:
                return 200, {"content_type": CHAIN}, self._orders[number]["chain"]
        return (
            404,
            {"content_type": PROBLEM},
            b'{"type": "urn:ietf:params:acme:error:malformed", "detail": "no such thing"}',
        )

    def _new_order(self, payload: dict[str, Any]) -> str:
        identifiers = payload["identifiers"]
        for number, order in self._orders.items():
            if self.reuse_orders and order["status"] in ("pending", "ready") and order["identifiers"] == identifiers:
                return number
        number = str(next(self._numbers))
        self._orders[number] = {"status": "pending", **payload}
        return number

    def _finalize(self, number: str, payload: Any) -> tuple[int, dict[str, str], bytes]:
        order = self._orders[number]
        if order["status"] != "ready":
            body = {"type": "urn:ietf:params:acme:error:orderNotReady", "detail": order["status"]}
            return 403, {"content_type": PROBLEM}, json.dumps(body).encode()
        encoded = payload["csr"]
        csr = x509.load_der_x509_csr(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        order["chain"] = self.make_leaf(csr, [identifier["value"] for identifier in order["identifiers"]])
        order["status"] = "valid"
        return self._json(200, self._shown(number))

    def _shown(self, number: str) -> dict[str, Any]:
        order = self._orders[number]
        shown = {
            "status": order["status"],
            "identifiers": order["identifiers"],
            "authorizations": [f"{self.url}/authorization/{number}"],
            "finalize": f"{self.url}/finalize/{number}",
        }
        shown |= {"replaces": order["replaces"]} if "replaces" in order else {}
        return shown | ({"certificate": f"{self.url}/certificate/{number}"} if order["status"] == "valid" else {})

    def _authorization(self, number: str) -> dict[str, Any]:
        order = self._orders[number]
        status = "pending" if order["status"] == "pending" else "valid"
        challenge = {"type": "http-01", "url": f"{self.url}/challenge/{number}", "status": status, "token": "t" * 32}
        return {"status": status, "identifier": order["identifiers"][0], "challenges": [challenge]}

    def _json(self, status: int, value: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return status, headers, json.dumps(value).encode()

    def _leaf(self, csr: x509.CertificateSigningRequest, names: list[str]) -> bytes:
        return self.leaf_for(csr.public_key(), names)

    def leaf_for(self, key: Any, names: list[str]) -> bytes:
        """A certificate in PEM, signed by the CA, for any key and names."""
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Scripted CA")]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=90))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.issued.append(certificate)
        return certificate.public_bytes(Encoding.PEM)


def dropped(exchange: Exchange) -> None:
    """The connection is closed without an answer."""
    exchange.drop()


def server_error(exchange: Exchange) -> None:
    """Something went wrong inside the CA."""
    exchange.problem(500, "serverInternal")
