"""Rows that hold sealed values, by the key-encryption key that their data keys are wrapped with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import bindparam, delete, func, update
from sqlalchemy.orm import aliased
from sqlmodel import SQLModel, col

from certbroker.domain.records import Identity, SealedBytes
from certbroker.ports.seal import WrappedKey
from certbroker.store.statement import Cursor, Statement, choose
from certbroker.store.tables import (
    AuthorityRow,
    ChannelRow,
    IssuerMemoryRow,
    IssuerRow,
    KeyEncryptionKeyRow,
    OperationRow,
    SettingRow,
    VersionRow,
)

# The broker itself. Below it are keys whose values are not in the database, so that no count can tell when they are
# unused.
_SYSTEM: Final = 0


class _Table:
    """A table with sealed values, and how its columns tell what the value of a row belongs to.

    `columns` include the primary key. The identities are those that the services close the values with.
    """

    def __init__(self, table: type[SQLModel], columns: tuple[Any, ...], identity: Callable[..., Identity]) -> None:
        every: Any = table.__table__.columns  # type: ignore[attr-defined]  # added by SQLModel
        self.name = str(table.__tablename__)
        self.identity = identity
        under = every.kek == bindparam("kek")
        self.some = Statement(choose(*columns, every.kek, every.dek).where(under).limit(bindparam("count")))
        # The data key as it was read is part of the condition: a value that was replaced meanwhile has another one.
        self.rewrap = Statement(
            update(table)
            .where(
                *(col(column) == bindparam(f"key{number}") for number, column in enumerate(columns)),
                every.kek == bindparam("old_kek"),
                every.dek == bindparam("old_dek"),
            )
            .values(kek=bindparam("new_kek"), dek=bindparam("new_dek"))
        )


TABLES: Final = (
    _Table(VersionRow, (VersionRow.vault_id, VersionRow.kind, VersionRow.name, VersionRow.version), Identity),
    _Table(
        OperationRow,
        (OperationRow.vault_id, OperationRow.name, OperationRow.id),
        lambda vault, name, operation: Identity(vault, "operation", name, operation),
    ),
    _Table(
        IssuerRow,
        (IssuerRow.vault_id, IssuerRow.name),
        lambda vault, name: Identity(vault, "issuer", name, "password"),
    ),
    _Table(
        ChannelRow,
        (ChannelRow.vault_id, ChannelRow.name),
        lambda vault, name: Identity(vault, "channel", name, "secret"),
    ),
    _Table(
        AuthorityRow,
        (AuthorityRow.vault_id, AuthorityRow.name, AuthorityRow.id),
        lambda vault, name, authority: Identity(vault, "authority", name, authority),
    ),
    _Table(
        IssuerMemoryRow,
        (IssuerMemoryRow.vault_id, IssuerMemoryRow.issuer, IssuerMemoryRow.name),
        lambda vault, issuer, name: Identity(vault, "issuer memory", issuer, name),
    ),
    _Table(SettingRow, (SettingRow.name,), lambda name: Identity(_SYSTEM, "setting", name, "")),
)

_k, _newer = KeyEncryptionKeyRow, aliased(KeyEncryptionKeyRow)
_SUPERSEDED = Statement(
    choose(_k.id, _k.vault_id, _k.seal_id, _k.wrapped, func.min(_newer.created))
    .join_from(_k, _newer, (col(_newer.vault_id) == col(_k.vault_id)) & (col(_newer.id) > col(_k.id)))
    .where(col(_k.vault_id) >= _SYSTEM)
    .group_by(col(_k.id), col(_k.vault_id), col(_k.seal_id), col(_k.wrapped))
    .order_by(col(_k.id))
)
_REMOVE = Statement(delete(_k).where(col(_k.id) == bindparam("id")))
_RESEAL = Statement(
    update(_k)
    .where(col(_k.id) == bindparam("kek"), col(_k.seal_id) == bindparam("old_seal"))
    .values(seal_id=bindparam("new_seal"), wrapped=bindparam("new_wrapped"))
)


class SealedRow(Struct, frozen=True):
    """A row with a sealed value, without its payload. `table` and `key` say which."""

    table: int
    key: tuple[Any, ...]
    sealed: SealedBytes

    @property
    def identity(self) -> Identity:
        return TABLES[self.table].identity(*self.key)

    def __str__(self) -> str:
        return f"{TABLES[self.table].name}{self.key}"


class SupersededKey(Struct, frozen=True):
    """A key-encryption key whose vault has had a newer one since that Unix second."""

    key: WrappedKey
    since: int


class SealedRows:
    """Finds and rewraps what a key-encryption key protects."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def superseded(self) -> list[SupersededKey]:
        """The keys that are to go, except those that backups are sealed with."""
        return [SupersededKey(WrappedKey(*row[:4]), row[4]) for row in _SUPERSEDED.all(self._cursor)]

    def under(self, kek_id: int, count: int) -> list[SealedRow]:
        """So many of the rows under that key, at most."""
        found: list[SealedRow] = []
        for number, table in enumerate(TABLES):
            left = count - len(found)
            if left <= 0:
                break
            for *key, kek, dek in table.some.all(self._cursor, kek=kek_id, count=left):
                found.append(SealedRow(number, tuple(key), SealedBytes(kek, dek, b"")))
        return found

    def rewrap(self, row: SealedRow, fresh: SealedBytes) -> bool:
        """Store the fresh wrapping; False when the row has been changed or removed since it was read."""
        key = {f"key{number}": value for number, value in enumerate(row.key)}
        done = TABLES[row.table].rewrap.run(
            self._cursor,
            **key,
            old_kek=row.sealed.kek,
            old_dek=row.sealed.dek,
            new_kek=fresh.kek,
            new_dek=fresh.dek,
        )
        return done.rowcount == 1

    def retire(self, kek_id: int) -> bool:
        """Destroy a key-encryption key, unless a row still needs it."""
        if self.under(kek_id, 1):
            return False
        return _REMOVE.run(self._cursor, id=kek_id).rowcount == 1

    def reseal(self, kek: WrappedKey, seal_id: str, wrapped: bytes) -> None:
        """Put a key-encryption key under another seal key."""
        _RESEAL.run(self._cursor, kek=kek.id, old_seal=kek.seal_id, new_seal=seal_id, new_wrapped=wrapped)
