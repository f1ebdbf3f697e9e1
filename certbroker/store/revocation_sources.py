"""Where it is asked whether certificates are revoked, and which certificates depend on that."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import and_, bindparam, delete, func, literal_column, or_, select, tuple_, update
from sqlmodel import col

from certbroker.domain.revocation_sources import Holding, Source, SourceKind, SourceStatus
from certbroker.store.moments import micros, moment
from certbroker.store.statement import Cursor, Row, Statement, choose, insertion
from certbroker.store.tables import RevocationDependentRow, RevocationSourceRow

_s, _d = RevocationSourceRow, RevocationDependentRow

# No wait is longer. A time further away comes from a clock that was wrong.
LONGEST_WAIT: Final = timedelta(days=2)

_COLUMNS = (_s.id, _s.kind, _s.url, _s.about, _s.serial, _s.holding, _s.status, _s.act_at, _s.generation)
_THIS = col(_s.id) == bindparam("source")
_GET = Statement(choose(*_COLUMNS).where(_THIS))
_ADD = insertion(_s, once=True)
_DUE = or_(col(_s.act_at) <= bindparam("now"), col(_s.act_at) > bindparam("latest"))
_HAS_DUE = Statement(choose(_s.id).where(_DUE).limit(1))
_CLAIM = Statement(
    update(_s)
    .where(col(_s.id).in_(select(col(_s.id)).where(_DUE).order_by(col(_s.act_at)).limit(bindparam("count"))))
    .values(act_at=bindparam("until"))
    .returning(*(col(column) for column in _COLUMNS))
)
_TAKE = Statement(
    update(_s).where(_THIS).values(act_at=bindparam("until")).returning(*(col(column) for column in _COLUMNS))
)
_SAVE = Statement(
    update(_s)
    .where(_THIS, col(_s.generation) == bindparam("seen"))
    .values(
        holding=bindparam("new_holding"),
        status=bindparam("new_status"),
        act_at=bindparam("new_act_at"),
        generation=col(_s.generation) + 1,
    )
)
_HURRY = Statement(update(_s).where(_THIS).values(act_at=bindparam("new_act_at")))
_BEGIN_PASS = Statement(
    update(_s).where(_THIS).values(pass_after="", pass_all=func.max(col(_s.pass_all), bindparam("everybody")))
)
_PASSING = Statement(
    choose(_s.id, _s.pass_after, _s.pass_all).where(col(_s.pass_after).is_not(None)).limit(bindparam("count"))
)
_PASSED = Statement(
    update(_s)
    .where(_THIS, col(_s.generation) == bindparam("seen"), col(_s.pass_after) == bindparam("before"))
    .values(pass_after=bindparam("new_after"), pass_all=col(_s.pass_all) * bindparam("goes_on"))
)
# Written into the statements, because SQLite uses a partial index only for a condition that it can read.
_IS_LIST = col(_s.kind) == literal_column("'crl'")
_UNWELL = col(_s.status) != literal_column("'fresh'")
_LISTS = Statement(
    choose(*_COLUMNS).where(_IS_LIST, col(_s.url) > bindparam("after")).order_by(col(_s.url)).limit(bindparam("count"))
)
_BAD = Statement(
    choose(*_COLUMNS)
    .where(_UNWELL, col(_s.status) == bindparam("status"))
    .order_by(col(_s.url))
    .limit(bindparam("count"))
)
_COUNTS = Statement(choose(_s.status, func.count()).where(_UNWELL).group_by(col(_s.status)))
_RELEASE = Statement(
    update(_s)
    .where(col(_s.act_at) > bindparam("now"), col(_s.act_at) <= bindparam("until"))
    .values(act_at=bindparam("new_act_at"))
)
_FILES = Statement(
    choose(func.json_extract(col(_s.holding), "$.base.file"), func.json_extract(col(_s.holding), "$.delta.file")).where(
        _IS_LIST
    )
)
_UNUSED = Statement(
    choose(_s.id, select(literal_column("1")).where(col(_d.source_id) == col(_s.id)).limit(1).scalar_subquery())
    .where(col(_s.id) > bindparam("after"))
    .order_by(col(_s.id))
    .limit(bindparam("count"))
)
_REMOVE = Statement(delete(_s).where(_THIS))

_HOLDER = and_(col(_d.vault_id) == bindparam("vault"), col(_d.name) == bindparam("name"))
_OF = Statement(choose(_d.source_id, _d.serial, _d.listed).where(_HOLDER))
_ON = Statement(
    choose(_d.vault_id, _d.name, _d.serial, _d.listed)
    .where(
        col(_d.source_id) == bindparam("source"),
        tuple_(col(_d.vault_id), col(_d.name), col(_d.serial))
        > tuple_(bindparam("after_vault"), bindparam("after_name"), bindparam("after_serial")),
    )
    .order_by(col(_d.vault_id), col(_d.name), col(_d.serial))
    .limit(bindparam("count"))
)
_VAULTS = Statement(
    choose(_d.vault_id, func.count(col(_d.name).distinct()))
    .where(col(_d.source_id) == bindparam("source"))
    .group_by(col(_d.vault_id))
)
_DEPEND = insertion(_d, replace=("listed",))
_LEAVE = Statement(
    delete(_d).where(_HOLDER, col(_d.source_id) == bindparam("source"), col(_d.serial) == bindparam("number"))
)
_LEAVE_ALL = Statement(delete(_d).where(_HOLDER))

_HOLDING: Final = msgspec.json.Decoder(Holding)


class Dependent(Struct, frozen=True, order=True):
    """A certificate in a vault that is judged by a source, under the serial number that it has there.

    `listed` is 0 where a CRL says nothing of it, else more than the code of the reason.
    """

    vault_id: int
    name: str
    serial: str
    listed: int


class Pass(Struct, frozen=True):
    """A walk over all who depend on a source: how far it is, and whether everybody is to be looked at again."""

    source_id: str
    after: str
    everybody: bool

    @property
    def position(self) -> tuple[int, str, str]:
        vault, _, rest = self.after.partition("|")
        name, _, serial = rest.partition("|")
        return (int(vault), name, serial) if self.after else (0, "", "")


class RevocationSources:
    """Sources by their id, and who depends on them. Times are aware datetimes in UTC."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def get(self, source_id: str) -> Source | None:
        row = _GET.one(self._cursor, source=source_id)
        return None if row is None else _source(row)

    def add(self, source: Source, act_at: datetime) -> None:
        """Ask it from then on; nothing happens where that is done already."""
        _ADD.run(
            self._cursor,
            id=source.id,
            kind=str(source.kind),
            url=source.url,
            about=source.about,
            serial=source.serial,
            holding="{}",
            status=str(source.status),
            act_at=micros(act_at),
            generation=0,
            pass_after=None,
            pass_all=0,
        )

    def vaults(self, source_id: str) -> dict[int, int]:
        """How many certificates of each vault depend on a source."""
        return {row[0]: row[1] for row in _VAULTS.all(self._cursor, source=source_id)}

    def has_due(self, now: datetime) -> bool:
        """Whether there is anything to claim."""
        return _HAS_DUE.one(self._cursor, now=micros(now), latest=micros(now + LONGEST_WAIT)) is not None

    def claim(self, now: datetime, until: datetime, count: int) -> list[Source]:
        """Take what is due. It is due again at `until`, if nothing is saved before."""
        latest = micros(now + LONGEST_WAIT)
        rows = _CLAIM.all(self._cursor, now=micros(now), latest=latest, until=micros(until), count=count)
        return [_source(row) for row in rows]

    def take(self, source_id: str, until: datetime) -> Source | None:
        """Take one, due or not, beside whoever has it: what is saved first counts."""
        row = _TAKE.one(self._cursor, source=source_id, until=micros(until))
        return None if row is None else _source(row)

    def save(self, source: Source, act_at: datetime | None) -> bool:
        """Write what is held and how it is; False when somebody else has meanwhile, and nothing was written."""
        cursor = _SAVE.run(
            self._cursor,
            source=source.id,
            seen=source.generation,
            new_holding=msgspec.json.encode(source.holding).decode(),
            new_status=str(source.status),
            new_act_at=None if act_at is None else micros(act_at),
        )
        return cursor.rowcount == 1

    def hurry(self, source_id: str, act_at: datetime) -> None:
        """Ask it then, whatever was planned."""
        _HURRY.run(self._cursor, source=source_id, new_act_at=micros(act_at))

    def begin_pass(self, source_id: str, *, everybody: bool) -> None:
        """Go through all who depend on it: from the start, if that is going on."""
        _BEGIN_PASS.run(self._cursor, source=source_id, everybody=int(everybody))

    def passing(self, count: int) -> list[Pass]:
        """Walks that are not done."""
        return [Pass(row[0], row[1], bool(row[2])) for row in _PASSING.all(self._cursor, count=count)]

    def passed(self, walk: Pass, seen: int, last: Dependent | None) -> bool:
        """The walk has come so far, or to its end; False when the source has changed since `seen`."""
        after = None if last is None else f"{last.vault_id}|{last.name}|{last.serial}"
        cursor = _PASSED.run(
            self._cursor,
            source=walk.source_id,
            seen=seen,
            before=walk.after,
            new_after=after,
            goes_on=int(last is not None),
        )
        return cursor.rowcount == 1

    def lists(self, count: int, after: str = "") -> list[Source]:
        """CRLs, by URL."""
        return [_source(row) for row in _LISTS.all(self._cursor, after=after, count=count)]

    def unwell(self, status: SourceStatus, count: int) -> list[Source]:
        """Sources of any kind in that state, which is not fresh."""
        return [_source(row) for row in _BAD.all(self._cursor, status=str(status), count=count)]

    def counts(self) -> dict[SourceStatus, int]:
        """How many there are in each state but fresh."""
        return {SourceStatus(row[0]): row[1] for row in _COUNTS.all(self._cursor)}

    def release(self, now: datetime, lease: timedelta) -> None:
        """Make due what a dead owner may have claimed."""
        _RELEASE.run(self._cursor, now=micros(now), until=micros(now + lease), new_act_at=micros(now))

    def files(self) -> set[str]:
        """The names of all indexes that are held."""
        return {name for row in _FILES.all(self._cursor) for name in row if name is not None}

    def unused(self, after: str, count: int) -> tuple[list[str], str]:
        """Sources that nothing depends on, among so many after that id, and the last of those."""
        rows = _UNUSED.all(self._cursor, after=after, count=count)
        return [row[0] for row in rows if row[1] is None], rows[-1][0] if rows else ""

    def remove(self, source_id: str) -> None:
        _REMOVE.run(self._cursor, source=source_id)

    def of(self, vault: int, name: str) -> dict[tuple[str, str], int]:
        """What a certificate depends on: source and serial number, and what is said there."""
        rows = _OF.all(self._cursor, vault=vault, name=name)
        return {(row[0], row[1]): row[2] for row in rows}

    def on(self, source_id: str, after: tuple[int, str, str], count: int) -> list[Dependent]:
        """Who depends on a source, in order."""
        vault, name, serial = after
        rows = _ON.all(
            self._cursor, source=source_id, after_vault=vault, after_name=name, after_serial=serial, count=count
        )
        return [Dependent(*row) for row in rows]

    def depend(self, source_id: str, dependent: Dependent) -> None:
        _DEPEND.run(
            self._cursor,
            source_id=source_id,
            vault_id=dependent.vault_id,
            name=dependent.name,
            serial=dependent.serial,
            listed=dependent.listed,
        )

    def leave(self, vault: int, name: str, source_id: str, serial: str) -> None:
        _LEAVE.run(self._cursor, vault=vault, name=name, source=source_id, number=serial)

    def leave_all(self, vault: int, name: str) -> None:
        """The certificate is not watched any more."""
        _LEAVE_ALL.run(self._cursor, vault=vault, name=name)


def _source(row: Row) -> Source:
    source_id, kind, url, about, serial, holding, status, act_at, generation = row
    return Source(
        source_id,
        SourceKind(kind),
        url,
        about,
        serial,
        _HOLDING.decode(holding),
        SourceStatus(status),
        None if act_at is None else moment(act_at),
        generation,
    )
