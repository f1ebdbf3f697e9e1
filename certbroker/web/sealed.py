"""What the broker answers before it is unsealed: that it lives, why it waits, and to all else to come back later."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable
from typing import Final

from msgspec.structs import replace
from starlette.types import ASGIApp, Receive, Scope, Send

from certbroker.domain.errors import BrokerError, Sealed
from certbroker.web.errors import refusal
from certbroker.web.hosts import Hosts
from certbroker.web.http import CLOSE, Response, admit, respond

_MESSAGE: Final = "The broker is sealed: the key that opens its database is not at hand. It keeps looking for the key."


class Entrance:
    """The application of a listener, which can be exchanged while it serves."""

    def __init__(self, application: ASGIApp) -> None:
        self.application = application

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self.application(scope, receive, send)


class SealedSite:
    """Serves every host until the broker is unsealed. Only the broker's own host is told the reason."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._reason = ""
        self.retry_in = 0.0
        self._retry_at = 0.0

    def explain(self, reason: str, retry_in: float) -> None:
        """Tell from now on why the broker is sealed, and that it tries again after so many seconds."""
        self._reason = reason
        self.retry_in = retry_in
        self._retry_at = time.monotonic() + retry_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            request = admit(scope)
        except BrokerError as error:
            await respond(send, replace(refusal(error), headers=(CLOSE,)))
            return
        path = request.path if self._hosts.vault(request.host) is None else ""
        # Bodies are not read here, so nothing that follows on the connection could be understood.
        await respond(send, self._answer(path), CLOSE)

    def _answer(self, path: str) -> Response:
        wait = max(1, math.ceil(self._retry_at - time.monotonic()))
        retry = ((b"retry-after", str(wait).encode()),)
        if path in ("/healthz", "/readyz"):
            body = {"status": "sealed", "reason": self._reason, "retry_after": wait}
            return Response(200, body) if path == "/healthz" else Response(503, body, retry)
        return Response(503, refusal(Sealed(_MESSAGE)).body, retry)
