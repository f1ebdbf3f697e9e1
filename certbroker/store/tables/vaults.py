"""Vaults, their keys, and what is kept of the broker as a whole."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, LargeBinary, Text
from sqlmodel import Field, SQLModel

from certbroker.store.tables.columns import big_column, kek_column


class VaultRow(SQLModel, table=True):
    """A vault. Its id is in every row that belongs to it."""

    __tablename__ = "vaults"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    tier: str
    soft_delete_days: int
    purge_protection: bool
    created: int = Field(sa_column=big_column())


class KeyEncryptionKeyRow(SQLModel, table=True):
    """A key-encryption key, wrapped by the seal key; the newest of a vault is the current one."""

    __tablename__ = "keks"

    id: int | None = Field(default=None, primary_key=True)
    vault_id: int = Field(index=True)
    seal_id: str
    wrapped: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created: int = Field(sa_column=big_column())


class SettingRow(SQLModel, table=True):
    """A broker-wide value; sealed where it is secret."""

    __tablename__ = "settings"

    name: str = Field(primary_key=True)
    value: str | None = Field(default=None, sa_column=Column(Text))
    kek: int | None = Field(default=None, sa_column=kek_column())
    dek: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    payload: bytes | None = Field(default=None, sa_column=Column(LargeBinary))


class AuditRow(SQLModel, table=True):
    """One record of a writer's chain, with its hash."""

    __tablename__ = "audit"

    writer: str = Field(primary_key=True)
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    record: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
