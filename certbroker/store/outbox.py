"""The outbox: events on their way to the channels of their vault."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy import bindparam, update
from sqlmodel import col

from certbroker.domain.events import Event
from certbroker.store.operations import micros
from certbroker.store.statement import Cursor, Statement, choose, insertion
from certbroker.store.tables import ChannelRow, OutboxRow

# For so long the engine tries to deliver an event, from when it was published or asked for again.
PATIENCE: Final = timedelta(days=3)

_EVERYTHING: Final = "*"

_c = ChannelRow
_LISTENERS = Statement(choose(_c.name, _c.events).where(col(_c.vault_id) == bindparam("vault"), col(_c.enabled) == 1))
_ADD = insertion(OutboxRow, once=True)
# A channel that pauses, because its target is away, goes on pausing.
_MAKE_DUE = Statement(
    update(_c)
    .where(col(_c.vault_id) == bindparam("vault"), col(_c.name) == bindparam("channel"), col(_c.act_at).is_(None))
    .values(act_at=bindparam("new_act_at"))
)


class Outbox:
    """Events for channels. Times are aware datetimes in UTC."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def listeners(self, vault: int) -> list[tuple[str, str]]:
        """The enabled channels of a vault, each with what it wants: for `wants`."""
        return [(row[0], row[1]) for row in _LISTENERS.all(self._cursor, vault=vault)]

    def add(self, channel: str, event: Event, now: datetime) -> None:
        """Have the event delivered to the channel, unless it was added before."""
        _ADD.run(
            self._cursor,
            vault_id=event.vault_id,
            channel=channel,
            event_id=event.id,
            event=msgspec.json.encode(event).decode(),
            created=micros(now),
            expires=micros(now + PATIENCE),
            act_at=micros(now),
            attempts=0,
            outcome=None,
            settled=None,
            problem=None,
        )
        _MAKE_DUE.run(self._cursor, vault=event.vault_id, channel=channel, new_act_at=micros(now))


def wants(events: str, event: Event) -> bool:
    """Whether a channel that wants these events, separated by spaces or all of them, wants this one."""
    return events == _EVERYTHING or event.type in events.split()
