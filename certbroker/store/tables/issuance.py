"""Issuers, the operations that obtain certificates from them, and the limits that these keep to."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, Text, text
from sqlmodel import Field, SQLModel

from certbroker.store.tables.columns import big_column, kek_column


class IssuerRow(SQLModel, table=True):
    """A configured issuer; its password is sealed. `health` is JSON: how it has done with these settings."""

    __tablename__ = "issuers"

    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    display: str
    settings: str = Field(sa_column=Column(Text, nullable=False))
    health: str | None = Field(default=None, sa_column=Column(Text))
    created: int = Field(sa_column=big_column())
    updated: int = Field(sa_column=big_column())
    kek: int | None = Field(default=None, sa_column=kek_column())
    dek: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    payload: bytes | None = Field(default=None, sa_column=Column(LargeBinary))


class IssuerMemoryRow(SQLModel, table=True):
    """What an issuer keeps between requests, sealed."""

    __tablename__ = "issuer_memory"

    vault_id: int = Field(primary_key=True)
    issuer: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    kek: int = Field(sa_column=kek_column(nullable=False))
    dek: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    payload: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class OperationRow(SQLModel, table=True):
    """A certificate operation. `pending` is 1 for the one that `/pending` shows, of which a name has at most one.

    `urgency` is a number where it goes before others that are due, the smaller the sooner.
    """

    __tablename__ = "operations"
    __table_args__ = (
        Index("operations_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("operations_pending", "vault_id", "name", unique=True, sqlite_where=text("pending = 1")),
        Index("operations_kek", "kek", sqlite_where=text("kek IS NOT NULL")),
        Index("operations_retired", "created", sqlite_where=text("pending = 0")),
        Index("operations_before", "vault_id", "name", sqlite_where=text("pending = 0")),
        Index(
            "operations_open",
            "created",
            sqlite_where=text("pending = 1 AND act_at IS NULL AND substr(state, 1, 9) != 'Completed'"),
        ),
        Index(
            "operations_urgent", "urgency", "act_at", sqlite_where=text("act_at IS NOT NULL AND urgency IS NOT NULL")
        ),
    )

    id: str = Field(primary_key=True)
    vault_id: int
    name: str
    display: str
    version: str
    issuer: str
    policy: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    options: str = "{}"
    pending: int = 1
    cancellation_requested: int = 0
    created: int = Field(sa_column=big_column())
    deadline: int = Field(sa_column=big_column())
    act_at: int | None = Field(default=None, sa_column=big_column(nullable=True))
    lease_owner: str | None = None
    lease_until: int = Field(default=0, sa_column=big_column())
    fence: int = 0
    urgency: int | None = None
    kek: int | None = Field(default=None, sa_column=kek_column())
    dek: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    payload: bytes | None = Field(default=None, sa_column=Column(LargeBinary))


class JournalRow(SQLModel, table=True):
    """What an operation was about to ask the outside world, and what came back."""

    __tablename__ = "journal"

    operation_id: str = Field(primary_key=True)
    step: str = Field(primary_key=True)
    intended: str | None = Field(default=None, sa_column=Column(Text))
    recorded: str | None = Field(default=None, sa_column=Column(Text))


class ChallengeRow(SQLModel, table=True):
    """An answer to a challenge that is put up: by the token for http-01, by kind and name for tls-alpn-01."""

    __tablename__ = "challenges"

    token: str = Field(primary_key=True)
    key_authorization: str
    expires: int = Field(sa_column=big_column())


class BudgetRow(SQLModel, table=True):
    """What is left of one rate budget: `full_at` is when it will be whole again, `held_until` a pause asked for.

    From `over_at` on the row says nothing that its absence does not.
    """

    __tablename__ = "budgets"
    __table_args__ = (
        Index("budgets_over", "over_at"),
        Index("budgets_held", "held_until", sqlite_where=text("held_until > 0")),
    )

    ca: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    full_at: int = Field(sa_column=big_column())
    held_until: int = Field(default=0, sa_column=big_column())
    reason: str | None = Field(default=None, sa_column=Column(Text))
    over_at: int = Field(sa_column=big_column())


class ReservationRow(SQLModel, table=True):
    """That an order in progress has been admitted; while `pending` it will take a place of a budget by succeeding."""

    __tablename__ = "reservations"
    __table_args__ = (
        Index("reservations_pending", "ca", "scope", "subject", sqlite_where=text("pending = 1")),
        Index("reservations_over", "over_at"),
    )

    operation_id: str = Field(primary_key=True)
    step: str = Field(primary_key=True)
    ca: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    pending: int
    over_at: int = Field(sa_column=big_column())
