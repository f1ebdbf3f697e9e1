"""Discovery on a bench: servers and a CT monitor that show what they are told to."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

from certbroker.domain.discovery import Standing, targets
from certbroker.domain.events import EventType
from certbroker.domain.policy import SELF, SubjectAlternativeNames
from certbroker.ports.egress import OutsideResponse
from certbroker.ports.probe import Failure, IPAddress, NotPresented, Presented, StartTLS
from certbroker.services.deployment.endpoints import Endpoints
from certbroker.services.discovery.discoveries import Discoveries, DiscoveryPlan
from certbroker.services.discovery.tasks import DiscoveryTasks
from tests.support.certificates import Authority, der
from tests.support.issuer_bench import Bench

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MONITOR = "https://monitor.example/"


class Servers:
    """What is there to be looked at, by host; a `Probe`."""

    def __init__(self) -> None:
        self.shown: dict[str, bytes] = {}
        self.behind: dict[str, bytes | None] = {}
        """What another address of a host shows; None where nobody answers there."""
        self.looked: list[tuple[str, int]] = []
        self.begun: dict[int, StartTLS | None] = {}

    def addresses(self, host: str, port: int, *, timeout: float = 5.0) -> tuple[IPAddress, ...]:
        self.looked.append((host, port))
        if host not in self.shown:
            raise NotPresented(Failure.UNREACHABLE, "Nobody is there.")
        networks = ("198.51.100", "192.0.2") if host in self.behind else ("192.0.2",)
        return tuple(ip_address(f"{network}.{[*self.shown].index(host)}") for network in networks)

    def look(
        self, address: IPAddress, port: int, server_name: str | None, starttls: StartTLS | None = None, **_: Any
    ) -> Presented:
        network, _dot, number = str(address).rpartition(".")
        host = [*self.shown][int(number)]
        leaf = self.shown[host] if network == "192.0.2" else self.behind[host]
        self.begun[port] = starttls
        if leaf is None:
            raise NotPresented(Failure.UNREACHABLE, "Nobody answers.")
        return Presented(address, port, (leaf,), "TLSv1.3")


class Monitor:
    """A CT monitor that answers what it is told to; an `Egress`."""

    def __init__(self) -> None:
        self.answers: list[OutsideResponse | Exception] = []
        self.asked: list[str] = []

    def request(self, method: str, url: str, **_: Any) -> OutsideResponse:
        self.asked.append(url)
        answer = self.answers.pop(0) if self.answers else said([])
        if isinstance(answer, Exception):
            raise answer
        return answer


def said(body: object, status: int = 200, **headers: str) -> OutsideResponse:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return OutsideResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, content, "")


class Site:
    """A bench with discovery on it."""

    def __init__(self, bench: Bench, *hosts: str) -> None:
        self.bench, self.store = bench, bench.store
        self.servers, self.monitor = Servers(), Monitor()
        self.plan = DiscoveryPlan(targets(hosts, (443,)), 200.0, DAY, (MONITOR,))
        self.tasks = self.again()
        self.tasks.prepare()
        self.endpoints = Endpoints(self.store, bench.clock, self.servers, HOUR, HOUR)
        self.discoveries = self.use_cases()

    def use_cases(self) -> Discoveries:
        return Discoveries(self.store, self.bench.clock, self.bench.certificates, self.endpoints, self.plan)

    def again(self) -> DiscoveryTasks:
        """As a process has them that has just begun."""
        return DiscoveryTasks(self.store, self.bench.clock, self.servers, self.monitor, self.plan)

    def entry(self, serial: str, *names: str, begin: datetime | None = None, **changes: Any) -> dict[str, Any]:
        """What a monitor tells of a certificate."""
        begin = begin or self.bench.clock.now() - DAY
        return {
            "id": 1,
            "issuer_name": "C=US, O=Some CA, CN=R1",
            "common_name": names[0],
            "name_value": "\n".join(names),
            "not_before": begin.strftime("%Y-%m-%dT%H:%M:%S"),
            "not_after": (begin + 90 * DAY).strftime("%Y-%m-%dT%H:%M:%S"),
            "serial_number": serial,
        } | changes

    def standings(self) -> dict[str, Standing]:
        return {each.id: each.standing for each in self.discoveries.listing("", "", 100).items}

    def problem(self, task: str) -> str:
        return next(each.problem for each in self.discoveries.report().tasks if each.id == task)


def managed(bench: Bench, *names: str) -> str:
    """A certificate in the vault; its serial number."""
    bench.operations.work(bench.ask(name="ours", issuer=SELF, sans=SubjectAlternativeNames(dns_names=names)))
    facts = bench.current("ours").certificate
    assert facts is not None
    return facts.serial


def foreign(name: str) -> bytes:
    return der(Authority().issue(name).certificate)


def told(bench: Bench) -> list[str]:
    """The sightings that channels are told of."""
    waiting = bench.store.glance().outbox.batch(bench.vault.id, "all", bench.clock.now() + DAY, 100)
    return [each.event.details["sighting"] for each in waiting if each.event.type is EventType.UNKNOWN_CERTIFICATE]
