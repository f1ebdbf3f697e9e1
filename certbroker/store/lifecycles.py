"""How certificates are looked after: what is due, and what is remembered between two looks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, and_, bindparam, case, delete, func, literal_column, null, select, tuple_, update
from sqlalchemy.dialects import sqlite
from sqlmodel import col

from certbroker.domain.lifecycle import Health, Lifecycle
from certbroker.domain.urgency import Urgency, urgency_of_wish
from certbroker.store.moments import micros, moment
from certbroker.store.statement import Cursor, Row, Statement, choose
from certbroker.store.tables import HealthCountRow, LifecycleRow

_l = LifecycleRow
_COLUMNS = (_l.vault_id, _l.name, _l.fence, _l.state, _l.issuer, _l.staged, _l.activate_at, _l.act_at)
_THIS = and_(col(_l.vault_id) == bindparam("vault"), col(_l.name) == bindparam("name"))
_GET = Statement(choose(*_COLUMNS).where(_THIS))

_new = sqlite.insert(_l).values(
    vault_id=bindparam("vault"),
    name=bindparam("name"),
    health=str(Health.UNKNOWN),
    state="{}",
    issuer=bindparam("issuer"),
    staged=bindparam("staged"),
    activate_at=bindparam("activate_at"),
    act_at=bindparam("act_at"),
    fence=0,
)
# A look that is due earlier stays; one that somebody is taking is void, because what he has read has changed.
_SOONER = func.min(func.coalesce(col(_l.act_at), _new.excluded.act_at), _new.excluded.act_at)
_disturbed = {"act_at": _SOONER, "fence": col(_l.fence) + 1}
_KEYS = ["vault_id", "name"]
_DISTURB = Statement(_new.on_conflict_do_update(index_elements=_KEYS, set_=_disturbed))
_MADE = Statement(
    _new.on_conflict_do_update(
        index_elements=_KEYS,
        set_=_disturbed | {"issuer": _new.excluded.issuer, "staged": null(), "activate_at": null()},
    )
)
_STAGE = Statement(
    _new.on_conflict_do_update(
        index_elements=_KEYS,
        set_=_disturbed | {name: _new.excluded[name] for name in ("issuer", "staged", "activate_at")},
    )
)
_DUE = Statement(choose(_l.act_at).where(col(_l.act_at).is_not(None)).order_by(col(_l.act_at)).limit(1))
# By the row's number: of two columns in a list SQLite looks up only the first by the key, which is the whole vault.
_ROW: Final[ColumnElement[int]] = literal_column("rowid")
_IS_DUE = col(_l.act_at) <= bindparam("now")
_TAKEN = {"act_at": bindparam("until"), "fence": col(_l.fence) + 1}


def _claim(condition: ColumnElement[bool]) -> Statement:
    """Take those of which that is true, the longest due first."""
    longest = select(_ROW).select_from(_l).where(condition).order_by(col(_l.act_at)).limit(bindparam("count"))
    return Statement(
        update(_l).where(_ROW.in_(longest)).values(_TAKEN).returning(*(col(column) for column in _COLUMNS))
    )


_CLAIM = _claim(_IS_DUE)
_CLAIM_URGENT = _claim(and_(col(_l.urgency) == bindparam("urgent"), _IS_DUE))
_SAVE = Statement(
    update(_l)
    .where(_THIS, col(_l.fence) == bindparam("owner_fence"))
    .values(
        health=bindparam("new_health"),
        state=bindparam("new_state"),
        act_at=bindparam("new_act_at"),
        urgency=bindparam("new_urgency"),
        staged=case((bindparam("activated") == 1, null()), else_=col(_l.staged)),
        activate_at=case((bindparam("activated") == 1, null()), else_=col(_l.activate_at)),
    )
)
_WISH = Statement(
    update(_l)
    .where(_THIS)
    .values(
        state=bindparam("new_state"),
        act_at=bindparam("new_act_at"),
        urgency=bindparam("new_urgency"),
        fence=col(_l.fence) + 1,
    )
)
_REMOVE = Statement(delete(_l).where(_THIS))
# Written into the statements, because SQLite uses a partial index only for a condition that it can read.
_NOT_HEALTHY = col(_l.health) != literal_column("'Healthy'")
_COUNTS = Statement(choose(HealthCountRow.health, HealthCountRow.certificates))
_UNWELL = Statement(
    choose(*_COLUMNS)
    .where(_NOT_HEALTHY, col(_l.health) == bindparam("health"))
    .order_by(col(_l.act_at))
    .limit(bindparam("count"))
)
_NEXT = Statement(
    choose(*_COLUMNS).where(col(_l.act_at).is_not(None)).order_by(col(_l.act_at)).limit(bindparam("count"))
)
_OF_ISSUER = Statement(
    choose(*_COLUMNS)
    .where(
        col(_l.issuer) == bindparam("issuer"),
        tuple_(col(_l.vault_id), col(_l.name)) > tuple_(bindparam("after_vault"), bindparam("after_name")),
        col(_l.vault_id) <= bindparam("last_vault"),
    )
    .order_by(col(_l.vault_id), col(_l.name))
    .limit(bindparam("count"))
)
_WITHIN = and_(col(_l.act_at) > bindparam("now"), col(_l.act_at) <= bindparam("until"))
_RELEASE = Statement(update(_l).where(_WITHIN).values(act_at=bindparam("new_act_at")))
_CALL_BACK = Statement(
    update(_l)
    .where(col(_l.act_at) > bindparam("now"))
    .values(act_at=bindparam("new_act_at") + func.abs(func.random()) % bindparam("over"))
)

# So large a part of what is claimed is what is due longest: one in so many.
_BY_AGE: Final = 4

_LAST_VAULT: Final = 2**62
_STATE: Final = msgspec.json.Decoder(Lifecycle)


class Care(Struct, frozen=True):
    """A certificate's lifecycle as it is stored. `name` is in lower case; `act_at` is when it is looked at next."""

    vault_id: int
    name: str
    fence: int
    lifecycle: Lifecycle
    issuer: str | None = None
    staged: str | None = None
    activate_at: datetime | None = None
    act_at: datetime | None = None


class Lifecycles:
    """The lifecycles of certificates. Times are aware datetimes in UTC."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def get(self, vault: int, name: str) -> Care | None:
        row = _GET.one(self._cursor, vault=vault, name=name.lower())
        return None if row is None else _care(row)

    def disturb(self, vault: int, name: str, act_at: datetime) -> None:
        """Something about the certificate has changed: look at it then, or earlier."""
        self._upsert(_DISTURB, vault, name, act_at)

    def made(self, vault: int, name: str, issuer: str | None, act_at: datetime) -> None:
        """There is a new current version, from that issuer."""
        self._upsert(_MADE, vault, name, act_at, issuer)

    def stage(
        self, vault: int, name: str, issuer: str | None, version: str, activate_at: datetime, act_at: datetime
    ) -> None:
        """There is a new version that becomes current later."""
        self._upsert(_STAGE, vault, name, act_at, issuer, version, micros(activate_at))

    def next_due(self) -> datetime | None:
        """When the next look is due."""
        row = _DUE.one(self._cursor)
        return None if row is None else moment(row[0])

    def claim(self, now: datetime, until: datetime, count: int) -> list[Care]:
        """Take what is due, the most urgent first. It is due again at `until`, if nothing is saved before.

        A part of it is always what is due longest, whatever it is.
        """
        values = {"now": micros(now), "until": micros(until)}
        rows: list[Row] = []
        urgent = count - count // _BY_AGE
        for urgency in Urgency:
            if len(rows) < urgent:
                rows += _CLAIM_URGENT.all(self._cursor, urgent=int(urgency), count=urgent - len(rows), **values)
        rows += _CLAIM.all(self._cursor, count=count - len(rows), **values)
        return [_care(row) for row in rows]

    def save(self, care: Care, act_at: datetime | None, *, activated: bool = False) -> bool:
        """Write what is remembered; False when the certificate was disturbed meanwhile, and nothing was written."""
        cursor = _SAVE.run(
            self._cursor,
            vault=care.vault_id,
            name=care.name,
            owner_fence=care.fence,
            new_health=str(care.lifecycle.health),
            new_state=msgspec.json.encode(care.lifecycle).decode(),
            new_act_at=None if act_at is None else micros(act_at),
            new_urgency=_urgency(care.lifecycle),
            activated=int(activated),
        )
        return cursor.rowcount == 1

    def rewrite(self, care: Care, act_at: datetime) -> None:
        """Write what is remembered whoever looks at it now: his look is void."""
        state = msgspec.json.encode(care.lifecycle).decode()
        _WISH.run(
            self._cursor,
            vault=care.vault_id,
            name=care.name,
            new_state=state,
            new_act_at=micros(act_at),
            new_urgency=_urgency(care.lifecycle),
        )

    def remove(self, vault: int, name: str) -> None:
        _REMOVE.run(self._cursor, vault=vault, name=name.lower())

    def counts(self) -> dict[Health, int]:
        """How many certificates there are in each state of health."""
        return {Health.HEALTHY: 0} | {Health(health): count for health, count in _COUNTS.all(self._cursor) if count}

    def unwell(self, health: Health, count: int) -> list[Care]:
        """Certificates in that state, which is not Healthy."""
        return [_care(row) for row in _UNWELL.all(self._cursor, health=str(health), count=count)]

    def coming(self, count: int) -> list[Care]:
        """Those that are looked at next."""
        return [_care(row) for row in _NEXT.all(self._cursor, count=count)]

    def of_issuer(self, issuer: str, vault: int | None, after: tuple[int, str], count: int) -> list[Care]:
        """Those whose current version an issuer of that name has made, in one vault or in all, by vault and name."""
        after, last = (after, _LAST_VAULT) if vault is None else (max(after, (vault, "")), vault)
        rows = _OF_ISSUER.all(
            self._cursor,
            issuer=issuer.lower(),
            after_vault=after[0],
            after_name=after[1],
            last_vault=last,
            count=count,
        )
        return [_care(row) for row in rows]

    def release(self, now: datetime, lease: timedelta) -> None:
        """Make due what a dead owner may have claimed."""
        _RELEASE.run(self._cursor, now=micros(now), until=micros(now + lease), new_act_at=micros(now))

    def call_back(self, now: datetime, over: timedelta) -> None:
        """Look at everything again within `over`: the clock went back, so that what is due later may be due now."""
        _CALL_BACK.run(self._cursor, now=micros(now), new_act_at=micros(now), over=over // timedelta(microseconds=1))

    def _upsert(
        self,
        statement: Statement,
        vault: int,
        name: str,
        act_at: datetime,
        issuer: str | None = None,
        staged: str | None = None,
        activate_at: int | None = None,
    ) -> None:
        statement.run(
            self._cursor,
            vault=vault,
            name=name.lower(),
            act_at=micros(act_at),
            issuer=issuer and issuer.lower(),
            staged=staged,
            activate_at=activate_at,
        )


def _urgency(lifecycle: Lifecycle) -> int | None:
    found = None if lifecycle.wish is None else urgency_of_wish(lifecycle.wish.trigger)
    return None if found is None else int(found)


def _care(row: Row) -> Care:
    vault, name, fence, state, issuer, staged, activate_at, act_at = row
    return Care(
        vault,
        name,
        fence,
        _STATE.decode(state),
        issuer,
        staged,
        None if activate_at is None else moment(activate_at),
        None if act_at is None else moment(act_at),
    )
