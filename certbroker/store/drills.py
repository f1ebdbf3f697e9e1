"""Drills, and the certificates in each."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, and_, bindparam, delete, exists, func, literal_column, null, or_, select, update
from sqlmodel import col

from certbroker.domain.drill import LONG_DEADLINE, SHORT_DEADLINE, Drill, Fate, Plan, Progress, Replacement, Stage
from certbroker.store.moments import micros, moment
from certbroker.store.statement import Cursor, Row, Statement, choose, insertion
from certbroker.store.tables import DrillRow, LifecycleRow, ObjectRow, ReplacementRow

_d, _r, _o, _l = DrillRow, ReplacementRow, ObjectRow, LifecycleRow
_COLUMNS = (
    _d.id, _d.vault_id, _d.issuer, _d.perform, _d.reason, _d.new_key, _d.batch, _d.stage, _d.started, _d.planned,
    _d.ended, _d.plan, _d.act_at, _d.fence,
)  # fmt: skip
_THIS = col(_d.id) == bindparam("drill")
_GET = Statement(choose(*_COLUMNS).where(_THIS))
_ADD = insertion(_d)
_SAVE = Statement(
    update(_d)
    .where(_THIS, col(_d.fence) == bindparam("owner_fence"))
    .values(
        stage=bindparam("new_stage"),
        planned=bindparam("new_planned"),
        ended=bindparam("new_ended"),
        plan=bindparam("new_plan"),
        act_at=bindparam("new_act_at"),
    )
)
_STOP = Statement(
    update(_d)
    .where(_THIS, col(_d.act_at).is_not(None))
    .values(stage=str(Stage.STOPPED), ended=bindparam("now"), act_at=null(), fence=col(_d.fence) + 1)
)
_DUE = Statement(
    choose(_d.id)
    .where(col(_d.act_at).is_not(None), col(_d.act_at) <= bindparam("now"))
    .order_by(col(_d.act_at))
    .limit(bindparam("count"))
)
_CLAIM = Statement(
    update(_d)
    .where(_THIS, col(_d.act_at) <= bindparam("now"))
    .values(act_at=bindparam("until"), fence=col(_d.fence) + 1)
    .returning(*(col(column) for column in _COLUMNS))
)
_OPEN = Statement(choose(*_COLUMNS).where(col(_d.act_at).is_not(None)).limit(bindparam("count")))
_RELEASE = Statement(update(_d).where(col(_d.act_at).is_not(None)).values(act_at=bindparam("now")))
# A vault's own, or, for who may see all, everything.
_LIST = Statement(
    choose(*_COLUMNS)
    .where(or_(bindparam("everywhere") == 1, col(_d.vault_id) == bindparam("vault")))
    .order_by(col(_d.started).desc())
    .limit(bindparam("count"))
)
_OLD = Statement(
    choose(_d.id).where(col(_d.act_at).is_(None), col(_d.started) < bindparam("before")).order_by(col(_d.started))
    .limit(bindparam("count"))
)  # fmt: skip
_FORGET = Statement(delete(_d).where(_THIS))

_MINE = col(_r.drill_id) == bindparam("drill")
_PUT = insertion(_r, replace=("version", "fate", "reason", "expected", "at"))
_ROW: Final[ColumnElement[int]] = literal_column("rowid")
_CLEAR = Statement(
    delete(_r).where(_ROW.in_(select(_ROW).select_from(_r).where(_MINE).limit(bindparam("count"))))
)  # fmt: skip
_ONE = and_(_MINE, col(_r.vault_id) == bindparam("vault"), col(_r.name) == bindparam("name"))
_TURN = Statement(
    update(_r).where(_ONE).values(fate=bindparam("new_fate"), reason=bindparam("new_reason"), at=bindparam("now"))
)
_MEMBERS = (_r.vault_id, _r.name, _r.version, _r.fate, _r.reason, _r.expected, _r.at)
_AFTER = or_(
    col(_r.vault_id) > bindparam("after_vault"),
    and_(col(_r.vault_id) == bindparam("after_vault"), col(_r.name) > bindparam("after_name")),
)
_OF_FATE = Statement(
    choose(*_MEMBERS)
    .where(_MINE, col(_r.fate) == bindparam("fate"), _AFTER)
    .order_by(col(_r.vault_id), col(_r.name))
    .limit(bindparam("count"))
)
_ALL = Statement(
    choose(*_MEMBERS)
    .where(_MINE, _AFTER, func.coalesce(col(_r.expected), 0) > bindparam("later"))
    .order_by(col(_r.vault_id), col(_r.name))
    .limit(bindparam("count"))
)
_COUNTS = Statement(
    choose(
        _r.fate,
        func.count(),
        func.max(col(_r.expected)),
        func.sum(func.coalesce(col(_r.expected), 0) > bindparam("short")),
        func.sum(func.coalesce(col(_r.expected), 0) > bindparam("long")),
        func.max(col(_r.at)),
    )
    .where(_MINE)
    .group_by(col(_r.fate))
)
_HOW_MANY = Statement(
    choose(func.count()).where(
        _MINE, col(_r.fate) == bindparam("fate"), func.coalesce(col(_r.at), 0) > bindparam("since")
    )
)

_OBJECT = and_(
    col(_o.vault_id) == col(_r.vault_id),
    col(_o.kind) == literal_column("'certificate'"),
    col(_o.name) == col(_r.name),
)
_CARE = and_(col(_l.vault_id) == col(_r.vault_id), col(_l.name) == col(_r.name))
_ASKED = col(_r.fate) == literal_column(f"'{Fate.ASKED}'")
_OUTSTANDING = or_(_ASKED, col(_r.fate) == literal_column(f"'{Fate.FAILING}'"))
_PROBLEM = func.json_extract(col(_l.state), "$.setback.problem.message")
# Each for all that are in the making, in one statement: ten thousand cost as much as a hundred looks one by one.
_REPLACED = Statement(
    update(_r)
    .where(_MINE, _OUTSTANDING, exists().where(_OBJECT, col(_o.current) != col(_r.version)))
    .values(fate=str(Fate.REPLACED), reason="", at=bindparam("now"))
)
_RESTS = Statement(
    update(_r)
    .where(_MINE, _OUTSTANDING, exists().where(_CARE, col(_l.staged).is_not(None)))
    .values(fate=str(Fate.REPLACED), reason=bindparam("said"), at=bindparam("now"))
)
_GONE = Statement(
    update(_r)
    .where(_MINE, _OUTSTANDING, ~exists().where(_CARE))
    .values(fate=str(Fate.PERSON), reason=bindparam("said"), at=bindparam("now"))
)
_FAILING = Statement(
    update(_r)
    .where(_MINE, _ASKED, exists().where(_CARE, _PROBLEM.is_not(None)))
    .values(
        fate=str(Fate.FAILING), reason=select(_PROBLEM).where(_CARE).scalar_subquery(), at=bindparam("now")
    )
)  # fmt: skip
_UNABLE = Statement(
    update(_r)
    .where(_MINE, _OUTSTANDING, exists().where(_CARE, or_(*(
        col(_l.health) == literal_column(f"'{health}'") for health in ("Disabled", "NeedsPerson")
    ))))
    .values(
        fate=str(Fate.PERSON),
        reason=select(func.json_extract(col(_l.state), "$.reason")).where(_CARE).scalar_subquery(),
        at=bindparam("now"),
    )
)  # fmt: skip
_RESTS_UNTIL: Final = "A new version is there, and rests until it becomes the current one."
_WENT: Final = "It was deleted meanwhile."

_PLAN: Final = msgspec.json.Decoder(Plan)


class Drills:
    """Drills by their id. Times are aware datetimes in UTC."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def get(self, drill_id: str) -> Drill | None:
        row = _GET.one(self._cursor, drill=drill_id)
        return None if row is None else _drill(row)

    def add(self, drill: Drill) -> None:
        _ADD.run(self._cursor, id=drill.id, vault_id=drill.vault_id, issuer=drill.issuer, perform=int(drill.perform),
                 reason=drill.reason, new_key=int(drill.new_key), batch=drill.batch, stage=str(drill.stage),
                 started=micros(drill.started), planned=None, ended=None, plan=_encode(drill.plan),
                 act_at=_micros(drill.act_at), fence=drill.fence)  # fmt: skip

    def save(self, drill: Drill) -> bool:
        """Write what has changed; False when somebody else has it now, or has stopped it, and nothing was written."""
        cursor = _SAVE.run(
            self._cursor,
            drill=drill.id,
            owner_fence=drill.fence,
            new_stage=str(drill.stage),
            new_planned=_micros(drill.planned),
            new_ended=_micros(drill.ended),
            new_plan=_encode(drill.plan),
            new_act_at=_micros(drill.act_at),
        )
        return cursor.rowcount == 1

    def stop(self, drill_id: str, now: datetime) -> bool:
        """End it, whoever works on it; False when it was over."""
        return _STOP.run(self._cursor, drill=drill_id, now=micros(now)).rowcount == 1

    def has_due(self, now: datetime) -> bool:
        return _DUE.one(self._cursor, now=micros(now), count=1) is not None

    def claim(self, now: datetime, until: datetime, count: int) -> list[Drill]:
        """Take what is due. It is due again at `until`, if nothing is saved before."""
        due = _DUE.all(self._cursor, now=micros(now), count=count)
        rows = [_CLAIM.one(self._cursor, drill=row[0], now=micros(now), until=micros(until)) for row in due]
        return [_drill(row) for row in rows if row is not None]

    def release_all(self, now: datetime) -> None:
        """Make due what a dead owner may have claimed."""
        _RELEASE.run(self._cursor, now=micros(now))

    def unfinished(self, count: int) -> list[Drill]:
        return [_drill(row) for row in _OPEN.all(self._cursor, count=count)]

    def listing(self, vault: int | None, count: int) -> list[Drill]:
        """The newest, first: those of one vault, or all."""
        rows = _LIST.all(self._cursor, vault=vault, everywhere=int(vault is None), count=count)
        return [_drill(row) for row in rows]

    def old(self, before: datetime, count: int) -> list[str]:
        """Those that are over and began before then."""
        return [row[0] for row in _OLD.all(self._cursor, before=micros(before), count=count)]

    def forget(self, drill_id: str, count: int) -> bool:
        """Forget so many of its certificates, and at the end the drill; whether it is gone."""
        if _CLEAR.run(self._cursor, drill=drill_id, count=count).rowcount:
            return False
        _FORGET.run(self._cursor, drill=drill_id)
        return True

    def put(self, drill_id: str, found: Replacement) -> None:
        """Note a certificate, or anew."""
        _PUT.run(
            self._cursor,
            drill_id=drill_id,
            vault_id=found.vault_id,
            name=found.name,
            version=found.version,
            fate=str(found.fate),
            reason=found.reason,
            expected=_micros(found.expected),
            at=_micros(found.at),
        )

    def turn(self, drill_id: str, found: Replacement, fate: Fate, reason: str, now: datetime) -> None:
        """Another fate has come to a certificate."""
        _TURN.run(
            self._cursor,
            drill=drill_id,
            vault=found.vault_id,
            name=found.name,
            new_fate=str(fate),
            new_reason=reason,
            now=micros(now),
        )

    def settle(self, drill_id: str, now: datetime) -> None:
        """See what has become of those that are in the making."""
        at = micros(now)
        _REPLACED.run(self._cursor, drill=drill_id, now=at)
        _RESTS.run(self._cursor, drill=drill_id, now=at, said=_RESTS_UNTIL)
        _GONE.run(self._cursor, drill=drill_id, now=at, said=_WENT)
        _FAILING.run(self._cursor, drill=drill_id, now=at)
        _UNABLE.run(self._cursor, drill=drill_id, now=at)

    def of_fate(self, drill_id: str, fate: Fate, count: int, after: tuple[int, str] = (-1, "")) -> list[Replacement]:
        """Those of that fate, by vault and name."""
        rows = _OF_FATE.all(
            self._cursor, drill=drill_id, fate=str(fate), after_vault=after[0], after_name=after[1], count=count
        )
        return [_replacement(row) for row in rows]

    def members(
        self, drill_id: str, count: int, after: tuple[int, str] = (-1, ""), later: datetime | None = None
    ) -> list[Replacement]:
        """All of them, or those that are expected later than then, by vault and name."""
        rows = _ALL.all(
            self._cursor,
            drill=drill_id,
            after_vault=after[0],
            after_name=after[1],
            later=-1 if later is None else micros(later),
            count=count,
        )
        return [_replacement(row) for row in rows]

    def progress(self, drill: Drill) -> Progress:
        """How far it is."""
        rows = _COUNTS.all(
            self._cursor,
            drill=drill.id,
            short=micros(drill.started + SHORT_DEADLINE),
            long=micros(drill.started + LONG_DEADLINE),
        )
        expected = max((row[2] for row in rows if row[2] is not None), default=None)
        replaced = max((row[5] for row in rows if row[0] == Fate.REPLACED and row[5] is not None), default=None)
        return Progress(
            {Fate(row[0]): row[1] for row in rows},
            sum(row[3] for row in rows),
            sum(row[4] for row in rows),
            None if expected is None else moment(expected),
            None if replaced is None else moment(replaced),
        )

    def count(self, drill_id: str, *fates: Fate, since: datetime | None = None) -> int:
        """How many have one of those fates, since later than then."""
        after = -1 if since is None else micros(since)
        rows = [_HOW_MANY.one(self._cursor, drill=drill_id, fate=str(fate), since=after) for fate in fates]
        return sum(row[0] for row in rows if row is not None)


def _micros(at: datetime | None) -> int | None:
    return None if at is None else micros(at)


def _moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)


def _encode(plan: Plan) -> str:
    return msgspec.json.encode(plan).decode()


def _drill(row: Row) -> Drill:
    (
        drill_id, vault, issuer, perform, reason, new_key, batch, stage, started, planned, ended, plan, act_at, fence,
    ) = row  # fmt: skip
    return Drill(
        drill_id,
        vault,
        issuer,
        bool(perform),
        reason,
        bool(new_key),
        batch,
        Stage(stage),
        moment(started),
        _moment(planned),
        _moment(ended),
        _PLAN.decode(plan),
        _moment(act_at),
        fence,
    )


def _replacement(row: Row) -> Replacement:
    vault, name, version, fate, reason, expected, at = row
    return Replacement(vault, name, version, Fate(fate), reason, _moment(expected), _moment(at))
