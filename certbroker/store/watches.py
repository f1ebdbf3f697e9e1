"""What is known of the revocation of each certificate, and which are to be checked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, and_, bindparam, delete, func, literal_column, select, update
from sqlalchemy.dialects import sqlite
from sqlmodel import col

from certbroker.domain.revocation_status import Standing, Watched
from certbroker.store.moments import micros, moment
from certbroker.store.statement import Cursor, Row, Statement, choose
from certbroker.store.tables import WatchRow

_w = WatchRow
_COLUMNS = (_w.vault_id, _w.name, _w.standing, _w.state, _w.act_at, _w.fence)
_THIS = and_(col(_w.vault_id) == bindparam("vault"), col(_w.name) == bindparam("name"))
_GET = Statement(choose(*_COLUMNS).where(_THIS))
_new = sqlite.insert(_w).values(
    vault_id=bindparam("vault"),
    name=bindparam("name"),
    standing=str(Standing.UNCHECKED),
    state="{}",
    act_at=bindparam("act_at"),
    fence=0,
)
# A check that is due earlier stays; one that somebody is making is void, because what he has read has changed.
_SOONER = func.min(func.coalesce(col(_w.act_at), _new.excluded.act_at), _new.excluded.act_at)
_DISTURB = Statement(
    _new.on_conflict_do_update(
        index_elements=["vault_id", "name"], set_={"act_at": _SOONER, "fence": col(_w.fence) + 1}
    )
)
_DUE = Statement(choose(_w.act_at).where(col(_w.act_at).is_not(None)).order_by(col(_w.act_at)).limit(1))
# By the row's number: of two columns in a list SQLite looks up only the first by the key, which is the whole vault.
_ROW: Final[ColumnElement[int]] = literal_column("rowid")
_CLAIM = Statement(
    update(_w)
    .where(
        _ROW.in_(
            select(_ROW)
            .select_from(_w)
            .where(col(_w.act_at) <= bindparam("now"))
            .order_by(col(_w.act_at))
            .limit(bindparam("count"))
        )
    )
    .values(act_at=bindparam("until"), fence=col(_w.fence) + 1)
    .returning(*(col(column) for column in _COLUMNS))
)
_TAKE = Statement(
    update(_w)
    .where(_THIS)
    .values(act_at=bindparam("until"), fence=col(_w.fence) + 1)
    .returning(*(col(column) for column in _COLUMNS))
)
_SAVE = Statement(
    update(_w)
    .where(_THIS, col(_w.fence) == bindparam("owner_fence"))
    .values(standing=bindparam("new_standing"), state=bindparam("new_state"), act_at=bindparam("new_act_at"))
)
_REMOVE = Statement(delete(_w).where(_THIS))
# Written into the statement, because SQLite uses a partial index only for a condition that it can read.
_TELLING = and_(col(_w.standing) != literal_column("'Good'"), col(_w.standing) != literal_column("'NotCovered'"))
_COUNTS = Statement(choose(_w.standing, func.count()).where(_TELLING).group_by(col(_w.standing)))
_RELEASE = Statement(
    update(_w)
    .where(col(_w.act_at) > bindparam("now"), col(_w.act_at) <= bindparam("until"))
    .values(act_at=bindparam("new_act_at"))
)
_CALL_BACK = Statement(
    update(_w)
    .where(col(_w.act_at) > bindparam("now"))
    .values(act_at=bindparam("new_act_at") + func.abs(func.random()) % bindparam("over"))
)

_STATE: Final = msgspec.json.Decoder(Watched)


class Watch(Struct, frozen=True):
    """A certificate's watch as it is stored. `name` is in lower case; `act_at` is when it is checked next."""

    vault_id: int
    name: str
    watched: Watched
    act_at: datetime | None
    fence: int

    def is_about(self, version: str) -> bool:
        """Whether that version was checked, or will be."""
        return self.watched.version == version or (not self.watched.version and self.act_at is not None)


class Watches:
    """The watches of certificates. Times are aware datetimes in UTC."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def get(self, vault: int, name: str) -> Watch | None:
        row = _GET.one(self._cursor, vault=vault, name=name.lower())
        return None if row is None else _watch(row)

    def disturb(self, vault: int, name: str, act_at: datetime) -> None:
        """Something has changed: check the certificate then, or earlier."""
        _DISTURB.run(self._cursor, vault=vault, name=name.lower(), act_at=micros(act_at))

    def next_due(self) -> datetime | None:
        """When the next check is due."""
        row = _DUE.one(self._cursor)
        return None if row is None else moment(row[0])

    def claim(self, now: datetime, until: datetime, count: int) -> list[Watch]:
        """Take what is due. It is due again at `until`, if nothing is saved before."""
        return [_watch(row) for row in _CLAIM.all(self._cursor, now=micros(now), until=micros(until), count=count)]

    def take(self, vault: int, name: str, until: datetime) -> Watch | None:
        """Take one, due or not, from whoever has it."""
        row = _TAKE.one(self._cursor, vault=vault, name=name.lower(), until=micros(until))
        return None if row is None else _watch(row)

    def save(self, watch: Watch, act_at: datetime | None) -> bool:
        """Write what is known; False when the certificate was disturbed meanwhile, and nothing was written."""
        cursor = _SAVE.run(
            self._cursor,
            vault=watch.vault_id,
            name=watch.name,
            owner_fence=watch.fence,
            new_standing=str(watch.watched.verdict.standing),
            new_state=msgspec.json.encode(watch.watched).decode(),
            new_act_at=None if act_at is None else micros(act_at),
        )
        return cursor.rowcount == 1

    def remove(self, vault: int, name: str) -> None:
        _REMOVE.run(self._cursor, vault=vault, name=name.lower())

    def counts(self) -> dict[Standing, int]:
        """How many certificates there are in each standing but Good and NotCovered."""
        return {Standing(row[0]): row[1] for row in _COUNTS.all(self._cursor)}

    def release(self, now: datetime, lease: timedelta) -> None:
        """Make due what a dead owner may have claimed."""
        _RELEASE.run(self._cursor, now=micros(now), until=micros(now + lease), new_act_at=micros(now))

    def call_back(self, now: datetime, over: timedelta) -> None:
        """Check everything again within `over`: the clock went back, or other sources are named."""
        _CALL_BACK.run(self._cursor, now=micros(now), new_act_at=micros(now), over=over // timedelta(microseconds=1))


def _watch(row: Row) -> Watch:
    vault, name, _, state, act_at, fence = row
    return Watch(vault, name, _STATE.decode(state), None if act_at is None else moment(act_at), fence)
