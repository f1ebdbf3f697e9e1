"""The broker's own host: authority, health, what tools want to know about this cloud, and administration."""

from __future__ import annotations

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from certbroker.domain.errors import BrokerError
from certbroker.services.broker import Broker
from certbroker.web.admin import Administration
from certbroker.web.errors import refusal, unexpected
from certbroker.web.hosts import Hosts
from certbroker.web.monitoring import health, ready
from certbroker.web.oauth.authority import Authority

_log = structlog.get_logger("certbroker.web")


def own_site(broker: Broker, hosts: Hosts) -> Starlette:
    """The application for every host that is not a vault's."""

    def healthz(request: Request) -> Response:
        found = health(broker.readiness)
        return JSONResponse(found.body, found.status)

    def readyz(request: Request) -> Response:
        found = ready(broker.readiness)
        return JSONResponse(found.body, found.status)

    def metadata(request: Request) -> Response:
        return JSONResponse(_cloud(hosts, request.headers["host"].lower()))

    def empty(request: Request) -> Response:
        return JSONResponse({"value": []})

    routes = [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metadata/endpoints", metadata),
        Route("/subscriptions", empty),
        Route("/tenants", empty),
        *Administration(broker, hosts).routes(),
        *Authority(broker.tokens, hosts).routes(),
    ]
    return Starlette(
        routes=routes,
        exception_handlers={BrokerError: _refused, 404: _nothing_here, 405: _nothing_here, Exception: _failed},
    )


def _cloud(hosts: Hosts, host: str) -> dict[str, object]:
    """What `az cloud register` reads: the endpoints of this cloud."""
    base, port = hosts.base_domain, host.partition(":")[2]
    suffix = f"{base}:{port}" if port else base
    return {
        "name": "certbroker",
        "authentication": {
            "loginEndpoint": f"https://{host}",
            "audiences": [f"https://{host}"],
            "tenant": "adfs",
            "identityProvider": "ADFS",
        },
        "resourceManager": f"https://{host}",
        "suffixes": {"keyVaultDns": suffix},
        "portal": f"https://{host}",
        "graphAudience": f"https://{host}",
        "graph": f"https://{host}",
    }


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, BrokerError)
    found = refusal(error)
    return JSONResponse(found.body, found.status, {name.decode(): value.decode() for name, value in found.headers})


async def _nothing_here(request: Request, error: Exception) -> Response:
    host = request.headers.get("host", "")[:200]
    message = (
        f"There is nothing at {request.method} {request.url.path[:200]} on {host}; vaults have host names of their own."
    )
    return JSONResponse({"error": {"code": "NotFound", "message": message}}, getattr(error, "status_code", 404))


async def _failed(request: Request, error: Exception) -> Response:
    found = unexpected()
    return JSONResponse(found.body, found.status)
