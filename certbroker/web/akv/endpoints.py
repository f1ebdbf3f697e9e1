"""Endpoints of certificates on the wire. Key Vault has none, and no version is named `endpoints`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from certbroker.domain.endpoints import Sight, read_place
from certbroker.store.endpoints import Endpoint
from certbroker.web.akv.messages import decode
from certbroker.web.akv.routes import Call, Route, Router
from certbroker.web.http import Response


class EndpointJSON(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    endpoint: str
    server_name: str | None = None
    starttls: str | None = None
    address: str | None = None


def add_endpoint(call: Call) -> Response:
    wanted = decode(call.body, EndpointJSON)
    place = read_place(wanted.endpoint, wanted.server_name, wanted.starttls, wanted.address)
    return Response(200, endpoint_json(call.broker.endpoints.add(call.caller, call.vault, call.name, place)))


def list_endpoints(call: Call) -> Response:
    found = call.broker.endpoints.listing(call.vault, call.name)
    return Response(200, {"value": [endpoint_json(each) for each in found], "nextLink": None})


def remove_endpoint(call: Call) -> Response:
    removed = call.broker.endpoints.remove(call.caller, call.vault, call.name, call.parameters["endpoint"])
    return Response(200, endpoint_json(removed))


def endpoint_json(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint and what was seen there. Times in Unix seconds; what is not known is left out."""
    place, standing = endpoint.place, endpoint.standing
    found: dict[str, Any] = {
        "id": place.id,
        "endpoint": place.text,
        "server_name": place.server_name,
        "starttls": place.starttls,
        "address": place.address,
        "state": standing.serving,
        "since": _seconds(standing.since),
        "looked_at": _seconds(standing.looked_at),
        "next_look": _seconds(endpoint.act_at),
        "alarm": None if standing.alarm is None else standing.alarm.reason,
        "findings": list(standing.findings) or None,
        "seen": [_sight_json(sight) for sight in standing.sights] or None,
    }
    return {label: value for label, value in found.items() if value is not None}


def _sight_json(sight: Sight) -> dict[str, Any]:
    found = {
        "address": sight.address,
        "state": sight.serving,
        "sha256": sight.sha256,
        "version": sight.version,
        "subject": sight.subject,
        "issuer": sight.issuer,
        "expires": sight.not_after,
        "problem": sight.problem,
    }
    return {label: value for label, value in found.items() if value not in (None, "")}


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def register(router: Router) -> None:
    of = "/certificates/{name}/endpoints"
    write = "certificates/endpoints/write"
    router.add("GET", of, Route("CertificateEndpointList", "certificates/read", list_endpoints))
    router.add("POST", of, Route("CertificateEndpointAdd", write, add_endpoint, writes=True))
    remove = Route("CertificateEndpointRemove", "certificates/endpoints/delete", remove_endpoint, writes=True)
    router.add("DELETE", f"{of}/{{endpoint}}", remove)
