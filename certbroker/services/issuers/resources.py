"""What issuers are lent of the database: a memory of their own, and the board that challenges are answered from."""

from __future__ import annotations

from datetime import datetime

from certbroker.domain.records import Identity
from certbroker.ports.issuer import BoardKind
from certbroker.ports.seal import Seal
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction


class Memory:
    """What one issuer remembers, sealed in the database."""

    def __init__(self, store: SQLiteStore, seal: Seal, vault_id: int, issuer: str) -> None:
        self._store = store
        self._seal = seal
        self._vault_id = vault_id
        self._issuer = issuer

    def load(self, name: str) -> bytes | None:
        sealed = self._store.glance().issuers.recall(self._vault_id, self._issuer, name)
        return None if sealed is None else self._seal.open(self._identity(name), sealed)

    def save(self, name: str, value: bytes) -> bytes:
        sealed = self._seal.close(self._identity(name), value)

        def work(transaction: SQLTransaction) -> bytes:
            kept = transaction.issuers.recall(self._vault_id, self._issuer, name)
            if kept is not None:
                return self._seal.open(self._identity(name), kept)
            transaction.issuers.remember(self._vault_id, self._issuer, name, sealed)
            return value

        return self._store.write(work)

    def swap(self, name: str, old: bytes, new: bytes) -> bool:
        sealed = self._seal.close(self._identity(name), new)

        def work(transaction: SQLTransaction) -> bool:
            kept = transaction.issuers.recall(self._vault_id, self._issuer, name)
            if kept is None or self._seal.open(self._identity(name), kept) != old:
                return False
            transaction.issuers.remember(self._vault_id, self._issuer, name, sealed)
            return True

        return self._store.write(work)

    def _identity(self, name: str) -> Identity:
        return Identity(self._vault_id, "issuer memory", self._issuer, name)


class Board:
    """Puts answers to challenges where every replica's listeners find them."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store

    def put(self, kind: BoardKind, place: str, key_authorization: str, expires: datetime) -> bool:
        def work(transaction: SQLTransaction) -> bool:
            if transaction.issuers.challenge(kind, place) not in (None, key_authorization):
                return False
            transaction.issuers.put_challenge(kind, place, key_authorization, expires)
            return True

        return self._store.write(work)

    def take_down(self, kind: BoardKind, place: str, key_authorization: str) -> None:
        self._store.write(lambda transaction: transaction.issuers.remove_challenge(kind, place, key_authorization))

    def answer(self, kind: BoardKind, place: str) -> str | None:
        """The key authorization at a place, if one has been put up."""
        return self._store.glance().issuers.challenge(kind, place)
