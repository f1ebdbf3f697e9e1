"""Rate budgets, and the places in them that orders in progress have reserved."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import and_, bindparam, case, delete, func, literal_column, update
from sqlmodel import col

from certbroker.domain.budget import WHOLE, Bucket, Level, Scope
from certbroker.store.moments import micros, moment
from certbroker.store.statement import Cursor, Statement, choose, insertion
from certbroker.store.tables import BudgetRow, ReservationRow

_b, _r = BudgetRow, ReservationRow
_LEVEL = Statement(
    choose(_b.full_at, _b.held_until, _b.reason).where(
        col(_b.ca) == bindparam("ca"), col(_b.scope) == bindparam("scope"), col(_b.subject) == bindparam("subject")
    )
)
# Written into the statement, because SQLite uses a partial index only for a condition that it can read.
_RESERVED = Statement(
    choose(func.count()).where(
        col(_r.ca) == bindparam("ca"),
        col(_r.scope) == bindparam("scope"),
        col(_r.subject) == bindparam("subject"),
        col(_r.pending) == literal_column("1"),
    )
)
_PUT = insertion(_b, replace=("full_at", "held_until", "reason", "over_at"))
_HELD = Statement(
    choose(_b.ca, _b.scope, _b.subject, _b.full_at, _b.held_until, _b.reason)
    .where(col(_b.held_until) > bindparam("now"), col(_b.held_until) > literal_column("0"))
    .order_by(col(_b.held_until).desc())
    .limit(bindparam("count"))
)
_MOVED = {
    name: case((column > bindparam("after"), column + bindparam("by")), else_=column)
    for name, column in (("full_at", col(_b.full_at)), ("held_until", col(_b.held_until)))
}
_SHIFT = Statement(
    update(_b).where(col(_b.over_at) > bindparam("after")).values(over_at=col(_b.over_at) + bindparam("by"), **_MOVED)
)
_FORGET = Statement(delete(_b).where(col(_b.over_at) <= bindparam("now")))

_ORDER = and_(
    col(_r.operation_id) == bindparam("operation"), col(_r.step) == bindparam("step"), col(_r.ca) == bindparam("ca")
)
_RESERVATIONS = Statement(choose(_r.scope, _r.subject, _r.pending).where(_ORDER))
_RESERVE = insertion(_r)
_RELEASE = Statement(delete(_r).where(_ORDER))
_RELEASE_ALL = Statement(delete(_r).where(col(_r.operation_id) == bindparam("operation")))
_EXPIRE = Statement(delete(_r).where(col(_r.over_at) <= bindparam("now")))
_OVER = tuple(Statement(choose(func.count()).where(col(each.over_at) <= bindparam("now"))) for each in (_b, _r))


class Budgets:
    """Levels of buckets, and reservations by the operation, step and CA of an order."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def level(self, bucket: Bucket, *, counted: bool = True) -> Level:
        """How a bucket stands; whole when nothing is known of it. Where nothing is `counted` reservations are not."""
        key = {"ca": bucket.ca, "scope": bucket.scope.value, "subject": bucket.subject}
        row = _LEVEL.one(self._cursor, **key)
        count = _RESERVED.one(self._cursor, **key) if counted else None
        reserved = count[0] if count else 0
        if row is None:
            return Level(reserved=reserved) if reserved else WHOLE
        return Level(moment(row[0]), reserved, moment(row[1]), row[2])

    def put(self, bucket: Bucket, level: Level) -> None:
        """Write how a bucket stands, but for the reservations."""
        _PUT.run(
            self._cursor,
            ca=bucket.ca,
            scope=bucket.scope.value,
            subject=bucket.subject,
            full_at=micros(level.full_at),
            held_until=micros(level.held_until),
            reason=level.reason,
            over_at=micros(max(level.full_at, level.held_until)),
        )

    def held(self, now: datetime, count: int) -> list[tuple[Bucket, Level]]:
        """Buckets that are held, the longest first. Reservations are not counted in."""
        rows = _HELD.all(self._cursor, now=micros(now), count=count)
        return [
            (Bucket(ca, Scope(scope), subject), Level(moment(full_at), 0, moment(held_until), reason))
            for ca, scope, subject, full_at, held_until, reason in rows
        ]

    def reserve(self, operation: str, step: str, bucket: Bucket, until: datetime, *, pending: bool) -> None:
        """Note that an order is admitted; `pending` when it will take a place of the bucket by succeeding."""
        _RESERVE.run(
            self._cursor,
            operation_id=operation,
            step=step,
            ca=bucket.ca,
            scope=bucket.scope.value,
            subject=bucket.subject,
            pending=int(pending),
            over_at=micros(until),
        )

    def reservations(self, operation: str, step: str, ca: str) -> dict[Bucket, bool]:
        """What an order has reserved, and whether that is pending; nothing when it has not been admitted."""
        rows = _RESERVATIONS.all(self._cursor, operation=operation, step=step, ca=ca)
        return {Bucket(ca, Scope(scope), subject): bool(pending) for scope, subject, pending in rows}

    def release(self, operation: str, step: str, ca: str) -> None:
        """Forget what an order has reserved."""
        _RELEASE.run(self._cursor, operation=operation, step=step, ca=ca)

    def release_all(self, operation: str) -> None:
        """Forget what all orders of an operation have reserved."""
        _RELEASE_ALL.run(self._cursor, operation=operation)

    def shift(self, after: datetime, by: timedelta) -> None:
        """Move what lies after a moment."""
        _SHIFT.run(self._cursor, after=micros(after), by=by // timedelta(microseconds=1))

    def has_expired(self, now: datetime) -> bool:
        """Whether there is something to `expire`."""
        return any(row[0] for statement in _OVER if (row := statement.one(self._cursor, now=micros(now))))

    def expire(self, now: datetime) -> None:
        """Forget buckets that are whole and held no more, and reservations that nobody has ended."""
        _FORGET.run(self._cursor, now=micros(now))
        _EXPIRE.run(self._cursor, now=micros(now))
