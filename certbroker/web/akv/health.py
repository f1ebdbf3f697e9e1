"""How certificates and issuers are, on the wire.

Key Vault has no such paths, and can have none: no version is named `lifecycle`, and below an issuer there is nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from certbroker.domain.objects import Kind
from certbroker.services.renewal.lifecycles import LifecycleView
from certbroker.web.akv.routes import Call, Route, Router
from certbroker.web.akv.watching import standing_json
from certbroker.web.http import Response


def get_lifecycle(call: Call) -> Response:
    found = lifecycle_json(call, call.broker.lifecycles.view(call.vault, call.name))
    return Response(200, found | {"revocation": standing_json(call.broker.watching.view(call.vault, call.name))})


def lifecycle_json(call: Call, view: LifecycleView) -> dict[str, Any]:
    """The care of a certificate. Times in Unix seconds; what is not known is left out."""
    lifecycle, care = view.care.lifecycle, view.care
    found: dict[str, Any] = {
        "id": call.links.object(Kind.CERTIFICATE, view.name),
        "health": lifecycle.health.value,
        "reason": lifecycle.reason,
    }
    times = {
        "since": lifecycle.since,
        "next_action": lifecycle.next_action,
        "next_look": care.act_at,
        "expires": view.expires,
    }
    found |= {label: _seconds(at) for label, at in times.items() if at is not None}
    if view.point is not None:
        found["renewal_point"] = {"at": _seconds(view.point[0]), "rule": view.point[1]}
    if lifecycle.suggestion is not None:
        window = lifecycle.suggestion
        found["ca_window"] = {"start": _seconds(window.start), "end": _seconds(window.end), "at": _seconds(window.pick)}
        if window.explanation:
            found["ca_window"]["explanation"] = window.explanation
    if lifecycle.setback is not None:
        setback = lifecycle.setback
        found["failure"] = {
            "code": setback.problem.code,
            "message": setback.problem.message,
            "in_a_row": setback.failures,
            "retry_at": _seconds(setback.retry_at),
            "request_id": setback.operation,
        }
    if care.staged is not None and care.activate_at is not None:
        staged = call.links.object(Kind.CERTIFICATE, view.name, care.staged)
        found["staged"] = {"id": staged, "activates": _seconds(care.activate_at)}
    return found


def get_issuer_health(call: Call) -> Response:
    health = call.broker.issuers.health(call.vault, call.parameters["issuer"])
    found: dict[str, Any] = {"state": health.state.value}
    if health.reason:
        found["reason"] = health.reason
    times = {"since": health.since, "last_success": health.last_success, "next_try": health.next_try}
    return Response(200, found | {label: _seconds(at) for label, at in times.items() if at is not None})


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def register(router: Router) -> None:
    route = Route("CertificateLifecycleGet", "certificates/read", get_lifecycle)
    router.add("GET", "/certificates/{name}/lifecycle", route)
    issuer = Route("CertificateIssuerHealth", "certificatecas/read", get_issuer_health)
    router.add("GET", "/certificates/issuers/{issuer}/health", issuer)
