"""The journal of an operation in the database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from certbroker.domain.records import Operation
from certbroker.ports.clock import Clock
from certbroker.store.database import SQLiteStore

# Longer than any single outside call may take, so that a living owner never loses its lease between two writes.
LEASE: Final = timedelta(seconds=120)


class OperationJournal:
    """The journal of one operation: every entry is on disk, and the lease extended, before the method returns."""

    def __init__(self, store: SQLiteStore, clock: Clock, operation: Operation) -> None:
        self._store = store
        self._clock = clock
        self._operation = operation
        # Each issuer that has had its turn finds the steps that it took itself.
        self._turn = f"{operation.turn.issuer}." if operation.turn.issuer else ""

    def intend(self, step: str, **about: str) -> None:
        until = self._clock.now() + LEASE
        self._store.write(
            lambda transaction: transaction.operations.intend(self._operation, self._turn + step, about, until)
        )

    def record(self, step: str, **reply: str) -> None:
        until = self._clock.now() + LEASE
        self._store.write(
            lambda transaction: transaction.operations.record(self._operation, self._turn + step, reply, until)
        )

    def intended(self, step: str) -> Mapping[str, str] | None:
        return self._store.glance().operations.entry(self._operation.id, self._turn + step)[0]

    def recorded(self, step: str) -> Mapping[str, str] | None:
        return self._store.glance().operations.entry(self._operation.id, self._turn + step)[1]
