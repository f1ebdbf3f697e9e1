"""The whole broker but its listeners, in this process: real database, real seal, real engine.

Requests go in as ASGI, through httpx or, where httpx would tidy them up, as bare scopes.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import structlog
from blockbuster import blockbuster_ctx
from starlette.types import Message

from certbroker.app import open_core
from certbroker.config import build
from certbroker.domain.access import Application
from certbroker.domain.audit import Caller
from certbroker.engine.scheduler import Engine
from certbroker.web.akv.vault import VaultApp
from certbroker.web.hosts import Hosts
from certbroker.web.own import own_site
from certbroker.web.site import Site

DOMAIN = "vault.example"
PORT = 8443
AUTHORITY = f"https://login.example:{PORT}"
VAULT_AUDIENCE = f"https://{DOMAIN}"
API_VERSION = "7.4"

_OPERATOR = Caller("operator", "Test")


class MemoryBroker:
    """One broker, on a directory of its own."""

    def __init__(self, directory: Path) -> None:
        # As lines on the standard output that pytest shows when a test fails; the default draws tracebacks for minutes.
        structlog.configure([structlog.processors.format_exc_info, structlog.processors.JSONRenderer()])
        settings = {"server": {"base_domain": DOMAIN, "authority": AUTHORITY}, "data": {"directory": directory}}
        self.core = open_core(build(settings))
        self.broker = self.core.broker
        self.hosts = Hosts(DOMAIN, {}, AUTHORITY, self.core.tenant)
        self.site = Site(VaultApp(self.broker), self.hosts, own_site(self.broker, self.hosts))
        self._engine = Engine(self.broker, self.core.inbox)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[MemoryBroker]:
        """The engine works, and nothing blocks the event loop meanwhile."""
        with self.broker.store.reading_on_this_loop(), blockbuster_ctx("certbroker") as guard:
            for name, function in guard.functions.items():
                function.can_block_in("tests/support/memory_broker.py", {"new_vault", "application", "token"})
                if name.startswith("sqlite3."):
                    # Single reads by primary key are made on the event loop: a change of thread takes longer.
                    function.can_block_in("certbroker/store/statement.py", {"run", "one", "all"})
                    function.can_block_in("certbroker/store/reading.py", {"glance", "release"})
            # A record of a read is appended to a file, which the operating system takes without waiting for the disk.
            guard.functions["os.write"].can_block_in("certbroker/store/spool.py", "add")
            self._engine.start()
            try:
                yield self
            finally:
                await asyncio.to_thread(self._engine.stop)
        self.core.close()

    def new_vault(self, *, days: int = 90, purge_protection: bool = False) -> str:
        """The name of a fresh vault."""
        name = f"v{secrets.token_hex(6)}"
        self.broker.vaults.create(_OPERATOR, name, days=days, purge_protection=purge_protection)
        return name

    def application(self, *roles: tuple[str, str]) -> tuple[Application, str]:
        """A fresh application with roles at scopes, and its client secret."""
        application = self.broker.access.create_application(_OPERATOR, f"app-{secrets.token_hex(6)}")
        for role, scope in roles:
            self.broker.access.assign(_OPERATOR, application.object_id, role, scope)
        return application, self.broker.access.add_secret(_OPERATOR, application.id)[1]

    def token(self, *roles: tuple[str, str], audience: str = VAULT_AUDIENCE) -> str:
        """A token of a fresh application with these roles."""
        application, secret = self.application(*roles)
        return self.broker.tokens.issue(application.id, secret, audience, f"{AUTHORITY}/{self.core.tenant}")

    def client(self, host: str = "login.example") -> httpx.AsyncClient:
        """A client for one of the broker's hosts."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.site), base_url=f"https://{host}:{PORT}")


@dataclass(frozen=True)
class VaultClient:
    """Requests to one vault as one principal."""

    http: httpx.AsyncClient
    token: str | None
    vault: str

    @property
    def base(self) -> str:
        """Scheme and host of the vault."""
        return f"https://{self.vault}.{DOMAIN}:{PORT}"

    def acting(self, token: str | None) -> VaultClient:
        """The same vault as somebody else, or as nobody."""
        return VaultClient(self.http, token, self.vault)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.send("GET", path, **options)

    async def put(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.send("PUT", path, body, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.send("POST", path, body, **options)

    async def patch(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.send("PATCH", path, body, **options)

    async def delete(self, path: str, **options: Any) -> httpx.Response:
        return await self.send("DELETE", path, **options)

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        version: str | None = API_VERSION,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """One request; `body` is bytes as they are, or something to write as JSON. `version` None sends none."""
        if version is not None:
            path += f"{'&' if '?' in path else '?'}api-version={version}"
        sent = {"authorization": f"Bearer {self.token}"} if self.token is not None else {}
        content = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        return await self.http.request(method, self.base + path, headers=sent | (headers or {}), **content)

    async def create(self, name: str, policy: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
        """Make a certificate and return it once it is there."""
        answer = await self.post(f"/certificates/{name}/create", {"policy": policy or self_signed_policy()} | body)
        assert answer.status_code == 202, answer.text
        settled = await self.settled(name)
        assert settled["status"] == "completed", settled
        found: dict[str, Any] = (await self.get(f"/certificates/{name}/")).json()
        return found

    async def settled(self, name: str) -> dict[str, Any]:
        """The operation of a name, once it is no longer in progress."""
        async with asyncio.timeout(20):
            while True:
                operation: dict[str, Any] = (await self.get(f"/certificates/{name}/pending")).json()
                if operation["status"] != "inProgress":
                    return operation
                await asyncio.sleep(0.01)


def self_signed_policy(**changes: Any) -> dict[str, Any]:
    """A policy on the wire, for a key that is made quickly."""
    return {
        "issuer": {"name": "Self"},
        "key_props": {"kty": "EC", "crv": "P-256", "exportable": True},
        "x509_props": {"subject": "CN=www.example.com", "sans": {"dns_names": ["www.example.com"]}},
    } | changes


@dataclass
class BareResponse:
    """What the application sent."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


async def bare_request(
    site: Site,
    method: str,
    raw_path: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    body: Iterable[bytes] = (),
    query: bytes = b"",
) -> BareResponse:
    """A request that no decent client would send."""
    parts = [*body]
    response = BareResponse()

    async def receive() -> Message:
        if parts:
            return {"type": "http.request", "body": parts.pop(0), "more_body": True}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            response.status, response.headers = message["status"], [*message["headers"]]
        else:
            response.body += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": raw_path.decode("latin-1"),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [*headers],
        "client": ("192.0.2.1", 1234),
        "server": ("192.0.2.2", PORT),
    }
    await site(scope, receive, send)
    return response


def check_form(answer: httpx.Response) -> None:
    """Not our fault, and in the documented form."""
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert {"code", "message"} <= error.keys() <= {"code", "message", "innererror"}
        assert all(isinstance(error[label], str) and error[label] for label in ("code", "message"))
        assert "Traceback" not in answer.text
