"""Rotation policies of keys, and when each key is to be looked at."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, and_, bindparam, delete, literal_column, select, update
from sqlmodel import col

from certbroker.domain.rotation import Deed, RotationPolicy
from certbroker.store.moments import micros
from certbroker.store.statement import Cursor, Row, Statement, choose, insertion
from certbroker.store.tables import RotationRow

_r = RotationRow
_COLUMNS = (_r.vault_id, _r.name, _r.policy, _r.version, _r.told)
_THIS = and_(col(_r.vault_id) == bindparam("vault"), col(_r.name) == bindparam("name"))
_GET = Statement(choose(*_COLUMNS).where(_THIS))
_PUT = insertion(_r, replace=("policy", "version", "told", "act_at"))
_REMOVE = Statement(delete(_r).where(_THIS))
_HAS_DUE = Statement(choose(_r.name).where(col(_r.act_at) <= bindparam("now")).limit(1))
_ROW: Final[ColumnElement[int]] = literal_column("rowid")
_CLAIM = Statement(
    update(_r)
    .where(
        _ROW.in_(
            select(_ROW)
            .select_from(_r)
            .where(col(_r.act_at) <= bindparam("now"))
            .order_by(col(_r.act_at))
            .limit(bindparam("count"))
        )
    )
    .values(act_at=bindparam("until"))
    .returning(*(col(column) for column in _COLUMNS))
)

_POLICY: Final = msgspec.json.Decoder(RotationPolicy)


class Rotation(Struct, frozen=True):
    """What is stored of a key's rotation. `policy` is None where nobody has set one.

    `told` is what people have been told of that `version`.
    """

    vault_id: int
    name: str
    policy: RotationPolicy | None = None
    version: str = ""
    told: Deed | None = None

    def told_of(self, version: str) -> Deed | None:
        return self.told if self.version == version else None


class Rotations:
    """The rotations of keys. Names are in lower case; times are aware datetimes in UTC."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def get(self, vault: int, name: str) -> Rotation | None:
        row = _GET.one(self._cursor, vault=vault, name=name.lower())
        return None if row is None else _rotation(row)

    def put(self, rotation: Rotation, act_at: datetime | None) -> None:
        """Store it, to be looked at then."""
        _PUT.run(
            self._cursor,
            vault_id=rotation.vault_id,
            name=rotation.name.lower(),
            policy=None if rotation.policy is None else msgspec.json.encode(rotation.policy).decode(),
            version=rotation.version,
            told=rotation.told,
            act_at=None if act_at is None else micros(act_at),
        )

    def remove(self, vault: int, name: str) -> None:
        _REMOVE.run(self._cursor, vault=vault, name=name.lower())

    def has_due(self, now: datetime) -> bool:
        """Whether there is anything to claim."""
        return _HAS_DUE.one(self._cursor, now=micros(now)) is not None

    def claim(self, now: datetime, until: datetime, count: int) -> list[Rotation]:
        """Take what is due. It is due again at `until`, if nothing is stored before."""
        rows = _CLAIM.all(self._cursor, now=micros(now), until=micros(until), count=count)
        return [_rotation(row) for row in rows]


def _rotation(row: Row) -> Rotation:
    vault, name, policy, version, told = row
    return Rotation(
        vault, name, None if policy is None else _POLICY.decode(policy), version, None if told is None else Deed(told)
    )
