"""Who keeps issuers from asking a CA for more than it allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from certbroker.domain.budget import Bucket, Limit, Limits, PlannedOrder, Refusal, Scope, Standing


@dataclass(frozen=True, slots=True)
class BudgetState:
    """How one budget stands."""

    scope: Scope
    what: str
    """What is counted, for whom."""
    limit: Limit | None
    """None where nothing is counted and only a hold is possible."""
    left: int | None
    """How many fit now."""
    next_fit: datetime
    """When the next fits, for an order that is not a renewal."""
    held_until: datetime | None
    reason: str | None
    """Why it is held, in the CA's words."""
    bucket: Bucket
    exempt: frozenset[Standing]
    """Orders that it holds back in no case, but for a pause that the CA has asked for."""


class Governor(Protocol):
    """Keeps the budgets of all vaults and replicas at all CAs. Thread-safe; every method is one transaction.

    An order is named by its operation and step. `admit` is called right before it is made, after the journal says so;
    then exactly one of `issued`, `failed` and `ended` matters, and repeating any of them changes nothing: so a crash
    anywhere between costs no budget twice and gives none back twice. What is never ended, because its operation was
    deleted, is given back after eight days, the longest that an operation lives.

    Nobody is delayed but the order that is refused.
    """

    def admit(self, order: PlannedOrder, limits: Limits) -> Refusal | None:
        """Take or reserve a place in every budget, or say why the order does not fit and when to ask again.

        Admitting the same order again takes nothing more; then only a hold refuses it. An order that replaces a
        certificate by name (RFC 9773 section 5) is refused by a hold alone, however much of a budget is used up.
        """
        ...

    def issued(self, order: PlannedOrder, limits: Limits) -> None:
        """A certificate came of the order."""
        ...

    def failed(self, order: PlannedOrder, limits: Limits, names: Sequence[str]) -> None:
        """The order came to nothing because the CA could not validate these of its names."""
        ...

    def ended(self, order: PlannedOrder) -> None:
        """The order came to nothing for another reason: what it had reserved is given back."""
        ...

    def hold(self, order: PlannedOrder, scope: Scope, names: Sequence[str], until: datetime, reason: str) -> None:
        """The CA asked for a pause: of everything, of the account, of these exact names, or (by the scopes DOMAIN and
        NAME) of the registered domains of `names`, or of `names` one by one. A hold is never made shorter by another.
        """
        ...

    def pause(self, ca: str) -> Refusal | None:
        """Why the CA must not be asked for anything at the moment, or None."""
        ...

    def explain(self, ca: str, account: str | None, names: Sequence[str], limits: Limits) -> list[BudgetState]:
        """How the budgets of an account stand, which may be still to be made, and those of an order for these names."""
        ...


@runtime_checkable
class HasBudgets(Protocol):
    """An issuer that keeps to rate budgets."""

    def budgets(self, names: Sequence[str]) -> list[BudgetState]:
        """How its budgets stand, and those of an order for these names. Makes no outside call."""
        ...
