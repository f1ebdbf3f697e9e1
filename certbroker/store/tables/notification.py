"""Who is told what."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, Text, text
from sqlmodel import Field, SQLModel

from certbroker.store.tables.columns import big_column, kek_column


class ChannelRow(SQLModel, table=True):
    """A way to tell somebody about a vault; its secrets are sealed. `state` is JSON: how deliveries have gone.

    `act_at` is when the first of its outbox is to be delivered. The lease is on the channel, so that one worker at a
    time delivers, in order; `fence` counts the owners.
    """

    __tablename__ = "channels"
    __table_args__ = (Index("channels_due", "lane", "act_at", sqlite_where=text("act_at IS NOT NULL")),)

    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    display: str
    kind: str
    settings: str = Field(sa_column=Column(Text, nullable=False))
    events: str = Field(sa_column=Column(Text, nullable=False))
    enabled: int
    state: str = Field(sa_column=Column(Text, nullable=False))
    lane: int
    created: int = Field(sa_column=big_column())
    updated: int = Field(sa_column=big_column())
    act_at: int | None = Field(default=None, sa_column=big_column(nullable=True))
    lease_until: int = Field(default=0, sa_column=big_column())
    fence: int = 0
    kek: int | None = Field(default=None, sa_column=kek_column())
    dek: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    payload: bytes | None = Field(default=None, sa_column=Column(LargeBinary))


class OutboxRow(SQLModel, table=True):
    """An event for one channel. `event_id` is the same for the same happening, so it is told once.

    `act_at` is set while it waits; afterwards `settled` says when that ended, and `outcome` how.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        Index("outbox_due", "vault_id", "channel", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("outbox_settled", "vault_id", "outcome", "settled", sqlite_where=text("settled IS NOT NULL")),
        Index("outbox_dead", "vault_id", "channel", "event_id", sqlite_where=text("outcome = 'dead'")),
    )

    vault_id: int = Field(primary_key=True)
    channel: str = Field(primary_key=True)
    event_id: str = Field(primary_key=True)
    event: str = Field(sa_column=Column(Text, nullable=False))
    created: int = Field(sa_column=big_column())
    expires: int = Field(sa_column=big_column())
    act_at: int | None = Field(default=None, sa_column=big_column(nullable=True))
    attempts: int = 0
    outcome: str | None = None
    settled: int | None = Field(default=None, sa_column=big_column(nullable=True))
    problem: str | None = Field(default=None, sa_column=Column(Text))
