"""Certificates that were found elsewhere."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, Text
from sqlmodel import Field, SQLModel

from certbroker.store.tables.columns import big_column


class SightingRow(SQLModel, table=True):
    """A certificate that was seen at a server or in what a CT monitor tells. Nothing in it is secret.

    `names` and `places` are JSON. `leaf` is empty where no server has shown it. `vault_id`, `name` and `version` are of
    the certificate that it is, or that takes its place.
    """

    __tablename__ = "sightings"
    __table_args__ = (Index("sightings_standing", "standing", "id"), Index("sightings_seen", "last_seen"))

    id: str = Field(primary_key=True)
    serial: str
    sha256: str
    issuer: str = Field(sa_column=Column(Text, nullable=False))
    subject: str = Field(sa_column=Column(Text, nullable=False))
    names: str = Field(sa_column=Column(Text, nullable=False))
    not_before: int = Field(sa_column=big_column())
    not_after: int = Field(sa_column=big_column())
    key: str
    leaf: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    places: str = Field(sa_column=Column(Text, nullable=False))
    first_seen: int = Field(sa_column=big_column())
    last_seen: int = Field(sa_column=big_column())
    standing: str
    vault_id: int | None = None
    name: str
    version: str


class DiscoveryTaskRow(SQLModel, table=True):
    """Something that discovery does again and again. A lease is an `act_at` in the future; `fence` counts owners."""

    __tablename__ = "discovery_tasks"
    __table_args__ = (Index("discovery_tasks_due", "act_at"),)

    id: str = Field(primary_key=True)
    position: str
    act_at: int = Field(sa_column=big_column())
    began: int | None = Field(default=None, sa_column=big_column(nullable=True))
    succeeded: int | None = Field(default=None, sa_column=big_column(nullable=True))
    problem: str = Field(sa_column=Column(Text, nullable=False))
    found: int
    fence: int


class ManagedDomainRow(SQLModel, table=True):
    """A registered domain that certificates of a vault have names in, and when that was last seen."""

    __tablename__ = "managed_domains"
    __table_args__ = (Index("managed_domains_seen", "seen"),)

    domain: str = Field(primary_key=True)
    vault_id: int = Field(primary_key=True)
    seen: int = Field(sa_column=big_column())
