"""How certificates are looked after, one by one and many at once."""

from __future__ import annotations

from sqlalchemy import Column, Index, Text, text
from sqlmodel import Field, SQLModel

from certbroker.store.tables.columns import big_column


class LifecycleRow(SQLModel, table=True):
    """How the current version of a certificate is looked after. `state` is JSON: what is remembered between two looks.

    `issuer` is the one that the current version came from, if it was one of ours, in lower case. `staged` is a newer
    version that becomes current at `activate_at`. `fence` counts owners and disturbances: who holds an older number
    cannot write any more; a lease is an `act_at` in the future. `urgency` is a number where the certificate goes before
    others that are due, the smaller the sooner.
    """

    __tablename__ = "lifecycles"
    __table_args__ = (
        Index("lifecycles_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("lifecycles_health", "health", "act_at", sqlite_where=text("health != 'Healthy'")),
        Index(
            "lifecycles_urgent", "urgency", "act_at", sqlite_where=text("act_at IS NOT NULL AND urgency IS NOT NULL")
        ),
        Index("lifecycles_issuer", "issuer", "vault_id", "name", sqlite_where=text("issuer IS NOT NULL")),
    )

    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    health: str
    state: str = Field(sa_column=Column(Text, nullable=False))
    issuer: str | None = None
    staged: str | None = None
    activate_at: int | None = Field(default=None, sa_column=big_column(nullable=True))
    act_at: int | None = Field(default=None, sa_column=big_column(nullable=True))
    fence: int = 0
    urgency: int | None = None


class HealthCountRow(SQLModel, table=True):
    """How many certificates are in a health. Triggers on `lifecycles`, which a migration has made, keep it."""

    __tablename__ = "health_counts"

    health: str = Field(primary_key=True)
    certificates: int


class DrillRow(SQLModel, table=True):
    """The replacement of everything from one issuer; `vault_id` is null where that is in all vaults.

    `plan` is JSON. `act_at` is set until it is over; a lease is an `act_at` in the future, and `fence` counts owners.
    """

    __tablename__ = "drills"
    __table_args__ = (
        Index("drills_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("drills_started", "started"),
    )

    id: str = Field(primary_key=True)
    vault_id: int | None = None
    issuer: str
    perform: int
    reason: str
    new_key: int
    batch: int
    stage: str
    started: int = Field(sa_column=big_column())
    planned: int | None = Field(default=None, sa_column=big_column(nullable=True))
    ended: int | None = Field(default=None, sa_column=big_column(nullable=True))
    plan: str = Field(sa_column=Column(Text, nullable=False))
    act_at: int | None = Field(default=None, sa_column=big_column(nullable=True))
    fence: int = 0


class ReplacementRow(SQLModel, table=True):
    """A certificate in a drill, and what has become of it."""

    __tablename__ = "drill_certificates"
    __table_args__ = (Index("drill_certificates_fate", "drill_id", "fate", "vault_id", "name"),)

    drill_id: str = Field(primary_key=True)
    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    version: str
    fate: str
    reason: str = ""
    expected: int | None = Field(default=None, sa_column=big_column(nullable=True))
    at: int | None = Field(default=None, sa_column=big_column(nullable=True))
