"""Certificates that are not ours, or not yet: what was seen, and what somebody makes of it."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cryptography import x509
from msgspec.structs import replace

from certbroker.domain import chain as chains
from certbroker.domain.audit import Caller, record
from certbroker.domain.discovery import Sighting, Standing, Target
from certbroker.domain.endpoints import Place, starttls_at
from certbroker.domain.errors import Conflict, Invalid, NotFound
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Changes, Kind, Page, Vault
from certbroker.domain.policy import (
    AUTO_RENEW,
    CertificatePolicy,
    LifetimeAction,
    SubjectAlternativeNames,
    is_address,
)
from certbroker.domain.records import Operation
from certbroker.ports.clock import Clock
from certbroker.services.deployment.endpoints import Endpoints
from certbroker.services.objects.certificates import Certificates
from certbroker.services.objects.listings import decode, page
from certbroker.store.database import SQLiteStore
from certbroker.store.discovery import Task
from certbroker.store.transaction import SQLTransaction

# As many sightings are kept; then those go that have not been seen for the longest.
MOST_SIGHTINGS: Final = 100_000

SCAN: Final = "scan"
INVENTORY: Final = "inventory"
_MOST_NAME: Final = 127


def ct(monitor: str) -> str:
    """The task that asks a CT monitor."""
    return f"ct {monitor}"


@dataclass(frozen=True, slots=True)
class DiscoveryPlan:
    """What is looked at. `rate` is in looks a second, `every` the time between two rounds."""

    targets: tuple[Target, ...] = ()
    rate: float = 20.0
    every: timedelta = timedelta(days=1)
    monitors: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        if not self.targets and not self.monitors:
            return ()
        scan = (SCAN,) if self.targets else ()
        return (INVENTORY, *scan, *(ct(monitor) for monitor in self.monitors))


@dataclass(frozen=True, slots=True)
class DiscoveryReport:
    """How discovery goes."""

    plan: DiscoveryPlan
    tasks: tuple[Task, ...]
    counts: dict[Standing, int]


class Discoveries:
    """Shows what was seen, and lets somebody ignore or adopt it."""

    def __init__(
        self,
        store: SQLiteStore,
        clock: Clock,
        certificates: Certificates,
        endpoints: Endpoints,
        plan: DiscoveryPlan,
    ) -> None:
        self._store = store
        self._clock = clock
        self._certificates = certificates
        self._endpoints = endpoints
        self.plan = plan

    def report(self) -> DiscoveryReport:
        with self._store.read() as transaction:
            return DiscoveryReport(self.plan, tuple(transaction.discovery.tasks()), transaction.discovery.counts())

    def listing(self, standing: str, after: str, size: int) -> Page[Sighting]:
        """Sightings of one standing, or all. Raises Invalid."""
        if standing and standing not in set(Standing):
            raise Invalid(f"state is one of {', '.join(Standing)}.")
        chosen = Standing(standing) if standing else None
        rows = self._store.glance().discovery.listing(chosen, decode(after), size + 1)
        return page(rows, size, lambda each: each.id)

    def get(self, sighting_id: str) -> Sighting:
        """One of them. Raises NotFound."""
        return _found(self._store.glance().discovery.get(sighting_id), sighting_id)

    def hurry(self, caller: Caller) -> None:
        """Look now. Raises Invalid where nothing is configured."""
        if not self.plan.tasks:
            raise Invalid("Nothing is configured to be looked at: set discovery.hosts or discovery.monitors.")
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> None:
            for task in self.plan.tasks:
                transaction.discovery.hurry(now, task)
            transaction.audit(record(caller, now, "/discovery/scan", status=202))

        self._store.write(work)

    def ignore(self, caller: Caller, sighting_id: str) -> Sighting:
        """Nobody needs to be told of it any more. Safe to repeat. Raises NotFound."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> Sighting:
            found = _found(transaction.discovery.get(sighting_id), sighting_id)
            transaction.discovery.judge(found.id, Standing.IGNORED)
            transaction.audit(record(caller, now, f"/discovery/{found.id}/ignore"))
            return replace(found, standing=Standing.IGNORED)

        return self._store.write(work)

    def adopt(
        self, caller: Caller, vault: Vault, sighting_id: str, issuer: str, name: str = ""
    ) -> tuple[Sighting, Operation]:
        """Have a certificate for the same names made and managed, and watch the server until that one is served.

        Nobody gets at the private key of what was seen, so the broker makes a key of its own. Raises NotFound, Invalid,
        Conflict, and what a create raises.
        """
        found = _unmanaged(self.get(sighting_id))
        name = name or name_for(found)
        taken = f"There is a certificate named {name} in this vault: choose another name for this one."
        if self._store.glance().objects.head(vault.id, Kind.CERTIFICATE, name) is not None:
            raise Conflict(taken)
        policy = policy_for(found, issuer)
        now = self._clock.now()

        # What was looked at above may have changed by the time that all of it is written.
        def revise(stored: CertificatePolicy | None) -> CertificatePolicy:
            if stored is not None:
                raise Conflict(taken)
            return policy

        def beside(transaction: SQLTransaction) -> None:
            _unmanaged(_found(transaction.discovery.get(sighting_id), sighting_id))
            transaction.discovery.judge(found.id, Standing.ADOPTED, vault.id, name)
            transaction.audit(record(caller, now, f"/discovery/{found.id}/adopt"))
            for place in _served_at(found):
                self._endpoints.add_with(transaction, caller, vault, name, place)

        operation = self._certificates.create(caller, vault, name, revise, Changes(), beside=beside)
        return replace(found, standing=Standing.ADOPTED, vault_id=vault.id, name=name), operation


def _unmanaged(found: Sighting) -> Sighting:
    """The same. Raises Conflict where somebody has adopted it, or it is in a vault."""
    if found.standing in (Standing.KNOWN, Standing.ADOPTED):
        raise Conflict(f"It is managed already, as {found.name}.")
    return found


def _served_at(found: Sighting) -> list[Place]:
    """Where it was seen to be served. A monitor's URL has told of it, and does not serve it."""
    if not found.leaf:
        return []
    parts = [text.rpartition(":") for text in found.places if "/" not in text]
    ports = [(host.strip("[]"), int(port)) for host, _, port in parts if port.isdigit()]
    return [Place(host, port, starttls=starttls_at(port)) for host, port in ports]


def name_for(found: Sighting) -> str:
    """A name for a certificate in a vault: the first that it is for, in the characters that a vault takes."""
    base = next(iter(found.names), found.subject.partition("CN=")[2] or found.id)
    return re.sub(r"[^0-9A-Za-z]+", "-", base.replace("*", "wildcard")).strip("-")[:_MOST_NAME] or found.id


def policy_for(found: Sighting, issuer: str) -> CertificatePolicy:
    """A policy for the same names, and a key of the same kind as far as that is known. Raises Invalid."""
    names = [name for name in found.names if not is_address(name)]
    addresses = [name for name in found.names if is_address(name)]
    if not found.names:
        raise Invalid("The certificate is for no host name and no address, so there is nothing to make one for.")
    key = KeySpec()
    if found.leaf:
        with contextlib.suppress(ValueError, Invalid):  # A kind of key that is not made here.
            key = chains.policy_of(x509.load_der_x509_certificate(found.leaf)).key
    return CertificatePolicy(
        key=key,
        sans=SubjectAlternativeNames(dns_names=tuple(names), ip_addresses=tuple(addresses)),
        lifetime_actions=(LifetimeAction(AUTO_RENEW, lifetime_percentage=80),),
        issuer=issuer,
    )


def trim(transaction: SQLTransaction) -> None:
    """Keep no more sightings than that."""
    excess = sum(transaction.discovery.counts().values()) - MOST_SIGHTINGS
    if excess > 0:
        transaction.discovery.drop_oldest(excess)


def _found(sighting: Sighting | None, sighting_id: str) -> Sighting:
    if sighting is None:
        raise NotFound("sighting", f"There is no sighting {sighting_id[:64]} here.")
    return sighting
