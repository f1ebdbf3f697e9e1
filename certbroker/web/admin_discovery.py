"""Discovery, below `/admin`. Times are Unix seconds; what is not known is left out."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request

from certbroker.domain.audit import Caller
from certbroker.domain.discovery import Sighting
from certbroker.services.broker import Broker
from certbroker.services.discovery.discoveries import DiscoveryReport
from certbroker.services.objects.listings import MAX_PAGE
from certbroker.web.akv.messages import decode

Handler = Callable[[Caller, Request, bytes], Any]


class AdoptBody(msgspec.Struct, forbid_unknown_fields=True):
    """A certificate to manage from now on."""

    vault: str
    issuer: str
    name: str = ""


class DiscoveryAdministration:
    """What was seen, and what somebody makes of it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._discoveries = broker.discoveries

    def handlers(self) -> Iterator[tuple[str, str, str, Handler]]:
        """Method, path, operation and what serves it."""
        one = "/admin/discovery/sightings/{sighting}"
        yield "GET", "/admin/discovery", "DiscoveryStatus", self.status
        yield "POST", "/admin/discovery/scan", "DiscoveryScan", self.scan
        yield "GET", "/admin/discovery/sightings", "SightingList", self.list_sightings
        yield "GET", one, "SightingGet", self.show
        yield "POST", f"{one}/ignore", "SightingIgnore", self.ignore
        yield "POST", f"{one}/adopt", "SightingAdopt", self.adopt

    def status(self, caller: Caller, request: Request, body: bytes) -> Any:
        return report_json(self._discoveries.report())

    def scan(self, caller: Caller, request: Request, body: bytes) -> Any:
        self._discoveries.hurry(caller)
        return report_json(self._discoveries.report())

    def list_sightings(self, caller: Caller, request: Request, body: bytes) -> Any:
        query = request.query_params
        page = self._discoveries.listing(query.get("state", ""), query.get("$skiptoken", ""), MAX_PAGE)
        following = None
        if page.next is not None:
            following = str(request.url.include_query_params(**{"$skiptoken": page.next}))
        vaults = self._vaults()
        return {"value": [sighting_json(each, vaults) for each in page.items], "nextLink": following}

    def show(self, caller: Caller, request: Request, body: bytes) -> Any:
        found = self._discoveries.get(request.path_params["sighting"])
        certificate = {"certificate": base64.b64encode(found.leaf).decode()} if found.leaf else {}
        return sighting_json(found, self._vaults()) | certificate

    def ignore(self, caller: Caller, request: Request, body: bytes) -> Any:
        return sighting_json(self._discoveries.ignore(caller, request.path_params["sighting"]), self._vaults())

    def adopt(self, caller: Caller, request: Request, body: bytes) -> Any:
        wanted = decode(body, AdoptBody)
        vault = self._broker.vaults.find(wanted.vault)
        sighting = request.path_params["sighting"]
        found, operation = self._discoveries.adopt(caller, vault, sighting, wanted.issuer, wanted.name)
        return sighting_json(found, self._vaults()) | {"request_id": operation.id}

    def _vaults(self) -> dict[int, str]:
        return {vault.id: vault.name for vault in self._broker.vaults.listing()}


def report_json(report: DiscoveryReport) -> dict[str, Any]:
    """How discovery goes."""
    return {
        "places": len(report.plan.targets),
        "monitors": list(report.plan.monitors),
        "sightings": {str(standing): count for standing, count in report.counts.items()},
        "tasks": [
            _present({
                "task": task.id,
                "position": task.position,
                "next": _seconds(task.act_at),
                "began": _seconds(task.began),
                "succeeded": _seconds(task.succeeded),
                "found": task.found,
                "problem": task.problem,
            })
            for task in report.tasks
        ],
    }  # fmt: skip


def sighting_json(found: Sighting, vaults: dict[int, str]) -> dict[str, Any]:
    """A certificate that was seen."""
    return _present({
        "id": found.id,
        "state": str(found.standing),
        "names": list(found.names),
        "subject": found.subject,
        "issuer": found.issuer,
        "serial": found.serial,
        "sha256": found.sha256,
        "key": found.key,
        "not_before": _seconds(found.not_before),
        "not_after": _seconds(found.not_after),
        "places": list(found.places),
        "first_seen": _seconds(found.first_seen),
        "last_seen": _seconds(found.seen),
        "vault": None if found.vault_id is None else vaults.get(found.vault_id),
        "name": found.name,
        "version": found.version,
    })  # fmt: skip


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "")}
