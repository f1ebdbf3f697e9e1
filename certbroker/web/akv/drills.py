"""Drills of one vault. Key Vault has none: nothing of its own begins with this word."""

from __future__ import annotations

from certbroker.web.akv.messages import decode, page_json
from certbroker.web.akv.routes import Call, Route, Router
from certbroker.web.drill_json import DrillBody, drill_json, replacement_json, report_json
from certbroker.web.http import Response


def start(call: Call) -> Response:
    wish = decode(call.body, DrillBody).wish()
    return Response(202, report_json(call.broker.drills.start(call.caller, call.vault, wish), _vaults(call)))


def show(call: Call) -> Response:
    return Response(200, report_json(call.broker.drills.report(call.vault, call.parameters["drill"]), _vaults(call)))


def stop(call: Call) -> Response:
    report = call.broker.drills.stop(call.caller, call.vault, call.parameters["drill"])
    return Response(200, report_json(report, _vaults(call)))


def list_drills(call: Call) -> Response:
    return Response(
        200, {"value": [drill_json(each, _vaults(call)) for each in call.broker.drills.listing(call.vault)]}
    )


def list_certificates(call: Call) -> Response:
    state = call.query.get("state", "")
    page = call.broker.drills.members(
        call.vault, call.parameters["drill"], state, call.query.get("$skiptoken", ""), call.page_size()
    )
    found = page_json(call, [replacement_json(each, _vaults(call)) for each in page.items], page)
    if state and page.next is not None:
        found.body["nextLink"] += f"&state={state}"
    return found


def _vaults(call: Call) -> dict[int, str]:
    return {call.vault.id: call.vault.name}


def register(router: Router) -> None:
    for method, pattern, operation, action, handler, writes in (
        ("POST", "/drills", "DrillStart", "drill/action", start, True),
        ("GET", "/drills", "DrillList", "read", list_drills, False),
        ("GET", "/drills/{drill}", "DrillGet", "read", show, False),
        ("GET", "/drills/{drill}/certificates", "DrillCertificateList", "read", list_certificates, False),
        ("POST", "/drills/{drill}/stop", "DrillStop", "drill/action", stop, True),
    ):
        router.add(method, pattern, Route(operation, f"certificates/{action}", handler, writes=writes))
