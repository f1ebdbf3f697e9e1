"""Looking at where certificates should be served, and telling people of those that are not."""

from __future__ import annotations

import time
from datetime import timedelta
from ipaddress import ip_address
from typing import Final

import structlog
from msgspec.structs import replace

from certbroker.domain.audit import Caller, record
from certbroker.domain.endpoints import MOST_ENDPOINTS, Expected, Place, Serving, Sight, judge, next_look, seen
from certbroker.domain.errors import Invalid, NotFound
from certbroker.domain.objects import Kind, Vault
from certbroker.domain.records import Version
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.probe import Failure, NotPresented, Probe
from certbroker.services.deployment import events
from certbroker.services.notification.outbox import publish
from certbroker.services.objects.naming import live
from certbroker.store.database import SQLiteStore
from certbroker.store.endpoints import DueEndpoint, Endpoint, Lane
from certbroker.store.transaction import SQLTransaction

# Longer than a look may take, with all the addresses of its name.
LEASE: Final = timedelta(minutes=5)

# Seconds for one address, and for all of them.
_HANDSHAKE: Final = 10.0
_WHOLE_LOOK: Final = 60.0

# How often an endpoint is looked at that could not be for a reason of ours.
_AGAIN: Final = timedelta(minutes=5)

_log = structlog.get_logger("certbroker.endpoints")


class Endpoints:
    """Keeps the endpoints of certificates, and looks at them. `grace` is how long a deployment may take; what serves
    the version in use is looked at again about `every` so often.
    """

    def __init__(self, store: SQLiteStore, clock: Clock, probe: Probe, grace: timedelta, every: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._probe = probe
        self._grace = grace
        self._every = every

    def add(self, caller: Caller, vault: Vault, name: str, place: Place) -> Endpoint:
        """Have a place looked at from now on. Safe to repeat. Raises NotFound, Invalid."""
        return self._store.write(lambda transaction: self.add_with(transaction, caller, vault, name, place))

    def add_with(self, transaction: SQLTransaction, caller: Caller, vault: Vault, name: str, place: Place) -> Endpoint:
        """The same together with something else that is written."""
        now = self._clock.now()
        head = live(transaction, vault.id, Kind.CERTIFICATE, name)
        before = transaction.endpoints.of(vault.id, name)
        if len(before) >= MOST_ENDPOINTS and all(each.place != place for each in before):
            raise Invalid(f"A certificate has at most {MOST_ENDPOINTS} endpoints: remove one that is not needed.")
        transaction.endpoints.add(vault.id, name, place, now)
        transaction.audit(record(caller, now, f"/certificates/{head.name}/endpoints/{place.id}"))
        return _only(transaction, vault.id, name, place.id)

    def listing(self, vault: Vault, name: str) -> list[Endpoint]:
        """The endpoints of a certificate. Raises NotFound."""
        with self._store.read() as transaction:
            live(transaction, vault.id, Kind.CERTIFICATE, name)
            return transaction.endpoints.of(vault.id, name)

    def remove(self, caller: Caller, vault: Vault, name: str, endpoint: str) -> Endpoint:
        """Look at a place no more. Raises NotFound."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> Endpoint:
            head = live(transaction, vault.id, Kind.CERTIFICATE, name)
            found = _only(transaction, vault.id, name, endpoint)
            transaction.endpoints.remove(vault.id, name, endpoint)
            transaction.lifecycles.disturb(vault.id, name, now)
            transaction.audit(record(caller, now, f"/certificates/{head.name}/endpoints/{endpoint}"))
            return found

        return self._store.write(work)

    def due(self, lane: Lane, count: int) -> list[DueEndpoint]:
        """What is to be looked at, one of each host."""
        return self._store.glance().endpoints.due(lane, self._clock.now(), count)

    def claim(self, chosen: list[DueEndpoint]) -> list[Endpoint]:
        """Take those; nobody else looks at them before the lease is over."""
        if not chosen:
            return []
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> list[Endpoint]:
            claimed = [transaction.endpoints.claim(due, now, now + LEASE) for due in chosen]
            return [each for each in claimed if each is not None]

        return self._store.write(work)

    def look(self, endpoint: Endpoint) -> None:
        """Look at one that was claimed, and store what was seen. Raises nothing."""
        try:
            with self._store.read() as transaction:
                current = transaction.objects.get(endpoint.vault_id, Kind.CERTIFICATE, endpoint.name)
                care = transaction.lifecycles.get(endpoint.vault_id, endpoint.name)
            if current is None or current.certificate is None:
                # There is nothing to compare with before its first version is made, which disturbs us.
                self._store.write(lambda transaction: transaction.endpoints.save(endpoint, None))
                return
            failpoint("endpoint.look.before")
            resting = None if care is None else care.staged
            expected = Expected(current.version, current.certificate, current.attributes.enabled, resting)
            sights = self._sights(endpoint, expected)
            failpoint("endpoint.look.after")
            self._store.write(lambda transaction: self._settle(transaction, endpoint, current, expected, sights))
        except Exception:
            # It is due again when the lease is over.
            _log.exception("endpoint could not be looked at", certificate=endpoint.name, endpoint=endpoint.place.text)

    def _sights(self, endpoint: Endpoint, expected: Expected) -> tuple[Sight, ...]:
        """What every address shows, as far as there is time for it."""
        place, until = endpoint.place, time.monotonic() + _WHOLE_LOOK
        try:
            addresses = self._probe.addresses(place.address or place.host, place.port)
        except NotPresented as reason:
            return (_unseen(place.address or place.host, reason),)
        known: dict[str, str] = {expected.facts.sha256: expected.version}
        sights: list[Sight] = []
        for address in addresses:
            left = until - time.monotonic()
            if left < 1:
                sights.append(
                    Sight(str(address), Serving.UNREACHABLE, problem="The addresses before it took too long.")
                )
                continue
            sights.append(self._sight(endpoint, str(address), expected, known, min(left, _HANDSHAKE)))
        return tuple(sights)

    def _sight(
        self, endpoint: Endpoint, address: str, expected: Expected, known: dict[str, str], timeout: float
    ) -> Sight:
        place = endpoint.place
        try:
            shown = self._probe.look(
                ip_address(address), place.port, place.asked_for, starttls=place.starttls, timeout=timeout
            )
        except NotPresented as reason:
            return _unseen(address, reason)
        sight = judge(place, address, shown.chain, expected, known, self._clock.now())
        if sight.serving is not Serving.OTHER or len(known) > 1:
            return sight
        # Only now are all the versions worth reading.
        with self._store.read() as transaction:
            versions = transaction.objects.all_versions(endpoint.vault_id, Kind.CERTIFICATE, endpoint.name)
        known |= {each.certificate.sha256: each.version for each in versions if each.certificate is not None}
        return judge(place, address, shown.chain, expected, known, self._clock.now())

    def _settle(
        self,
        transaction: SQLTransaction,
        endpoint: Endpoint,
        current: Version,
        expected: Expected,
        sights: tuple[Sight, ...],
    ) -> None:
        """Store what was seen, and tell people where that has become an alarm, or ceased to be one."""
        now = self._clock.now()
        before, after = endpoint.standing, seen(endpoint.standing, expected, sights, self._grace, now)
        looked = replace(endpoint, standing=after)
        if not transaction.endpoints.save(looked, next_look(after, endpoint.place, self._every, now)):
            return
        if (before.alarm and before.alarm.reason) != (after.alarm and after.alarm.reason):
            transaction.lifecycles.disturb(endpoint.vault_id, endpoint.name, now)
        publish(transaction, *events.of_endpoint(endpoint, after, current, now))


def _only(transaction: SQLTransaction, vault_id: int, name: str, endpoint: str) -> Endpoint:
    """One endpoint of a certificate. Raises NotFound."""
    for each in transaction.endpoints.of(vault_id, name):
        if each.place.id == endpoint:
            return each
    raise NotFound("endpoint", f"The certificate {name} has no endpoint with the id {endpoint[:64]}.")


def _unseen(address: str, reason: NotPresented) -> Sight:
    serving = Serving.GARBAGE if reason.failure is Failure.GARBAGE else Serving.UNREACHABLE
    return Sight(address, serving, problem=reason.message)
