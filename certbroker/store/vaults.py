"""Vaults, their key-encryption keys, and broker-wide settings."""

from __future__ import annotations

from sqlalchemy import bindparam, func
from sqlmodel import col

from certbroker.domain.objects import Recovery, Vault
from certbroker.domain.records import SealedBytes
from certbroker.ports.seal import WrappedKey
from certbroker.store.sealing import SealedRows
from certbroker.store.statement import Cursor, Row, Statement, choose, insertion
from certbroker.store.tables import KeyEncryptionKeyRow, SettingRow, VaultRow

_COLUMNS = (
    VaultRow.id, VaultRow.name, VaultRow.tier, VaultRow.soft_delete_days, VaultRow.purge_protection, VaultRow.created
)  # fmt: skip
_FIND = Statement(choose(*_COLUMNS).where(func.lower(VaultRow.name) == bindparam("name")))
_BY_ID = Statement(choose(*_COLUMNS).where(col(VaultRow.id) == bindparam("id")))
_LIST = Statement(choose(*_COLUMNS).order_by(col(VaultRow.name)))
_INSERT = insertion(VaultRow)

_KEK_COLUMNS = (
    KeyEncryptionKeyRow.id, KeyEncryptionKeyRow.vault_id, KeyEncryptionKeyRow.seal_id, KeyEncryptionKeyRow.wrapped
)  # fmt: skip
_INSERT_KEK = insertion(KeyEncryptionKeyRow)
_KEK = Statement(choose(*_KEK_COLUMNS).where(col(KeyEncryptionKeyRow.id) == bindparam("id")))
_KEKS = Statement(choose(*_KEK_COLUMNS).order_by(col(KeyEncryptionKeyRow.id)))
_CURRENT_KEK = Statement(
    choose(*_KEK_COLUMNS)
    .where(col(KeyEncryptionKeyRow.vault_id) == bindparam("vault"))
    .order_by(col(KeyEncryptionKeyRow.id).desc())
    .limit(1)
)

_SETTING = Statement(
    choose(SettingRow.value, SettingRow.kek, SettingRow.dek, SettingRow.payload).where(
        col(SettingRow.name) == bindparam("name")
    )
)
_PUT_SETTING = insertion(SettingRow, replace=("value", "kek", "dek", "payload"))


class Vaults:
    """Vault 0 is the broker itself: its key-encryption key protects what belongs to no vault. Vault -1: backups."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def find(self, name: str) -> Vault | None:
        row = _FIND.one(self._cursor, name=name.lower())
        return None if row is None else _vault(row)

    def get(self, vault_id: int) -> Vault | None:
        row = _BY_ID.one(self._cursor, id=vault_id)
        return None if row is None else _vault(row)

    def listing(self) -> list[Vault]:
        return [_vault(row) for row in _LIST.all(self._cursor)]

    def add(self, vault: Vault) -> int:
        """Store a vault under a new id, and return the id."""
        return _new_id(
            _INSERT.run(
                self._cursor,
                id=None,
                name=vault.name,
                tier=vault.tier,
                soft_delete_days=vault.recovery.days,
                purge_protection=vault.recovery.purge_protection,
                created=vault.created,
            )
        )

    def kek(self, kek_id: int) -> WrappedKey | None:
        row = _KEK.one(self._cursor, id=kek_id)
        return None if row is None else WrappedKey(*row)

    def keks(self) -> list[WrappedKey]:
        return [WrappedKey(*row) for row in _KEKS.all(self._cursor)]

    def current_kek(self, vault_id: int) -> WrappedKey | None:
        """The key that new data keys of the vault are wrapped with."""
        row = _CURRENT_KEK.one(self._cursor, vault=vault_id)
        return None if row is None else WrappedKey(*row)

    def add_kek(self, vault_id: int, seal_id: str, wrapped: bytes, now: int) -> int:
        return _new_id(
            _INSERT_KEK.run(self._cursor, id=None, vault_id=vault_id, seal_id=seal_id, wrapped=wrapped, created=now)
        )

    @property
    def sealed_rows(self) -> SealedRows:
        """The rows that key-encryption keys protect, for their rotation."""
        return SealedRows(self._cursor)

    def setting(self, name: str) -> str | None:
        row = _SETTING.one(self._cursor, name=name)
        return None if row is None else row[0]

    def sealed_setting(self, name: str) -> SealedBytes | None:
        row = _SETTING.one(self._cursor, name=name)
        return SealedBytes(row[1], row[2], row[3]) if row and row[1] is not None else None

    def put_setting(self, name: str, value: str | None = None, sealed: SealedBytes | None = None) -> None:
        _PUT_SETTING.run(
            self._cursor,
            name=name,
            value=value,
            kek=sealed and sealed.kek,
            dek=sealed and sealed.dek,
            payload=sealed and sealed.payload,
        )


def _vault(row: Row) -> Vault:
    (vault_id, name, tier, days, protection, created) = row
    return Vault(vault_id, name, tier, Recovery(days, bool(protection)), created)


def _new_id(cursor: Cursor) -> int:
    assert cursor.lastrowid is not None
    return cursor.lastrowid
