"""Secrets, keys and certificates with their versions, and what is said about those of a vault."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, Text, text
from sqlmodel import Field, SQLModel

from certbroker.store.tables.columns import big_column, kek_column


class ObjectRow(SQLModel, table=True):
    """What the versions of an object share. `purge_at` is set while the object is deleted."""

    __tablename__ = "objects"
    __table_args__ = (Index("objects_purge", "purge_at", sqlite_where=text("purge_at IS NOT NULL")),)

    vault_id: int = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    display: str
    current: str
    managed: int
    deleted_at: int | None = Field(default=None, sa_column=big_column(nullable=True))
    purge_at: int | None = Field(default=None, sa_column=big_column(nullable=True))


class VersionRow(SQLModel, table=True):
    """One version of any object. `facts` is JSON: what is public about a key or a certificate."""

    __tablename__ = "versions"
    __table_args__ = (
        Index("versions_kek", "kek", sqlite_where=text("kek IS NOT NULL")),
        # Of secrets that are no certificate's: those have no payload of their own.
        Index(
            "versions_expiring",
            "exp",
            sqlite_where=text("kind = 'secret' AND payload IS NOT NULL AND exp IS NOT NULL"),
        ),
    )

    vault_id: int = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    version: str = Field(primary_key=True)
    enabled: int
    nbf: int | None = Field(default=None, sa_column=big_column(nullable=True))
    exp: int | None = Field(default=None, sa_column=big_column(nullable=True))
    created: int = Field(sa_column=big_column())
    updated: int = Field(sa_column=big_column())
    content_type: str | None = None
    tags: str = "{}"
    facts: str | None = Field(default=None, sa_column=Column(Text))
    previous: str | None = None
    kek: int | None = Field(default=None, sa_column=kek_column())
    dek: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    payload: bytes | None = Field(default=None, sa_column=Column(LargeBinary))


class PolicyRow(SQLModel, table=True):
    """The policy of a certificate, as JSON."""

    __tablename__ = "policies"

    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    policy: str = Field(sa_column=Column(Text, nullable=False))


class RotationRow(SQLModel, table=True):
    """The rotation policy of a key, as JSON, and what people have been told of a version of it.

    `act_at` is when something is due for the key; a lease is an `act_at` in the future.
    """

    __tablename__ = "rotations"
    __table_args__ = (Index("rotations_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),)

    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    policy: str | None = Field(default=None, sa_column=Column(Text))
    version: str
    told: str | None = None
    act_at: int | None = Field(default=None, sa_column=big_column(nullable=True))


class ContactsRow(SQLModel, table=True):
    """The contacts of a vault, as JSON."""

    __tablename__ = "contacts"

    vault_id: int = Field(primary_key=True)
    contacts: str = Field(sa_column=Column(Text, nullable=False))
