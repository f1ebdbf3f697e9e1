"""What discovery has seen, which domains it watches for, and how far each of its tasks is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, and_, bindparam, case, delete, func, literal_column, select, update
from sqlalchemy.dialects import sqlite
from sqlmodel import col

from certbroker.domain.discovery import MOST_PLACES, Sighting, Standing
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import CertificateFacts
from certbroker.store.moments import micros, moment
from certbroker.store.objects import decode_policy
from certbroker.store.statement import Cursor, Row, Statement, choose, insertion
from certbroker.store.tables import (
    DiscoveryTaskRow,
    ManagedDomainRow,
    PolicyRow,
    SightingRow,
    VersionRow,
)

_s, _t, _d, _v, _p = SightingRow, DiscoveryTaskRow, ManagedDomainRow, VersionRow, PolicyRow
_COLUMNS = (
    _s.id, _s.serial, _s.issuer, _s.subject, _s.names, _s.not_before, _s.not_after, _s.places, _s.last_seen, _s.sha256,
    _s.leaf, _s.key, _s.standing, _s.first_seen, _s.vault_id, _s.name, _s.version,
)  # fmt: skip
_THIS = col(_s.id) == bindparam("sighting")
_GET = Statement(choose(*_COLUMNS).where(_THIS))
_new = sqlite.insert(_s).values({column.name: bindparam(column.name) for column in _s.__table__.columns})  # type: ignore[attr-defined]  # added by SQLModel
# What a server has shown says more than what a log tells.
_shown = _new.excluded.leaf != literal_column("x''")
_SEE = Statement(
    _new.on_conflict_do_update(
        index_elements=["id"],
        set_={
            "places": _new.excluded.places,
            "last_seen": _new.excluded.last_seen,
            **{
                name: case((_shown, _new.excluded[name]), else_=getattr(_s, name))
                for name in ("sha256", "leaf", "key", "subject", "issuer", "names")
            },
        },
    )
)
_JUDGE = Statement(
    update(_s)
    .where(_THIS)
    .values(
        standing=bindparam("new_standing"),
        vault_id=bindparam("new_vault"),
        name=bindparam("new_name"),
        version=bindparam("new_version"),
    )
)
_LIST = Statement(
    choose(*_COLUMNS)
    .where(col(_s.standing) == bindparam("standing"), col(_s.id) > bindparam("after"))
    .order_by(col(_s.id))
    .limit(bindparam("count"))
)
_EVERY = Statement(
    choose(*_COLUMNS).where(col(_s.id) > bindparam("after")).order_by(col(_s.id)).limit(bindparam("count"))
)
_KEYS = Statement(
    choose(_s.id, _s.serial, _s.sha256, _s.not_before, _s.leaf != literal_column("x''")).where(
        col(_s.standing) == bindparam("standing")
    )
)
_COUNTS = Statement(choose(_s.standing, func.count()).group_by(col(_s.standing)))
_ROW: Final[ColumnElement[int]] = literal_column("rowid")
_OLDEST = select(_ROW).select_from(_s).order_by(col(_s.last_seen)).limit(bindparam("count"))
_DROP = Statement(delete(_s).where(_ROW.in_(_OLDEST)))

_TASK = (_t.id, _t.position, _t.act_at, _t.began, _t.succeeded, _t.problem, _t.found, _t.fence)
_TASKS = Statement(choose(*_TASK).order_by(col(_t.id)))
_ENSURE = insertion(_t, once=True)
_DUE = Statement(choose(_t.id).where(col(_t.act_at) <= bindparam("now")).order_by(col(_t.act_at)))
_CLAIM = Statement(
    update(_t)
    .where(col(_t.id) == bindparam("task"), col(_t.act_at) <= bindparam("now"))
    .values(act_at=bindparam("until"), fence=col(_t.fence) + 1)
    .returning(*(col(column) for column in _TASK))
)
_SAVE = Statement(
    update(_t)
    .where(col(_t.id) == bindparam("task"), col(_t.fence) == bindparam("owner_fence"))
    .values(
        position=bindparam("new_position"),
        act_at=bindparam("new_act_at"),
        began=bindparam("new_began"),
        succeeded=bindparam("new_succeeded"),
        problem=bindparam("new_problem"),
        found=bindparam("new_found"),
    )
)
_SOON = Statement(
    update(_t).where(col(_t.act_at) > bindparam("now"), col(_t.id) == bindparam("task")).values(act_at=bindparam("now"))
)
_RELEASE = Statement(
    update(_t)
    .where(col(_t.act_at) > bindparam("now"), col(_t.act_at) <= bindparam("until"))
    .values(act_at=bindparam("now"))
)
# Who goes on with one now may carry a beginning by the wrong clock, and writes nothing any more.
_CALL_BACK = Statement(
    update(_t).values(
        act_at=func.min(col(_t.act_at), bindparam("now")),
        began=func.min(col(_t.began), bindparam("now")),
        succeeded=func.min(col(_t.succeeded), bindparam("now")),
        fence=col(_t.fence) + 1,
    )
)
_RETIRE = Statement(delete(_t).where(col(_t.id) == bindparam("task")))

_MANAGE = insertion(_d, replace=("seen",))
_DOMAINS = Statement(
    choose(_d.domain)
    .where(col(_d.domain) > bindparam("after"))
    .group_by(col(_d.domain))
    .order_by(col(_d.domain))
    .limit(bindparam("count"))
)
_VAULTS = Statement(choose(_d.vault_id).where(col(_d.domain) == bindparam("domain")).limit(bindparam("count")))
_FORGET = Statement(delete(_d).where(col(_d.seen) < bindparam("before")))

_AFTER = and_(col(_v.name) >= bindparam("after_name"))
_VERSIONS = Statement(
    choose(_v.name, _v.version, _v.facts)
    .where(
        col(_v.vault_id) == bindparam("vault"),
        col(_v.kind) == literal_column("'certificate'"),
        _AFTER,
        (col(_v.name) > bindparam("after_name")) | (col(_v.version) > bindparam("after_version")),
    )
    .order_by(col(_v.name), col(_v.version))
    .limit(bindparam("count"))
)
_POLICIES = Statement(
    choose(_p.name, _p.policy)
    .where(col(_p.vault_id) == bindparam("vault"), col(_p.name) > bindparam("after"))
    .order_by(col(_p.name))
    .limit(bindparam("count"))
)
_FACTS: Final = msgspec.json.Decoder(CertificateFacts)


class Task(Struct, frozen=True):
    """Something that discovery does again and again. `position` is how far it is, empty at the beginning.

    `act_at` is when it goes on; `began` and `succeeded` are about whole rounds; `found` counts what the last saw.
    """

    id: str
    position: str
    act_at: datetime
    began: datetime | None = None
    succeeded: datetime | None = None
    problem: str = ""
    found: int = 0
    fence: int = 0


class Unjudged(Struct, frozen=True):
    """What a sighting is found by among the certificates of vaults."""

    id: str
    serial: str
    sha256: str
    not_before: datetime
    is_shown: bool


class Discovery:
    """Sightings, tasks and domains. Times are aware datetimes in UTC."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def get(self, sighting_id: str) -> Sighting | None:
        row = _GET.one(self._cursor, sighting=sighting_id)
        return None if row is None else _sighting(row)

    def see(self, seen: Sighting) -> None:
        """Note that a certificate was seen: for the first time, or again, then with the places that are new."""
        known = self.get(seen.id)
        before = known.places if known else ()
        places = tuple(dict.fromkeys((*seen.places, *before)))[:MOST_PLACES]
        _SEE.run(
            self._cursor,
            id=seen.id,
            serial=seen.serial,
            issuer=seen.issuer,
            subject=seen.subject,
            names=_encode(seen.names),
            not_before=micros(seen.not_before),
            not_after=micros(seen.not_after),
            places=_encode(places),
            last_seen=micros(seen.seen),
            first_seen=micros(seen.seen),
            sha256=seen.sha256,
            leaf=seen.leaf,
            key=seen.key,
            standing=str(Standing.NEW),
            vault_id=None,
            name="",
            version="",
        )

    def judge(
        self, sighting_id: str, standing: Standing, vault: int | None = None, name: str = "", version: str = ""
    ) -> None:
        """Say what it is, and where it is known or adopted."""
        _JUDGE.run(
            self._cursor,
            sighting=sighting_id,
            new_standing=str(standing),
            new_vault=vault,
            new_name=name,
            new_version=version,
        )

    def listing(self, standing: Standing | None, after: str, count: int) -> list[Sighting]:
        if standing is None:
            rows = _EVERY.all(self._cursor, after=after, count=count)
        else:
            rows = _LIST.all(self._cursor, standing=str(standing), after=after, count=count)
        return [_sighting(row) for row in rows]

    def unjudged(self, standing: Standing) -> list[Unjudged]:
        """All of that standing, by what they are found by."""
        rows = _KEYS.all(self._cursor, standing=str(standing))
        return [Unjudged(row[0], row[1], row[2], moment(row[3]), bool(row[4])) for row in rows]

    def counts(self) -> dict[Standing, int]:
        return {Standing(row[0]): row[1] for row in _COUNTS.all(self._cursor)}

    def drop_oldest(self, count: int) -> None:
        """Forget those that have not been seen for the longest."""
        _DROP.run(self._cursor, count=count)

    def tasks(self) -> list[Task]:
        return [_task(row) for row in _TASKS.all(self._cursor)]

    def ensure(self, task_id: str, now: datetime) -> None:
        """Have a task of that name."""
        _ENSURE.run(self._cursor, id=task_id, position="", act_at=micros(now), began=None, succeeded=None, problem="",
                    found=0, fence=0)  # fmt: skip

    def retire(self, task_id: str) -> None:
        """Have it no more."""
        _RETIRE.run(self._cursor, task=task_id)

    def due(self, now: datetime) -> list[str]:
        return [row[0] for row in _DUE.all(self._cursor, now=micros(now))]

    def claim(self, task_id: str, now: datetime, lease: timedelta) -> Task | None:
        row = _CLAIM.one(self._cursor, task=task_id, now=micros(now), until=micros(now + lease))
        return None if row is None else _task(row)

    def save(self, task: Task) -> bool:
        """Write how far it is; False when somebody else has it now, and nothing was written."""
        cursor = _SAVE.run(
            self._cursor,
            task=task.id,
            owner_fence=task.fence,
            new_position=task.position,
            new_act_at=micros(task.act_at),
            new_began=None if task.began is None else micros(task.began),
            new_succeeded=None if task.succeeded is None else micros(task.succeeded),
            new_problem=task.problem,
            new_found=task.found,
        )
        return cursor.rowcount == 1

    def hurry(self, now: datetime, task_id: str) -> None:
        """Let a task go on now."""
        _SOON.run(self._cursor, now=micros(now), task=task_id)

    def release(self, now: datetime, lease: timedelta) -> None:
        """Make due what a dead owner may have claimed."""
        _RELEASE.run(self._cursor, now=micros(now), until=micros(now + lease))

    def call_back(self, now: datetime) -> None:
        """Let all tasks go on now: the clock went back, so that what is due later may be due now.

        Rounds that began or were over in what is the future now count from now.
        """
        _CALL_BACK.run(self._cursor, now=micros(now))

    def manage(self, domain: str, vault: int, now: datetime) -> None:
        """A certificate of the vault has a name in that registered domain."""
        _MANAGE.run(self._cursor, domain=domain, vault_id=vault, seen=micros(now))

    def forget_domains(self, before: datetime) -> None:
        _FORGET.run(self._cursor, before=micros(before))

    def domains(self, after: str, count: int) -> list[str]:
        """Registered domains of certificates in vaults, each once, in their order."""
        return [row[0] for row in _DOMAINS.all(self._cursor, after=after, count=count)]

    def vaults_of(self, domain: str, count: int) -> list[int]:
        return [row[0] for row in _VAULTS.all(self._cursor, domain=domain, count=count)]

    def versions(self, vault: int, after: tuple[str, str], count: int) -> list[tuple[str, str, CertificateFacts]]:
        """All versions of all certificates of a vault, deleted ones too, by name and version."""
        rows = _VERSIONS.all(self._cursor, vault=vault, after_name=after[0], after_version=after[1], count=count)
        return [(name, version, _FACTS.decode(facts)) for name, version, facts in rows if facts]

    def policies(self, vault: int, after: str, count: int) -> list[tuple[str, CertificatePolicy]]:
        """The policies of a vault, by name."""
        rows = _POLICIES.all(self._cursor, vault=vault, after=after, count=count)
        return [(name, decode_policy(policy)) for name, policy in rows]


def _encode(values: tuple[str, ...]) -> str:
    return msgspec.json.encode(values).decode()


def _decode(text: str) -> tuple[str, ...]:
    return msgspec.json.decode(text, type=tuple[str, ...])


def _sighting(row: Row) -> Sighting:
    (
        sighting, serial, issuer, subject, names, before, after, places, seen, sha256, leaf, key, standing, first,
        vault, name, version,
    ) = row  # fmt: skip
    return Sighting(
        sighting,
        serial,
        issuer,
        subject,
        _decode(names),
        moment(before),
        moment(after),
        _decode(places),
        moment(seen),
        sha256,
        leaf,
        key,
        Standing(standing),
        moment(first),
        vault,
        name,
        version,
    )


def _task(row: Row) -> Task:
    task, position, act_at, began, succeeded, problem, found, fence = row
    return Task(
        task,
        position,
        moment(act_at),
        None if began is None else moment(began),
        None if succeeded is None else moment(succeeded),
        problem,
        found,
        fence,
    )
