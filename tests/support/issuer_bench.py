"""An engine that is moved by hand, with an issuer that does as it is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.keys import KeySpec, PrivateKey
from certbroker.domain.lifecycle import Lifecycle
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import Operation, Version
from certbroker.keystore.software import SoftwareKeyStore
from certbroker.ports.issuer import (
    CertificateIssued,
    IssuanceRequest,
    IssuerSettings,
    Journal,
    Reply,
    Resources,
    StillWaiting,
)
from certbroker.ports.issuer_abilities import RenewalWindow
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.issuance.operations import Operations
from certbroker.services.issuers.governor import Governor
from certbroker.services.issuers.issuers import IssuerChanges, Issuers
from certbroker.services.objects.certificates import Certificates
from certbroker.services.renewal.renewals import Renewals
from certbroker.services.revocation.revocations import Revocations
from issuers import Kinds
from tests.support.certificates import Authority, der
from tests.support.clock import SteppedClock

Step = Callable[[IssuanceRequest, Journal], Reply]


class ScriptedKind:
    """An issuer that does the next of its steps each time it is asked."""

    provider = "Scripted"
    local = False
    manual = False

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.window: Callable[[bytes], RenewalWindow | None] = lambda certificate: None
        self.requests: list[IssuanceRequest] = []
        self.asked: list[bytes] = []
        self.abandoned: list[tuple[str, bytes]] = []
        self.revoked: list[tuple[bytes, int, PrivateKey | None]] = []
        self.answers: list[Exception] = []

    def check(self, settings: IssuerSettings) -> None:
        """Takes any settings."""

    def open(self, settings: IssuerSettings, resources: Resources) -> ScriptedKind:
        return self

    def renewal_window(self, certificate: bytes) -> RenewalWindow | None:
        self.asked.append(certificate)
        return self.window(certificate)

    def advance(self, request: IssuanceRequest, journal: Journal) -> Reply:
        self.requests.append(request)
        return self.steps.pop(0)(request, journal)

    def revoke(self, certificate: bytes, reason: int, key: PrivateKey | None = None) -> None:
        """Says yes, unless there is an answer left to give instead."""
        self.revoked.append((certificate, reason, key))
        if self.answers:
            raise self.answers.pop(0)

    def abandon(self, request: IssuanceRequest, journal: Journal) -> None:
        self.abandoned.append((request.operation_id, request.csr))


class SilentKind:
    """An issuer that does the same, and has nothing to say about renewals."""

    provider = "Silent"
    local = False
    manual = False

    def __init__(self, scripted: ScriptedKind) -> None:
        self._scripted = scripted

    def check(self, settings: IssuerSettings) -> None:
        """Takes any settings."""

    def open(self, settings: IssuerSettings, resources: Resources) -> SilentKind:
        return self

    def advance(self, request: IssuanceRequest, journal: Journal) -> Reply:
        return self._scripted.advance(request, journal)


class Bench:
    """One vault with a scripted issuer, and an engine that is moved by hand."""

    def __init__(self, core: Core, caller: Caller, vault: Vault) -> None:
        self.core, self.caller, self.vault = core, caller, vault
        self.clock, self.kind = SteppedClock(), ScriptedKind()
        self.store = core.broker.store
        core.broker.issuers.set(caller, vault, "ca", IssuerChanges(provider="Scripted"))
        found = Kinds({"scripted": self.kind, "silent": SilentKind(self.kind)})
        governor = Governor(self.store, self.clock)
        signers = core.broker.signers
        self.issuers = Issuers(self.store, core.seal, self.clock, found, None, {}, None, governor, signers)  # type: ignore[arg-type]
        self.operations = self.worker("one")
        self.renewals = Renewals(self.store, self.issuers, self.operations, self.clock, Inbox(), core.broker.meters)
        self.certificates = Certificates(
            self.store, core.seal, SoftwareKeyStore(), self.clock, self.operations, Inbox()
        )
        self.revocations = Revocations(self.store, core.seal, SoftwareKeyStore(), self.issuers, self.clock, Inbox())
        self.authority = Authority()

    def worker(self, owner: str) -> Operations:
        issuers = self.issuers
        return Operations(
            self.store, self.core.seal, SoftwareKeyStore(), issuers, self.clock, owner, self.core.broker.meters
        )

    def policy(self, **changes: Any) -> CertificatePolicy:
        """One that the scripted issuer is the issuer of."""
        return CertificatePolicy(KeySpec("EC"), subject="CN=www.example.com", **({"issuer": "ca"} | changes))

    def ask(self, *steps: Step, name: str = "c", **policy: Any) -> Operation:
        """Ask for a certificate that the issuer answers with these steps."""
        self.kind.steps += steps
        wanted = self.policy(**policy)
        return self.certificates.create(self.caller, self.vault, name, lambda stored: wanted, Changes())

    def turn(self) -> None:
        """Work once on everything that is due."""
        for operation in self.operations.claim(self.operations.due(10)):
            self.operations.work(operation)

    def now(self, made: Operation) -> Operation:
        found = self.store.glance().operations.get(made.id)
        assert found is not None
        return found

    def issue(self, request: IssuanceRequest, journal: Journal) -> Reply:
        return CertificateIssued((der(self.authority.answer(request.csr)), der(self.authority.certificate)))

    def issued_for(self, days: float) -> Step:
        """A step that issues a certificate of that lifetime, from now."""

        def issue(request: IssuanceRequest, journal: Journal) -> Reply:
            now = self.clock.now()
            leaf = self.authority.answer(request.csr, timedelta(days=days), now)
            return CertificateIssued((der(leaf), der(self.authority.certificate)))

        return issue

    def look_after(self) -> None:
        """See to every certificate that is due, asking its issuer where that is due."""
        looks = self.renewals.look(self.renewals.claim(100))
        self.renewals.attend(
            [self.renewals.ask(each) if self.renewals.is_question_due(each) else each for each in looks]
        )

    def until(self, end: datetime) -> None:
        """Let time pass, stopping whenever something is due, and do it."""
        while True:
            due = [moment for moment in (self.renewals.next_due(), self.operations.next_due()) if moment is not None]
            if not due or min(due) > end:
                break
            self.clock.moment = max(self.clock.moment, min(due))
            self.look_after()
            self.turn()
        self.clock.moment = end

    def current(self, name: str = "c") -> Version:
        found = self.store.glance().objects.get(self.vault.id, Kind.CERTIFICATE, name)
        assert found is not None
        return found

    def lifecycle(self, name: str = "c") -> Lifecycle:
        care = self.store.glance().lifecycles.get(self.vault.id, name)
        assert care is not None
        return care.lifecycle


def wait(seconds: float) -> Step:
    return lambda request, journal: StillWaiting(timedelta(seconds=seconds), "The issuer is thinking.")


def fail(error: Exception) -> Step:
    def step(request: IssuanceRequest, journal: Journal) -> Reply:
        raise error

    return step
