"""The issuer kind that asks the simulated CAs, step by step as the ACME kind does, but without the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from benchmarks.simulation.ca import AlreadyReplaced, Down, Limited, SimulatedCA, Unvalidated
from certbroker.domain.budget import PlannedOrder, Scope, Standing
from certbroker.domain.csr import names_for
from certbroker.domain.operation import Problem
from certbroker.ports.issuer import (
    CertificateIssued,
    IssuanceRequest,
    IssuerSettings,
    IssuerUnavailable,
    Journal,
    Reply,
    RequestRefused,
    Resources,
    StillWaiting,
)
from certbroker.ports.issuer_abilities import RenewalWindow
from issuers.acme.limits import LETS_ENCRYPT

_DOWN = Problem("IssuerUnavailable", "The CA cannot be reached.")


class SimulatedKind:
    """Issuers are named after their CA; `account_id` is the account there."""

    provider = "Simulated"
    local = False
    manual = False

    def __init__(self, cas: Mapping[str, SimulatedCA], ask_again: timedelta, asked: Callable[[], None]) -> None:
        self._cas = cas
        self._ask_again = ask_again
        self._asked = asked

    def check(self, settings: IssuerSettings) -> None:
        """Takes any settings."""

    def open(self, settings: IssuerSettings, resources: Resources) -> SimulatedIssuer:
        ca, account = self._cas[settings.name], settings.account_id or ""
        if ca.suggests:
            return SuggestingIssuer(ca, account, resources, self._ask_again, self._asked)
        return SimulatedIssuer(ca, account, resources)


@dataclass(frozen=True, slots=True)
class SimulatedIssuer:
    """One account at one CA."""

    ca: SimulatedCA
    account: str
    resources: Resources

    def advance(self, request: IssuanceRequest, journal: Journal) -> Reply:
        paused = self.resources.governor.pause(self.ca.name)
        if paused is not None:
            raise IssuerUnavailable(Problem("RateBudget", paused.sentence), paused.retry_at)
        order = self._planned(request)
        entry = journal.recorded("order")
        try:
            url = entry["url"] if entry else self._new_order(order, request, journal)
            answer = self.ca.finalize(url, request.csr)
        except Down:
            raise IssuerUnavailable(_DOWN, committed=journal.recorded("order") is not None) from None
        except Unvalidated:
            self.resources.governor.failed(order, LETS_ENCRYPT, order.names)
            return RequestRefused(Problem("IssuerRefused", "The CA found no answer to its challenge."))
        if isinstance(answer, timedelta):
            return StillWaiting(answer, "The CA is making the certificate.")
        self.resources.governor.issued(order, LETS_ENCRYPT)
        return CertificateIssued(answer)

    def _new_order(self, order: PlannedOrder, request: IssuanceRequest, journal: Journal) -> str:
        self.ca.directory()
        refused = self.resources.governor.admit(order, LETS_ENCRYPT)
        if refused is not None:
            raise IssuerUnavailable(Problem("RateBudget", refused.sentence), refused.retry_at)
        replaces = request.replaces if order.standing is Standing.REPLACEMENT else None
        journal.intend("order", names=" ".join(order.names))
        try:
            url = self._ordered(order.names, replaces)
        except Limited as limited:
            until = self._now() + limited.wait
            self.resources.governor.hold(order, Scope.ACCOUNT, (), until, str(limited))
            raise IssuerUnavailable(Problem("RateLimited", f"The CA says: {limited}."), until) from None
        journal.record("order", url=url)
        return url

    def _ordered(self, names: tuple[str, ...], replaces: bytes | None) -> str:
        """An order that replaces a certificate, or, where another one does so already, an order like any other."""
        try:
            return self.ca.new_order(self.account, names, replaces)
        except AlreadyReplaced:
            return self.ca.new_order(self.account, names)

    def _planned(self, request: IssuanceRequest) -> PlannedOrder:
        names = tuple(names_for(request.policy).dns_names)
        standing = Standing.NEW
        if request.replaces is not None:
            standing = Standing.REPLACEMENT if self.ca.suggests else Standing.RENEWAL
        return PlannedOrder(request.operation_id, "order", self.ca.name, self.account, names, standing)

    def _now(self) -> datetime:
        return self.resources.clock.now()


@dataclass(frozen=True, slots=True)
class SuggestingIssuer(SimulatedIssuer):
    """One at a CA that says when it wants certificates renewed."""

    ask_again: timedelta
    asked: Callable[[], None]

    def renewal_window(self, certificate: bytes) -> RenewalWindow | None:
        self.asked()
        try:
            window = self.ca.window(certificate)
        except Down:
            raise IssuerUnavailable(_DOWN) from None
        return None if window is None else RenewalWindow(*window, self.ask_again)
