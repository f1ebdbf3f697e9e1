"""A vault's host: every request is authenticated, authorised, served and audited here, in this order."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog
from msgspec.structs import replace
from starlette.types import Receive

from certbroker import background
from certbroker.domain.audit import Caller, record
from certbroker.domain.errors import BrokerError, Invalid, NotFound, Unauthenticated
from certbroker.domain.objects import Vault
from certbroker.services.broker import Broker
from certbroker.services.identity.tokens import Principal
from certbroker.web.akv import (
    authorities,
    certificates,
    channels,
    drills,
    endpoints,
    health,
    issuers,
    key_uses,
    keys,
    lifecycle,
    revocation,
    rotation_policies,
    secrets,
    watching,
)
from certbroker.web.akv.ids import Links
from certbroker.web.akv.routes import Call, Route, Router, TakesLong
from certbroker.web.akv.versions import API_VERSIONS
from certbroker.web.errors import refusal, unavailable, unexpected
from certbroker.web.hosts import VaultHost
from certbroker.web.http import Request, Response, read_body

# Some clients describe their whole machine in this header.
_MAX_AGENT: Final = 200

# Threads for operations that can take seconds, so that these wait for each other and never hold up the rest. An import
# is two seconds of computing; a create comes here where a person may be the issuer, since then it makes a key;
# what asks a CA waits for the network.
_LANES: Final = {"import": 2, "create": 8, "outside": 4}

# What is served, each by a module that registers its operations.
MODULES: Final = (
    secrets,
    keys,
    key_uses,
    rotation_policies,
    issuers,
    certificates,
    revocation,
    watching,
    authorities,
    channels,
    health,
    lifecycle,
    drills,
    endpoints,
)

_log = structlog.get_logger("certbroker.web")


class VaultApp:
    """The data plane of one broker, for all of its vaults."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._router = Router()
        self._lanes = {lane: ThreadPoolExecutor(threads, lane) for lane, threads in _LANES.items()}
        for module in MODULES:
            module.register(self._router)

    async def serve(self, request: Request, receive: Receive, host: VaultHost) -> Response:
        """The response to a request on a vault's host."""
        try:
            principal = self._authenticate(request, host)
        except Unauthenticated as error:
            challenge = ((b"www-authenticate", host.challenge.encode()),)
            return replace(refusal(error), headers=challenge)
        found = self._router.find(request.method, request.path)
        route = found[0] if found else None
        caller = Caller(
            principal.object_id,
            route.operation if route else "Unknown",
            host.vault,
            request.client,
            request.correlation_id,
            request.header(b"user-agent")[:_MAX_AGENT],
        )
        try:
            if found is None:
                raise NotFound("path", f"There is no operation {request.method} {request.path[:200]} here.")
            response = await self._perform(*found, request, receive, caller)
        except BrokerError as error:
            response = refusal(error)
        except Exception:
            _log.exception(
                "request failed unexpectedly", operation=caller.operation, correlation_id=caller.correlation_id
            )
            response = unexpected()
        if response.status >= 300 or (route is not None and not route.writes):
            response = self._audited(caller, request.path, response)
        return response

    async def _perform(
        self, route: Route, parameters: dict[str, str], request: Request, receive: Receive, caller: Caller
    ) -> Response:
        """Authorise, then read the body, then call the handler. Raises BrokerError."""
        vault = self._broker.vaults.find(caller.vault)
        self._broker.access.authorize(caller.principal, route.action, _scope(vault, request.path, parameters))
        query = request.query()
        if query.get("api-version") not in API_VERSIONS:
            raise Invalid(_wrong_version(query.get("api-version")))
        body = await read_body(request, receive, route.max_body)
        links = Links(f"https://{request.host}")
        known = request.header(b"if-none-match")
        call = Call(self._broker, caller, vault, links, request.path, parameters, query, body, route.quick, known)
        if route.quick:
            try:
                return route.handler(call)
            except TakesLong:
                call = replace(call, quick=False)
        with background.answering:
            if route.soon is not None:
                try:
                    return await route.soon(call)
                except TakesLong:
                    pass
            pool = self._lanes[route.lane] if route.lane else None
            return await asyncio.get_running_loop().run_in_executor(pool, route.handler, call)

    def _audited(self, caller: Caller, target: str, response: Response) -> Response:
        """The response, once it is on record; what cannot be put on record is not answered."""
        outcome = "ok" if response.status < 400 else response.body["error"]["code"]
        try:
            self._broker.store.audit_read(record(caller, self._broker.clock.now(), target, outcome, response.status))
        except OSError:
            _log.exception("audit record could not be written", correlation_id=caller.correlation_id)
            return unavailable("The audit log cannot be written, so nothing is answered until it can be again.")
        return response

    def _authenticate(self, request: Request, host: VaultHost) -> Principal:
        header = request.header(b"authorization")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("AKV10000: Request is missing a Bearer or PoP token.")
        principal = self._broker.tokens.verify(token.strip())
        if principal.audience not in host.audiences:
            raise Unauthenticated(
                f"AKV10022: Invalid audience. Expected {host.resource}, found: {principal.audience[:200]}."
            )
        return principal


def _scope(vault: Vault, path: str, parameters: dict[str, str]) -> str:
    """What the caller needs a role for: the object, or the vault where there is none."""
    name = parameters.get("name")
    kind = path.split("/", 2)[1].lower().removeprefix("deleted")
    return f"/vaults/{vault.name.lower()}/{kind}/{name.lower()}" if name else f"/vaults/{vault.name.lower()}"


def _wrong_version(given: str | None) -> str:
    if given is None:
        return "api-version must be specified"
    return f"The specified version ({given[:40]}) is not recognized. Consider using the latest supported version (7.6)."
