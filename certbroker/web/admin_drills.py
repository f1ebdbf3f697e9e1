"""Drills over all vaults, below `/admin`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from starlette.requests import Request

from certbroker.domain.audit import Caller
from certbroker.services.broker import Broker
from certbroker.services.objects.listings import MAX_PAGE
from certbroker.web.akv.messages import decode
from certbroker.web.drill_json import DrillBody, drill_json, replacement_json, report_json

Handler = Callable[[Caller, Request, bytes], Any]


class DrillAdministration:
    """The same as on a vault's host, of everything."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._drills = broker.drills

    def handlers(self) -> Iterator[tuple[str, str, str, Handler]]:
        """Method, path, operation and what serves it."""
        one = "/admin/drills/{drill}"
        yield "POST", "/admin/drills", "DrillStart", self.start
        yield "GET", "/admin/drills", "DrillList", self.list_drills
        yield "GET", one, "DrillGet", self.show
        yield "GET", f"{one}/certificates", "DrillCertificateList", self.list_certificates
        yield "POST", f"{one}/stop", "DrillStop", self.stop

    def start(self, caller: Caller, request: Request, body: bytes) -> Any:
        wish = decode(body, DrillBody).wish()
        return report_json(self._drills.start(caller, None, wish), self._vaults())

    def list_drills(self, caller: Caller, request: Request, body: bytes) -> Any:
        return {"value": [drill_json(each, self._vaults()) for each in self._drills.listing(None)]}

    def show(self, caller: Caller, request: Request, body: bytes) -> Any:
        return report_json(self._drills.report(None, request.path_params["drill"]), self._vaults())

    def stop(self, caller: Caller, request: Request, body: bytes) -> Any:
        return report_json(self._drills.stop(caller, None, request.path_params["drill"]), self._vaults())

    def list_certificates(self, caller: Caller, request: Request, body: bytes) -> Any:
        query = request.query_params
        drill_id, state = request.path_params["drill"], query.get("state", "")
        page = self._drills.members(None, drill_id, state, query.get("$skiptoken", ""), MAX_PAGE)
        following = None
        if page.next is not None:
            following = str(request.url.include_query_params(**{"$skiptoken": page.next}))
        vaults = self._vaults()
        return {"value": [replacement_json(each, vaults) for each in page.items], "nextLink": following}

    def _vaults(self) -> dict[int, str]:
        return {vault.id: vault.name for vault in self._broker.vaults.listing()}
