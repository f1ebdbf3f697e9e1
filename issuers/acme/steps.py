"""The steps of one attempt, named so that each attempt has its own in the operation's journal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from certbroker.ports.issuer import Journal, StillWaiting

# Let's Encrypt issues five certificates for the same names in a week; more orders than that are a loop.
MAX_ATTEMPTS: Final = 5


class StartOver(Exception):
    """The order leads nowhere, and a new one may."""


class Later(Exception):
    """There is nothing to do now but to wait."""

    def __init__(self, reply: StillWaiting) -> None:
        super().__init__(reply.detail)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Steps:
    """Attempt `number`, from 1: the steps of the first are called `order` and so on, of the second `order.2`."""

    journal: Journal
    number: int

    @classmethod
    def all(cls, journal: Journal) -> Iterator[Steps]:
        """The attempts so far, at least one: each is begun by the intent of its order."""
        yield cls(journal, 1)
        for number in range(2, MAX_ATTEMPTS + 1):
            steps = cls(journal, number)
            if steps.intended("order") is None:
                return
            yield steps

    @classmethod
    def current(cls, journal: Journal) -> Steps:
        return [*cls.all(journal)][-1]

    def next(self) -> Steps | None:
        """The attempt after this, or None when there have been enough."""
        return Steps(self.journal, self.number + 1) if self.number < MAX_ATTEMPTS else None

    @property
    def order(self) -> str:
        """The name of the step at which the attempt's order is made."""
        return self._name("order")

    @property
    def committed(self) -> bool:
        """Whether the CA may have been given the CSR for the order of this attempt, so that a certificate may exist."""
        return (self.intended("finalize") or self.intended("certificate")) is not None

    def intend(self, step: str, **about: str) -> None:
        self.journal.intend(self._name(step), **about)

    def record(self, step: str, **reply: str) -> None:
        self.journal.record(self._name(step), **reply)

    def intended(self, step: str) -> Mapping[str, str] | None:
        return self.journal.intended(self._name(step))

    def recorded(self, step: str) -> Mapping[str, str] | None:
        return self.journal.recorded(self._name(step))

    def _name(self, step: str) -> str:
        return step if self.number == 1 else f"{step}.{self.number}"
