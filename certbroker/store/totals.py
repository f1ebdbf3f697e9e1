"""What there is over all vaults, for whoever watches the broker. Each question is answered by a partial index, or cut
off at a number.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import and_, bindparam, func, literal_column, text
from sqlalchemy.sql import ColumnElement
from sqlmodel import col

from certbroker.domain.records import CertificateFacts
from certbroker.store.statement import Cursor, Statement, choose
from certbroker.store.tables import LifecycleRow, ObjectRow, OperationRow, OutboxRow, VersionRow

_p, _x, _o, _v, _l = OperationRow, OutboxRow, ObjectRow, VersionRow, LifecycleRow

# The words before the JSON of a state.
_STATE: ColumnElement[str] = literal_column("substr(state, 1, instr(state, ' ') - 1)")
# As the condition of the index has it, or SQLite does not use it.
_OPEN = text("pending = 1 AND act_at IS NULL AND substr(state, 1, 9) != 'Completed'")
_UNFINISHED = Statement(choose(_STATE, func.count()).where(col(_p.act_at).is_not(None)).group_by(_STATE))
_LEFT = Statement(choose(_STATE, func.count()).select_from(_p).where(_OPEN).group_by(_STATE))
_MERGES = Statement(
    choose(_p.vault_id, _p.display, _p.created)
    .where(_OPEN, _STATE.in_([literal_column("'AwaitingMerge'")]))
    .order_by(col(_p.created))
    .limit(bindparam("count"))
)
_WAITING = Statement(
    choose(_x.vault_id, _x.channel, func.count())
    .where(col(_x.act_at).is_not(None))
    .group_by(col(_x.vault_id), col(_x.channel))
)
_DEAD = Statement(
    choose(_x.vault_id, _x.channel, func.count())
    .where(col(_x.outcome) == literal_column("'dead'"))
    .group_by(col(_x.vault_id), col(_x.channel))
)
# Counted no further than the limit, and from the lifecycles, where there are certificates only: among the objects they
# may stand behind a million secrets.
_SOME = choose(_l.vault_id, _l.name).limit(bindparam("count")).subquery()
_HOW_MANY = Statement(choose(func.count()).select_from(_SOME))
_CURRENT = Statement(
    choose(_o.vault_id, _o.display, _v.facts)
    .select_from(_SOME)
    .join(
        _o,
        and_(
            col(_o.vault_id) == _SOME.c.vault_id,
            col(_o.kind) == literal_column("'certificate'"),
            col(_o.name) == _SOME.c.name,
        ),
    )
    .join(
        _v,
        and_(
            col(_v.vault_id) == col(_o.vault_id),
            col(_v.kind) == col(_o.kind),
            col(_v.name) == col(_o.name),
            col(_v.version) == col(_o.current),
        ),
    )
    .where(col(_o.deleted_at).is_(None))
)

_FACTS: Final = msgspec.json.Decoder(CertificateFacts)


class Merge(Struct, frozen=True):
    """An operation that waits for a person to merge a certificate. `created` in microseconds since 1970."""

    vault_id: int
    name: str
    created: int


class Totals:
    """Counts, and listings that are cut off."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def operations(self) -> dict[str, int]:
        """How many operations there are in each state but Completed: of each certificate the last one only."""
        return {state: count for rows in (_UNFINISHED, _LEFT) for state, count in rows.all(self._cursor)}

    def merges(self, count: int) -> list[Merge]:
        """Operations that wait for a merge, the oldest first."""
        return [Merge(*row) for row in _MERGES.all(self._cursor, count=count)]

    def outbox(self) -> dict[tuple[int, str], tuple[int, int]]:
        """How many events wait and how many are dead, by vault and channel; channels without any are left out."""
        waiting = {(vault, channel): count for vault, channel, count in _WAITING.all(self._cursor)}
        dead = {(vault, channel): count for vault, channel, count in _DEAD.all(self._cursor)}
        return {key: (waiting.get(key, 0), dead.get(key, 0)) for key in waiting | dead}

    def certificates(self, most: int) -> list[tuple[int, str, CertificateFacts]]:
        """Current versions of all certificates, with vault and name; none where there are more certificates."""
        many = _HOW_MANY.one(self._cursor, count=most + 1)
        if many is None or many[0] > most:
            return []
        rows = _CURRENT.all(self._cursor, count=most)
        return [(vault, name, _FACTS.decode(facts)) for vault, name, facts in rows]
