"""Endpoints of certificates: where they should be served, and what was seen there."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import bindparam, case, delete, func, literal_column, update
from sqlmodel import col

from certbroker.domain.endpoints import Place, Serving, Standing
from certbroker.store.moments import micros, moment
from certbroker.store.statement import Cursor, Row, Statement, choose, insertion
from certbroker.store.tables import EndpointRow

_e = EndpointRow
_COLUMNS = (_e.vault_id, _e.name, _e.id, _e.place, _e.state, _e.created, _e.act_at, _e.fence)
_OF_CERTIFICATE = (col(_e.vault_id) == bindparam("vault"), col(_e.name) == bindparam("name"))
_THIS = (*_OF_CERTIFICATE, col(_e.id) == bindparam("id"))
_LIST = Statement(choose(*_COLUMNS).where(*_OF_CERTIFICATE).order_by(col(_e.host), col(_e.id)))
_ADD = insertion(_e, once=True)
_REMOVE = Statement(delete(_e).where(*_THIS))
_REMOVE_ALL = Statement(delete(_e).where(*_OF_CERTIFICATE))
# A look that is due earlier stays; one that somebody is taking is void, because what it compares with has changed.
_SOONER = func.min(func.coalesce(col(_e.act_at), bindparam("new_act_at")), bindparam("new_act_at"))
_DISTURB = Statement(update(_e).where(*_OF_CERTIFICATE).values(act_at=_SOONER, fence=col(_e.fence) + 1))
_REST = Statement(
    update(_e)
    .where(*_OF_CERTIFICATE)
    .values(
        state=bindparam("new_state"),
        serving=bindparam("new_serving"),
        alarmed=0,
        lane=bindparam("new_lane"),
        act_at=None,
        fence=col(_e.fence) + 1,
    )
)
_LATE = col(_e.act_at) <= bindparam("now")
# One of each host, so that no host is looked at twice at a time, however many names it has. SQLite takes the other
# columns from the row with the minimum.
_DUE = Statement(
    choose(_e.vault_id, _e.name, _e.id, _e.host, func.min(col(_e.act_at)))
    .where(col(_e.lane) == bindparam("lane"), _LATE)
    .group_by(col(_e.host))
    .order_by(func.min(col(_e.act_at)))
    .limit(bindparam("count"))
)
_CLAIM = Statement(
    update(_e)
    .where(*_THIS, _LATE)
    .values(act_at=bindparam("until"), fence=col(_e.fence) + 1)
    .returning(*(col(column) for column in _COLUMNS))
)
_SAVE = Statement(
    update(_e)
    .where(*_THIS, col(_e.fence) == bindparam("owner_fence"))
    .values(
        state=bindparam("new_state"),
        serving=bindparam("new_serving"),
        alarmed=bindparam("new_alarmed"),
        lane=bindparam("new_lane"),
        act_at=bindparam("new_act_at"),
    )
)
# Written into the statements, because SQLite uses a partial index only for a condition that it can read.
_AMISS = col(_e.serving) != literal_column("'Serving'")
_ALARMED = Statement(choose(_e.state).where(*_OF_CERTIFICATE, col(_e.alarmed) > 0))
_TROUBLED = Statement(
    choose(*_COLUMNS).where(_AMISS, col(_e.serving) == bindparam("serving")).limit(bindparam("count"))
)
_COUNT = Statement(choose(func.count()).select_from(_e))
_COUNTS = Statement(
    choose(
        _e.serving,
        func.count(),
        func.sum(case((col(_e.alarmed) > 0, 1), else_=0)),
        func.sum(case((col(_e.alarmed) > 1, 1), else_=0)),
    )
    .where(_AMISS)
    .group_by(col(_e.serving))
)
_WITHIN = (
    col(_e.lane) == bindparam("lane"),
    col(_e.act_at) > bindparam("now"),
    col(_e.act_at) <= bindparam("until"),
)
_RELEASE = Statement(update(_e).where(*_WITHIN).values(act_at=bindparam("new_act_at")))
_CALL_BACK = Statement(
    update(_e)
    .where(col(_e.lane) == bindparam("lane"), col(_e.act_at) > bindparam("now"))
    .values(act_at=bindparam("new_act_at") + func.abs(func.random()) % bindparam("over"))
)

_PLACE: Final = msgspec.json.Decoder(Place)
_STATE: Final = msgspec.json.Decoder(Standing)
_UNSEEN: Final = "{}"


class Lane(IntEnum):
    """Endpoints at which something could be seen the last time, or that are new; and those at which nothing could."""

    SEEN = 0
    BLIND = 1


class Endpoint(Struct, frozen=True):
    """An endpoint as it is stored. `name` is the certificate's, in lower case; `act_at` is when it is next due."""

    vault_id: int
    name: str
    place: Place
    standing: Standing
    created: datetime
    act_at: datetime | None = None
    fence: int = 0


class DueEndpoint(Struct, frozen=True):
    """An endpoint that is to be looked at."""

    vault_id: int
    name: str
    id: str
    host: str


class Totals(Struct, frozen=True):
    """How many endpoints serve what, how many of those are an alarm, and how many serve what has expired."""

    serving: dict[Serving, int]
    alarmed: int
    grave: int


class Endpoints:
    """The endpoints of certificates. Times are aware datetimes in UTC."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def of(self, vault: int, name: str) -> list[Endpoint]:
        """Those of one certificate, by host."""
        return [_endpoint(row) for row in _LIST.all(self._cursor, vault=vault, name=name.lower())]

    def add(self, vault: int, name: str, place: Place, now: datetime) -> None:
        """Have a place looked at from now on, unless it is already."""
        _ADD.run(
            self._cursor,
            vault_id=vault,
            name=name.lower(),
            id=place.id,
            host=place.host,
            place=msgspec.json.encode(place).decode(),
            state=_UNSEEN,
            serving=Serving.UNPROBED.value,
            alarmed=0,
            lane=int(Lane.SEEN),
            created=micros(now),
            act_at=micros(now),
            fence=0,
        )

    def remove(self, vault: int, name: str, endpoint: str) -> bool:
        """Forget one; False when there is none with that id."""
        return _REMOVE.run(self._cursor, vault=vault, name=name.lower(), id=endpoint).rowcount == 1

    def remove_all(self, vault: int, name: str) -> None:
        _REMOVE_ALL.run(self._cursor, vault=vault, name=name.lower())

    def disturb(self, vault: int, name: str, act_at: datetime) -> None:
        """What they should serve has changed: look at them then, or earlier."""
        _DISTURB.run(self._cursor, vault=vault, name=name.lower(), new_act_at=micros(act_at))

    def rest(self, vault: int, name: str) -> None:
        """Look at them no more until they are disturbed, and forget what was seen there: an alarm would go on."""
        _REST.run(
            self._cursor,
            vault=vault,
            name=name.lower(),
            new_state=_UNSEEN,
            new_serving=Serving.UNPROBED.value,
            new_lane=int(Lane.SEEN),
        )

    def due(self, lane: Lane, now: datetime, count: int) -> list[DueEndpoint]:
        """What is to be looked at, the longest due first, and one of each host."""
        rows = _DUE.all(self._cursor, lane=int(lane), now=micros(now), count=count)
        return [DueEndpoint(*row[:4]) for row in rows]

    def claim(self, due: DueEndpoint, now: datetime, until: datetime) -> Endpoint | None:
        """Take one; None when it is not due any more. It is due again at `until`, if nothing is saved before."""
        row = _CLAIM.one(
            self._cursor, vault=due.vault_id, name=due.name, id=due.id, now=micros(now), until=micros(until)
        )
        return None if row is None else _endpoint(row)

    def save(self, endpoint: Endpoint, act_at: datetime | None) -> bool:
        """Write what was seen; False when it was disturbed or removed meanwhile, and nothing was written."""
        standing = endpoint.standing
        blind = standing.serving in (Serving.UNREACHABLE, Serving.GARBAGE)
        alarmed = 0 if standing.alarm is None else 2 if standing.alarm.grave else 1
        cursor = _SAVE.run(
            self._cursor,
            vault=endpoint.vault_id,
            name=endpoint.name,
            id=endpoint.place.id,
            owner_fence=endpoint.fence,
            new_state=msgspec.json.encode(standing).decode(),
            new_serving=standing.serving.value,
            new_alarmed=alarmed,
            new_lane=int(Lane.BLIND if blind else Lane.SEEN),
            new_act_at=None if act_at is None else micros(act_at),
        )
        return cursor.rowcount == 1

    def alarm(self, vault: int, name: str) -> str | None:
        """Why a certificate is not served where it should be, if it is known not to be."""
        rows = _ALARMED.all(self._cursor, vault=vault, name=name.lower())
        alarms = [alarm for (state,) in rows if (alarm := _STATE.decode(state).alarm) is not None]
        alarms.sort(key=lambda alarm: not alarm.grave)
        return alarms[0].reason if alarms else None

    def troubled(self, serving: Serving, count: int) -> list[Endpoint]:
        """Those that serve that, which is not the version in use."""
        return [_endpoint(row) for row in _TROUBLED.all(self._cursor, serving=serving.value, count=count)]

    def totals(self) -> Totals:
        rows = _COUNTS.all(self._cursor)
        every = _COUNT.one(self._cursor)
        serving = {Serving(row[0]): row[1] for row in rows}
        serving[Serving.CURRENT] = (every[0] if every else 0) - sum(serving.values())
        return Totals(serving, sum(row[2] for row in rows), sum(row[3] for row in rows))

    def release(self, now: datetime, lease: timedelta) -> None:
        """Make due what a dead owner may have claimed."""
        until = micros(now + lease)
        for lane in Lane:
            _RELEASE.run(self._cursor, lane=int(lane), now=micros(now), until=until, new_act_at=micros(now))

    def call_back(self, now: datetime, over: timedelta) -> None:
        """Look at everything again within `over`: the clock went back, so that what is due later may be due now."""
        spread = over // timedelta(microseconds=1)
        for lane in Lane:
            _CALL_BACK.run(self._cursor, lane=int(lane), now=micros(now), new_act_at=micros(now), over=spread)


def _endpoint(row: Row) -> Endpoint:
    vault, name, _, place, state, created, act_at, fence = row
    return Endpoint(
        vault,
        name,
        _PLACE.decode(place),
        _STATE.decode(state),
        moment(created),
        None if act_at is None else moment(act_at),
        fence,
    )
