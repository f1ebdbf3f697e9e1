"""One request's part in the rate budgets of its CA: what it asks the governor, and what it tells it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from certbroker.domain.budget import Limits, PlannedOrder, Refusal, Scope, Standing, validated
from certbroker.domain.operation import Problem
from certbroker.ports.clock import Clock
from certbroker.ports.governor import Governor
from certbroker.ports.issuer import IssuanceRequest, IssuerUnavailable
from issuers.acme.account import Account
from issuers.acme.chain import names_of
from issuers.acme.messages import Identifier
from issuers.acme.problem import CARefused, ProblemDocument

# Boulder names no time when it has paused a name: somebody must follow its link. Asking once an hour whether they have
# costs it nothing.
_PAUSED: Final = timedelta(hours=1)
# A CA that is busy says for how long; a mistaken header must not stop all certificates for more than this.
_LONGEST_PAUSE_OF_ALL: Final = timedelta(hours=1)

# What Boulder writes (ratelimits/limiter.go, wfe2/wfe.go), the only place where it says which limit it means.
_SCOPES: Final = (
    ("exact set of", Scope.NAMES),
    ("too many certificates", Scope.DOMAIN),
    ("too many failed authorizations", Scope.NAME),
    ("prevented from requesting certificates for", Scope.NAME),
    ("too many new orders", Scope.ACCOUNT),
    ("too many currently pending authorizations", Scope.ACCOUNT),
    ("too many new registrations", Scope.CA),
    ("service busy", Scope.CA),
)
_WORD: Final = re.compile(r"[^\s\"',;()]+")


@dataclass(frozen=True, slots=True)
class OrderBudget:
    """The budgets for the orders of one request. `step` is the name of an attempt's order in the journal."""

    governor: Governor
    limits: Limits
    ca: str
    account: Account
    request: IssuanceRequest
    clock: Clock

    def look(self) -> None:
        """Before the CA is asked for anything. Raises IssuerUnavailable while it wants to be left alone."""
        look(self.governor, self.ca)

    def admit(self, step: str, identifiers: Sequence[Identifier], *, replaces: bool = False) -> None:
        """Right before an order is made; `replaces` when it names the certificate that it replaces.

        Raises IssuerUnavailable when it does not fit, or the CA wants a pause.
        """
        standing = Standing.REPLACEMENT if replaces else Standing.NEW
        if not replaces and self.request.replaces is not None and _same_names(self.request.replaces, identifiers):
            standing = Standing.RENEWAL
        refused = self.governor.admit(self._order(step, identifiers, standing), self.limits)
        if refused is not None:
            raise _held_back(refused)

    def issued(self, step: str, identifiers: Sequence[Identifier]) -> None:
        self.governor.issued(self._order(step, identifiers), self.limits)

    def failed(self, step: str, identifiers: Sequence[Identifier], problems: Iterable[ProblemDocument]) -> None:
        """The CA could not validate names of the order."""
        blamed = {validated(name) for problem in problems for name in _identifiers(problem)}
        order = self._order(step, identifiers)
        self.governor.failed(order, self.limits, [name for name in order.names if validated(name) in blamed])

    def ended(self, step: str) -> None:
        """The order came to nothing."""
        self.governor.ended(self._order(step, ()))

    def told(self, step: str, identifiers: Sequence[Identifier], error: CARefused) -> None:
        """Hold what the CA wants to be held, where its answer asks for that."""
        order = self._order(step, identifiers)
        asked = hold_of(error, order.names, self.clock.now())
        if asked is not None:
            self.governor.hold(order, asked.scope, asked.names, asked.until, error.problem.text())

    def _order(self, step: str, identifiers: Sequence[Identifier], standing: Standing = Standing.NEW) -> PlannedOrder:
        names = tuple(identifier.value for identifier in identifiers)
        return PlannedOrder(self.request.operation_id, step, self.ca, self.account.url or "", names, standing)


@dataclass(frozen=True, slots=True)
class Hold:
    """What to leave alone, and until when."""

    scope: Scope
    names: tuple[str, ...]
    until: datetime


def look(governor: Governor, ca: str) -> None:
    """Raise IssuerUnavailable while the CA wants to be left alone."""
    refused = governor.pause(ca)
    if refused is not None:
        raise _held_back(refused)


def hold_of(error: CARefused, names: tuple[str, ...], now: datetime) -> Hold | None:
    """What a CA's refusal of an order for these names says about others; None when it says nothing.

    RFC 8555 section 6.6 has a type and a time for this, but no field for what is limited. Boulder writes it into the
    text, and only names of the order itself are believed. A limit that is not recognised is taken for one of the names
    that the problem is about (section 6.7.1), and of the account where it is about none.
    """
    if error.kind != "rateLimited" and error.status not in (429, 503):
        return None
    scope, named = _subject(error, names)
    until = error.retry_at or (now + _PAUSED if scope is Scope.NAME else None)
    if until is None:
        return None
    if scope is Scope.CA:
        until = min(until, now + _LONGEST_PAUSE_OF_ALL)
    return Hold(scope, named, until)


def _subject(error: CARefused, names: tuple[str, ...]) -> tuple[Scope, tuple[str, ...]]:
    text = error.problem.detail.lower()
    identified = {validated(name) for name in _identifiers(error.problem)}
    blamed = identified | {validated(word.rstrip(".")) for word in _WORD.findall(text)}
    named = tuple(name for name in names if validated(name) in blamed)
    scope = next((scope for phrase, scope in _SCOPES if phrase in text), None)
    if scope is None and error.kind != "rateLimited" and error.status == 503:
        scope = Scope.CA
    if scope is None:
        scope = Scope.NAME if identified & {*map(validated, names)} else Scope.ACCOUNT
    if scope is Scope.DOMAIN:
        # The text has the registered domain, of which the order's names are parts.
        return scope, tuple(
            name for name in names if any(name == word or name.endswith("." + word) for word in blamed)
        ) or names
    if scope is Scope.NAME:
        return scope, named or names
    return scope, ()


def _identifiers(problem: ProblemDocument) -> list[str]:
    """The identifiers that a problem is about."""
    own = [problem.identifier.lower()] if problem.identifier else []
    return own + [name for nested in problem.subproblems for name in _identifiers(nested)]


def _same_names(certificate: bytes, identifiers: Sequence[Identifier]) -> bool:
    """Whether the certificate in DER is for exactly these identifiers."""
    try:
        return names_of(x509.load_der_x509_certificate(certificate)) == {*identifiers}
    except ValueError:
        return False  # One that was imported may be of a kind that cannot be read here.


def _held_back(refused: Refusal) -> IssuerUnavailable:
    return IssuerUnavailable(Problem("RateBudget", refused.sentence), refused.retry_at)
