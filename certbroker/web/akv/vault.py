"""A vault's host: every request is authenticated, authorised, served and audited here, in this order."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog
from starlette.types import Receive

from certbroker.domain.audit import Caller, record
from certbroker.domain.errors import BrokerError, Invalid, NotFound, Unauthenticated
from certbroker.domain.objects import Vault
from certbroker.services.broker import Broker
from certbroker.services.tokens import Principal
from certbroker.web.akv import certificates, issuers, keys, lifecycle, secrets
from certbroker.web.akv.ids import Links
from certbroker.web.akv.routes import Call, Route, Router, TakesLong
from certbroker.web.akv.versions import API_VERSIONS
from certbroker.web.errors import refusal, unexpected
from certbroker.web.hosts import VaultHost
from certbroker.web.http import Request, Response, read_body

_log = structlog.get_logger("certbroker.web")


class VaultApp:
    """The data plane of one broker, for all of its vaults."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._router = Router()
        for module in (secrets, keys, issuers, certificates, lifecycle):
            module.register(self._router)

    async def serve(self, request: Request, receive: Receive, host: VaultHost) -> Response:
        """The response to a request on a vault's host."""
        caller = Caller(
            "", "Unknown", host.vault, request.client, request.correlation_id, request.header(b"user-agent")
        )
        try:
            principal = self._authenticate(request, host)
        except Unauthenticated as error:
            response = refusal(error)
            return replace(response, headers=((b"www-authenticate", host.challenge.encode()),))
        caller = replace(caller, principal=principal.object_id)
        target = request.path
        writes = False
        try:
            found = self._router.find(request.method, request.path)
            if found is None:
                raise NotFound("path", f"There is no operation {request.method} {request.path[:200]} here.")
            route, parameters = found
            writes = route.writes
            caller = replace(caller, operation=route.operation)
            vault = self._broker.vaults.find(host.vault)
            self._broker.access.authorize(principal.object_id, route.action, _scope(vault, request.path, parameters))
            query = request.query()
            if query.get("api-version", "") not in API_VERSIONS:
                raise Invalid(_wrong_version(query.get("api-version")))
            body = await read_body(request, receive)
            call = Call(
                self._broker, caller, vault, Links(f"https://{request.host}"), request.path, parameters, query, body
            )
            response = await _run(route, call)
        except BrokerError as error:
            response = refusal(error)
        except Exception:
            _log.exception(
                "request failed unexpectedly", operation=caller.operation, correlation_id=caller.correlation_id
            )
            response = unexpected()
        if not (writes and response.status < 300):
            outcome = "ok" if response.status < 300 else response.body["error"]["code"]
            await self._broker.store.audit_soon(
                record(caller, self._broker.clock.now(), target, outcome, response.status)
            )
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


async def _run(route: Route, call: Call) -> Response:
    """On the event loop if that is quick, else on a thread."""
    if route.quick:
        try:
            return route.handler(replace(call, quick=True))
        except TakesLong:
            pass
    return await asyncio.to_thread(route.handler, call)


def _scope(vault: Vault, path: str, parameters: dict[str, str]) -> str:
    """What the caller needs a role for: the object, or the vault where there is none."""
    name = parameters.get("name")
    kind = path.split("/", 2)[1].lower().removeprefix("deleted")
    return f"/vaults/{vault.name.lower()}/{kind}/{name.lower()}" if name else f"/vaults/{vault.name.lower()}"


def _wrong_version(given: str | None) -> str:
    if given is None:
        return "api-version must be specified"
    return f"The specified version ({given[:40]}) is not recognized. Consider using the latest supported version (7.6)."
