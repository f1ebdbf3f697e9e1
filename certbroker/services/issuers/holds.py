"""Lifting holds: a person knows better than the CA's last word, such as that the cause of a pause has been removed."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from certbroker.domain.audit import Caller, record
from certbroker.domain.budget import WHOLE
from certbroker.domain.objects import Vault
from certbroker.ports.clock import Clock
from certbroker.ports.governor import BudgetState
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.issuers.issuers import Issuers
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction


class Holds:
    """Lifts what CAs have asked for. What is counted stays: nobody gets more than the CA allows by it."""

    def __init__(self, store: SQLiteStore, issuers: Issuers, clock: Clock, inbox: Inbox) -> None:
        self._store = store
        self._issuers = issuers
        self._clock = clock
        self._inbox = inbox

    def lift(self, caller: Caller, vault: Vault, name: str, names: Sequence[str]) -> list[BudgetState]:
        """Lift the holds that bind an issuer, and an order of it for these names; say how its budgets stand then.

        Its requests that wait are tried at once. If the CA has not changed its mind it says so, and the hold is back.
        Safe to repeat. Raises NotFound, Invalid.
        """
        held = [state.bucket for state in self._issuers.budgets(vault, name, names) if state.held_until is not None]
        if held:
            now = self._clock.now()

            def work(transaction: SQLTransaction) -> None:
                for bucket in held:
                    level = transaction.budgets.level(bucket)
                    transaction.budgets.put(bucket, replace(level, held_until=WHOLE.held_until, reason=None))
                transaction.operations.hurry(vault.id, name, now)
                transaction.audit(record(caller, now, f"/certificates/issuers/{name}/limits"))

            self._store.write(work)
            self._inbox.wake()
        return self._issuers.budgets(vault, name, names)
