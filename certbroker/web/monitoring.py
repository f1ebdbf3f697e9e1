"""The listener for whoever watches the broker: is it there, is it ready, and its metrics. No token, and no TLS.

`/healthz` says that the process answers. It is 200 for a sealed broker too, since a restart would not unseal it.
`/readyz` is 503 with reasons while the broker cannot do what it is there for.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import Receive, Scope, Send

from certbroker.services.health.metrics import Metrics
from certbroker.services.health.readiness import Readiness
from certbroker.web.http import Response, respond

# A probe that comes back in so many seconds learns of a change soon enough.
_RETRY: Final = ((b"retry-after", b"10"),)


def health(readiness: Readiness) -> Response:
    """That the process answers."""
    return Response(200, {"status": "ok" if readiness.sealed is None else "sealed"})


def ready(readiness: Readiness) -> Response:
    """Whether the broker is ready, and why not. Blocks."""
    reasons = readiness.reasons()
    if not reasons:
        return Response(200, {"status": "ok"})
    status = "not ready" if readiness.sealed is None else "sealed"
    return Response(503, {"status": status, "reasons": reasons}, _RETRY)


class MonitoringApp:
    """Serves `/healthz`, `/readyz` and `/metrics`, and nothing else."""

    def __init__(self, readiness: Readiness, metrics: Metrics) -> None:
        self._readiness = readiness
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            await respond(send, Response(405, None, ((b"allow", b"GET, HEAD"),)))
            return
        match scope["path"]:
            case "/healthz":
                await respond(send, health(self._readiness))
            case "/readyz":
                await respond(send, await asyncio.to_thread(ready, self._readiness))
            case "/metrics":
                await self._scrape(scope, send)
            case _:
                await respond(send, Response(404, {"here": ["/healthz", "/readyz", "/metrics"]}))

    async def _scrape(self, scope: Scope, send: Send) -> None:
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
        body, kind = await asyncio.to_thread(self._metrics.render, accept)
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
