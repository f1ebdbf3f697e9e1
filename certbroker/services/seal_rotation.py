"""New keys for old: key-encryption keys are replaced while the broker serves, and moved to another seal key.

A rotation gives every vault a new key-encryption key, which new values are closed with at once. Then the data keys of
all other values are wrapped anew; the values themselves are not touched. Every step leaves a database in which
everything opens, and `resume` finds what is left to do from the database alone, so a rotation may be cut off anywhere.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from certbroker.domain.audit import Caller, record
from certbroker.domain.errors import Conflict
from certbroker.domain.records import SealedBytes
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.seal import RotatableSeal, Unreadable
from certbroker.services.objects.vaults import BACKUP, SYSTEM
from certbroker.store.database import SQLiteStore
from certbroker.store.sealing import SealedRow, SupersededKey
from certbroker.store.transaction import SQLTransaction

# About four milliseconds of the writer's time, so that requests hardly notice.
_BATCH: Final = 200

# How long a replaced key stays, for who has closed a value with it or read one under it and is not done. An operation
# that the engine has claimed holds its row for as long as its lease, which is two minutes.
GRACE: Final = timedelta(minutes=5)

# How long one pass may take, in seconds: a request is answered in time, and other chores get their turn.
PATIENCE: Final = 10.0

# So many values that do not open are more than accidents: somebody should look before anything else is changed.
_MAX_UNREADABLE: Final = 1000

_log = structlog.get_logger("certbroker.seal")


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation has done. `waiting` counts old keys that are destroyed when nobody can be using them any more."""

    made: int = 0
    rewrapped: int = 0
    destroyed: int = 0
    waiting: int = 0
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class SealStatus:
    """The seal key, and how many key-encryption keys there are and are about to go."""

    seal_key: str
    keys: int
    superseded: int


class SealRotation:
    """Replaces key-encryption keys. One rotation runs at a time."""

    def __init__(self, store: SQLiteStore, seal: RotatableSeal, clock: Clock) -> None:
        self._store = store
        self._seal = seal
        self._clock = clock
        self._running = threading.Lock()

    def status(self) -> SealStatus:
        """How things stand."""
        with self._store.read() as transaction:
            keks, superseded = transaction.vaults.keks(), transaction.vaults.sealed_rows.superseded()
        return SealStatus(self._seal.key_id, len(keks), len(superseded))

    def rotate(self, caller: Caller, grace: timedelta = GRACE, patience: float | None = PATIENCE) -> Rotation:
        """Give every vault a new key-encryption key and rewrap everything. Raises Conflict while another rotation runs.

        `grace` may be nothing when nobody else uses the database. What is not done after `patience` is left to
        `resume`.
        """
        if not self._running.acquire(blocking=False):
            raise Conflict("The key-encryption keys are being rotated already; ask again when that has finished.")
        try:
            made = self._make_keys(caller)
            done = self._rewrap(grace, patience)
        finally:
            self._running.release()
        return Rotation(made, done.rewrapped, done.destroyed, done.waiting, done.unreadable)

    def resume(self, grace: timedelta = GRACE) -> None:
        """Go on with what a rotation has left: values that it did not come to, and keys whose time was not up."""
        if self._running.acquire(blocking=False):
            try:
                self._rewrap(grace, PATIENCE)
            finally:
                self._running.release()

    def reseal(self) -> int:
        """Put the key-encryption keys that are under a previous seal key under the current one. Returns their number.

        They are few, so it is one transaction: all or none. Raises Sealed.
        """
        current = self._seal.key_id
        old = [kek for kek in self._store.glance().vaults.keks() if kek.seal_id != current]
        if not old:
            return 0
        fresh = [(kek, *self._seal.reseal(kek)) for kek in old]
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> None:
            for kek, seal_id, wrapped in fresh:
                transaction.vaults.sealed_rows.reseal(kek, seal_id, wrapped)
            transaction.audit(record(Caller("operator", "SealKeyChange"), now, f"/seal/{current}"))
            failpoint("seal.reseal")

        self._store.write(work)
        _log.warning("the seal key has been changed; seal.previous can be removed", seal_key=current, keys=len(old))
        return len(old)

    def _make_keys(self, caller: Caller) -> int:
        """A new key for every vault, in one transaction. A vault made meanwhile has a new key of its own."""
        vaults = [SYSTEM, BACKUP, *(vault.id for vault in self._store.glance().vaults.listing())]
        fresh = [(vault_id, *self._seal.new_kek(vault_id)) for vault_id in vaults]
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> None:
            for vault_id, seal_id, wrapped in fresh:
                transaction.vaults.add_kek(vault_id, seal_id, wrapped, int(now.timestamp()))
            transaction.audit(record(caller, now, "/seal"))

        failpoint("seal.rotate.make")
        self._store.write(work)
        failpoint("seal.rotate.made")
        self._seal.forget_current()
        return len(fresh)

    def _rewrap(self, grace: timedelta, patience: float | None) -> Rotation:
        rewrapped = destroyed = unreadable = 0
        until = math.inf if patience is None else time.monotonic() + patience
        superseded = self._store.glance().vaults.sealed_rows.superseded()
        latest = int((self._clock.now() - grace).timestamp())
        for old in superseded:
            moved, lost = self._rewrap_under(old, until)
            rewrapped += moved
            unreadable += lost
            if not lost and old.since <= latest and self._destroy(old):
                destroyed += 1
        waiting = len(superseded) - destroyed
        if rewrapped or destroyed:
            _log.info("data keys rewrapped", values=rewrapped, keys_destroyed=destroyed, keys_waiting=waiting)
        return Rotation(0, rewrapped, destroyed, waiting, unreadable)

    def _rewrap_under(self, old: SupersededKey, until: float) -> tuple[int, int]:
        """Rewrap in small transactions until nothing is left under the key but what does not open, or time is up.

        Returns how many were rewrapped, and how many do not open.
        """
        moved = 0
        unreadable: set[tuple[int, tuple[object, ...]]] = set()
        while len(unreadable) <= _MAX_UNREADABLE and time.monotonic() < until:
            with self._store.read() as transaction:
                rows = transaction.vaults.sealed_rows.under(old.key.id, _BATCH + len(unreadable))
            fresh = []
            for row in rows:
                if (row.table, row.key) in unreadable:
                    continue
                try:
                    fresh.append((row, self._seal.rewrap(row.identity, row.sealed)))
                except Unreadable as error:
                    unreadable.add((row.table, row.key))
                    _log.error("a sealed value cannot be read", row=str(row), reason=error.message)
            if not fresh:
                break

            def work(transaction: SQLTransaction, fresh: list[tuple[SealedRow, SealedBytes]] = fresh) -> int:
                return sum(transaction.vaults.sealed_rows.rewrap(row, sealed) for row, sealed in fresh)

            failpoint("seal.rotate.batch")
            moved += self._store.write(work)
        return moved, len(unreadable)

    def _destroy(self, old: SupersededKey) -> bool:
        """Delete the key, unless a value has come under it since: asked in the transaction that deletes it."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> bool:
            gone = transaction.vaults.sealed_rows.retire(old.key.id)
            if gone:
                transaction.audit(record(Caller("engine", "SealKeyDestroy"), now, f"/seal/keys/{old.key.id}"))
            return gone

        failpoint("seal.rotate.destroy")
        gone = self._store.write(work)
        failpoint("seal.rotate.destroyed")
        if gone:
            self._seal.discard(old.key.id)
        return gone
