"""A broker that lives in simulated time: the real core on a database in memory, woken by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.simulation.ca import Issued
from benchmarks.simulation.memory import MemoryDatabase
from benchmarks.simulation.world import SILENT, SUGGESTING, Wanted
from certbroker.app import Core, unseal
from certbroker.config import build
from certbroker.domain.audit import Caller
from certbroker.domain.keys import KeySpec
from certbroker.domain.lifecycle import Health
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.domain.operation import Completed
from certbroker.domain.policy import AUTO_RENEW, CertificatePolicy, LifetimeAction, SubjectAlternativeNames
from certbroker.foundation import lay_foundation
from certbroker.ports.issuer import IssuerKind
from certbroker.services.issuers.issuers import IssuerChanges

# As many as the engine takes at once (certbroker/engine).
_LOOKS = 200
_OPERATIONS = 256

_OPERATOR = Caller("operator", "Simulation")

# For lives of 200 days, as people wrote it for those of a year; others have the percentage that policies start with.
_DAYS_BEFORE = LifetimeAction(AUTO_RENEW, days_before_expiry=30)
_PERCENTAGE = LifetimeAction(AUTO_RENEW, lifetime_percentage=80)
_LONG_LIFE = timedelta(days=200)


# Why a certificate is made that somebody asks for. All others are renewals.
FIRST = "First"


class BrokerClock:
    """What the broker takes for the time, and the time that has really passed since the start."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment
        self.skew = timedelta(0)
        self._start = moment

    def now(self) -> datetime:
        return self.moment

    def passed(self) -> timedelta:
        return self.moment - self.skew - self._start


class Site:
    """The broker, with a vault for each team that has asked for certificates."""

    def __init__(self, directory: Path, clock: BrokerClock, kinds: Mapping[str, IssuerKind]) -> None:
        self.clock = clock
        self.looks = 0
        self.on_certificate: Callable[[str], None] = lambda why: None
        foundation = lay_foundation(build({"data": {"directory": directory}}))
        self.database = MemoryDatabase(foundation.store)
        self.core: Core = unseal(replace(foundation, clock=clock), kinds=kinds)
        self._broker = self.core.broker
        self._vaults: dict[str, Vault] = {}

    def close(self) -> None:
        self.core.close()

    def ask(self, wanted: Wanted) -> None:
        """Somebody creates a certificate."""
        policy = policy_of(wanted)
        self._broker.certificates.create(
            _OPERATOR, self.vault(wanted.team), wanted.name, lambda stored: policy, Changes()
        )

    def vault(self, team: str) -> Vault:
        """The vault of a team, with an issuer for each CA and accounts of its own there."""
        if team not in self._vaults:
            vault = self._broker.vaults.create(_OPERATOR, team)
            for ca in (SUGGESTING, SILENT):
                changes = IssuerChanges(provider="Simulated", account_id=f"https://{ca}.example/account/{team}")
                self._broker.issuers.set(_OPERATOR, vault, ca, changes)
            self._vaults[team] = vault
        return self._vaults[team]

    def next_due(self) -> datetime | None:
        """When there is work again, by the broker's clock."""
        due = (self._broker.renewals.next_due(), self._broker.operations.next_due())
        return min((moment for moment in due if moment is not None), default=None)

    def work(self) -> None:
        """Do what the engine does, until nothing is due."""
        while self._look_after() + self._issue():
            pass

    def keep_house(self) -> None:
        """What the engine does every minute."""
        broker = self._broker
        broker.housekeeping.beat()
        broker.housekeeping.forget_old_operations()
        broker.governor.tidy()
        broker.operations.bring_forward()

    def health(self) -> Counter[Health]:
        """How many certificates are in which health."""
        return Counter(self._broker.store.glance().lifecycles.counts())

    def unwell(self, expected: Mapping[Wanted, Issued | None]) -> list[str]:
        """What the broker has otherwise than it should: each certificate is the newest of its CA, and looked after."""
        store, found = self._broker.store, []
        for wanted, issued in expected.items():
            vault = self.vault(wanted.team)
            version = store.glance().objects.get(vault.id, Kind.CERTIFICATE, wanted.name)
            care = store.glance().lifecycles.get(vault.id, wanted.name)
            facts = version.certificate if version else None
            if facts is None or issued is None or facts.sha256 != issued.sha256:
                operation = store.glance().operations.pending(vault.id, wanted.name)
                found.append(f"{wanted.name} is not the newest certificate of its CA: {operation}, {issued}, {care}")
            elif care is None or care.lifecycle.health not in (Health.HEALTHY, Health.RENEWING):
                found.append(f"{wanted.name} is {care.lifecycle if care else 'not looked after'}")
        return found

    def _look_after(self) -> int:
        renewals = self._broker.renewals
        looks = renewals.look(renewals.claim(_LOOKS))
        self.looks += len(looks)
        if looks:
            renewals.attend([renewals.ask(look) if renewals.is_question_due(look) else look for look in looks])
        return len(looks)

    def _issue(self) -> int:
        operations = self._broker.operations
        claimed = operations.claim(operations.due(_OPERATIONS))
        if claimed:
            settlements = [operations.steps.take(operation) for operation in claimed]
            operations.settle(settlements)
            for settlement in settlements:
                if isinstance(settlement.state, Completed):
                    cause = settlement.operation.cause
                    self.on_certificate(FIRST if cause is None else str(cause.trigger))
        return len(claimed)


def policy_of(wanted: Wanted) -> CertificatePolicy:
    """A P-256 key, new for each version, and the certificate's names."""
    return CertificatePolicy(
        KeySpec("EC", curve="P-256"),
        subject=f"CN={wanted.dns_names[0]}",
        sans=SubjectAlternativeNames(dns_names=wanted.dns_names),
        issuer=wanted.ca,
        lifetime_actions=(_DAYS_BEFORE if wanted.life >= _LONG_LIFE else _PERCENTAGE,),
    )
