"""Where certificates are served, and where they are put."""

from __future__ import annotations

from sqlalchemy import Column, Index, Text, text
from sqlmodel import Field, SQLModel

from certbroker.store.tables.columns import big_column


class EndpointRow(SQLModel, table=True):
    """A place where a certificate should be served. `place` and `state` are JSON: what is looked at, what was seen.

    `serving` and `alarmed` are of the state, for who looks for trouble. `lane` is 1 where nothing could be seen the
    last time. A lease is an `act_at` in the future, and `fence` counts owners and disturbances.
    """

    __tablename__ = "endpoints"
    __table_args__ = (
        Index("endpoints_due", "lane", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("endpoints_amiss", "serving", "alarmed", sqlite_where=text("serving != 'Serving'")),
    )

    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    host: str
    place: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    serving: str
    alarmed: int = 0
    lane: int = 0
    created: int = Field(sa_column=big_column())
    act_at: int | None = Field(default=None, sa_column=big_column(nullable=True))
    fence: int = 0


class DeploymentRow(SQLModel, table=True):
    """What one section `deploy` of the configuration has put where it belongs. `state` is JSON: how that has gone.

    It goes by names, because the configuration does: the vault or the certificate may come later. `settings` is a
    digest of the section, so that a change of it is noticed. A lease is an `act_at` in the future.
    """

    __tablename__ = "deployments"
    __table_args__ = (
        Index("deployments_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("deployments_certificate", "vault", "certificate"),
    )

    name: str = Field(primary_key=True)
    vault: str
    certificate: str
    settings: str
    state: str = Field(sa_column=Column(Text, nullable=False))
    act_at: int | None = Field(default=None, sa_column=big_column(nullable=True))
    fence: int = 0
