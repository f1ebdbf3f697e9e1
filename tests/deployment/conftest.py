"""A vault with a certificate by a scripted issuer, time that is moved by hand, and a way out to this machine."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_network

import pytest

from certbroker.app import Core, open_core
from certbroker.config import build
from certbroker.domain.audit import Caller
from certbroker.domain.channels import Channel
from certbroker.domain.events import EventType
from certbroker.domain.objects import Kind, Vault
from certbroker.domain.policy import SubjectAlternativeNames
from certbroker.domain.records import Version
from certbroker.egress import EgressPolicy, TLSProbe
from certbroker.services.deployment.endpoints import Endpoints
from certbroker.store.endpoints import Endpoint, Lane
from tests.support.issuer_bench import Bench

HOUR = timedelta(hours=1)


class Watched(Bench):
    """A bench whose endpoints are looked at, with a channel that everything is told to."""

    def __init__(self, core: Core, caller: Caller, vault: Vault) -> None:
        super().__init__(core, caller, vault)
        probe = TLSProbe(EgressPolicy((ip_network("127.0.0.0/8"), ip_network("::1/128"))))
        self.endpoints = Endpoints(self.store, self.clock, probe, HOUR, 24 * HOUR)

    def issued(self, name: str = "c", **policy: object) -> Version:
        """A new version, or the first one, in use from now on."""
        names = SubjectAlternativeNames(dns_names=("localhost",), ip_addresses=("127.0.0.1",))
        self.ask(self.issued_for(90), name=name, **({"sans": names} | policy))
        self.turn()
        self.clock.forward(timedelta(seconds=10))
        return self.current(name)

    def pem(self, version: Version) -> str:
        """The secret of a version: what a server loads."""
        secrets = self.core.broker.secrets
        return secrets.reveal(self.vault, secrets.find(self.vault, version.name, version.version))

    def look(self) -> list[Endpoint]:
        """Look at all that is due, and return how that is then."""
        for lane in Lane:
            while claimed := self.endpoints.claim(self.endpoints.due(lane, 10)):
                for each in claimed:
                    self.endpoints.look(each)
        return self.endpoints.listing(self.vault, "c")

    def told(self, kind: EventType) -> list[str]:
        """The messages of the events of that type, in the order in which they happened."""
        cursor = self.store.glance().outbox._cursor
        cursor.execute(
            "SELECT json_extract(event, '$.message') FROM outbox "
            "WHERE vault_id = ? AND json_extract(event, '$.type') = ? ORDER BY created",
            (self.vault.id, str(kind)),
        )
        return [row[0] for row in cursor.fetchall()]


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    core = open_core(build({"data": {"directory": tmp_path_factory.mktemp("deployment")}}))
    yield core
    core.close()


@pytest.fixture
def caller() -> Caller:
    return Caller("operator", "Test")


@pytest.fixture
def bench(core: Core, caller: Caller) -> Iterator[Watched]:
    """In a vault of its own, of which nothing is left to be looked after."""
    vault = core.broker.vaults.create(caller, f"vault-{secrets.token_hex(4)}")
    channel = Channel(vault.id, "all", "test", events=("*",))
    core.broker.store.write(lambda transaction: transaction.channels.add(channel))
    yield Watched(core, caller, vault)
    for each in core.broker.listings.objects(vault, Kind.CERTIFICATE, "", 25).items:
        core.broker.deletions.delete(caller, vault, Kind.CERTIFICATE, each.name)
