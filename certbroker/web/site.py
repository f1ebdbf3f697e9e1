"""The outermost application: admits a request, finds what its host stands for, and answers."""

from __future__ import annotations

import structlog
from msgspec.structs import replace
from starlette.types import ASGIApp, Receive, Scope, Send

from certbroker.domain.errors import BrokerError
from certbroker.web.akv.vault import VaultApp
from certbroker.web.errors import refusal
from certbroker.web.hosts import Hosts
from certbroker.web.http import CLOSE, admit, respond

_log = structlog.get_logger("certbroker.web")


class Site:
    """Serves vaults on their hosts and the broker's own pages on every other host."""

    def __init__(self, vaults: VaultApp, hosts: Hosts, own: ASGIApp) -> None:
        self._vaults = vaults
        self._hosts = hosts
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            request = admit(scope)
        except BrokerError as error:
            await respond(send, replace(refusal(error), headers=(CLOSE,)))
            return
        host = self._hosts.vault(request.host)
        if host is None:
            # As it was sent: decoded, a slash in the name of an application would be one of the path.
            await self._own({**scope, "path": request.path}, receive, send)
            return
        response = await self._vaults.serve(request, receive, host)
        await respond(send, response, (b"x-ms-request-id", request.correlation_id.encode()))
