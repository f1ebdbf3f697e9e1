"""A DNS provider with an HTTP API in the form of PowerDNS's, over an `AuthoritativeServer`. It can hang or refuse."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any, Literal, Self

from tests.support.dns_server import AuthoritativeServer

Mood = Literal["serve", "hang", "refuse"]


class DNSAPI:
    """The API. A context manager. A refusal quotes the request, with the token in it."""

    def __init__(self, dns: AuthoritativeServer, token: str) -> None:
        self.mood: Mood = "serve"
        self.changes = 0
        self._released = threading.Event()
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                zone = self.path.rpartition("/")[2]
                sets = [
                    {"name": name, "type": "TXT", "ttl": 60, "records": [{"content": f'"{each}"', "disabled": False}]}
                    for name, values in dns.records().items()
                    for each in sorted(values)
                ]
                self._answer({"name": zone, "kind": "Native", "rrsets": _joined(sets)})

            def do_PATCH(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                for change in body["rrsets"]:
                    dns.replace(change["name"], [record["content"].strip('"') for record in change["records"]])
                    api.changes += 1
                self._answer({})

            def _answer(self, body: dict[str, Any]) -> None:
                status = 200
                if api.mood == "hang":
                    api._released.wait(30)
                if api.mood == "refuse" or self.headers["x-api-key"] != token:
                    status, body = 401, {"error": f"{self.headers['x-api-key']} may not {self.command} {self.path}"}
                content = json.dumps(body).encode()
                self.send_response(status, f"Unauthorized {self.headers['x-api-key']}" if status == 401 else None)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it.
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Clients that were ended while they waited are part of the play."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _joined(sets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One set for each name."""
    found: dict[str, dict[str, Any]] = {}
    for each in sets:
        found.setdefault(each["name"], each | {"records": []})["records"] += each["records"]
    return [*found.values()]
