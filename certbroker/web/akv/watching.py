"""What is known of the revocation of certificates, on the wire. Key Vault has nothing of the kind."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from certbroker.domain.objects import Kind
from certbroker.domain.revocation_status import Judged, told
from certbroker.services.revocation.watching import WatchView
from certbroker.web.akv.routes import Call, Route, Router
from certbroker.web.http import Response
from certbroker.web.status_json import source_json


def get_status(call: Call) -> Response:
    return Response(200, _view_json(call, call.broker.watching.view(call.vault, call.name)))


def check(call: Call) -> Response:
    return Response(200, _view_json(call, call.broker.watching.check_now(call.caller, call.vault, call.name)))


def _view_json(call: Call, view: WatchView) -> dict[str, Any]:
    found: dict[str, Any] = {"id": call.links.object(Kind.CERTIFICATE, call.name)} | standing_json(view)
    if view.watched is not None:
        found["chain"] = [_judged_json(each) for each in view.watched.verdict.judged]
    return found | {"sources": [source_json(each) for each in view.sources]}


def standing_json(view: WatchView) -> dict[str, Any]:
    """The standing of a certificate as a whole. Times in Unix seconds; what is not known is left out."""
    if view.watched is None:
        return {"standing": "Unchecked", "reason": "It has not been checked yet."}
    verdict, checked = view.watched.verdict, view.watched.checked
    deciding = verdict.deciding
    found: dict[str, Any] = {"standing": str(verdict.standing)}
    if deciding is not None:
        found["reason"] = told(deciding)
        if deciding.answer.source:
            found["source"] = deciding.answer.source
            asked = next((each for each in view.sources if each.url == deciding.answer.source), None)
            if asked is not None and asked.holding.confirmed is not None:
                found["confirmed"] = _seconds(asked.holding.confirmed)
    return found if checked is None else found | {"checked": _seconds(checked)}


def _judged_json(judged: Judged) -> dict[str, Any]:
    answer = judged.answer
    found: dict[str, Any] = {
        "subject": judged.subject,
        "serial": judged.serial,
        "standing": str(answer.standing),
        "reason": told(judged),
    }
    if answer.source:
        found["source"] = answer.source
    return found if answer.at is None else found | {"at": _seconds(answer.at)}


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def register(router: Router) -> None:
    path = "/certificates/{name}/revocation"
    router.add("GET", path, Route("CertificateRevocationGet", "certificates/read", get_status))
    asking = Route("CertificateRevocationCheck", "certificates/update/action", check, writes=True, lane="outside")
    router.add("POST", f"{path}/check", asking)
