"""What the weekly overview of a vault tells."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import and_, bindparam, literal, or_
from sqlmodel import col

from certbroker.domain.lifecycle import Health
from certbroker.domain.objects import Kind
from certbroker.store.statement import Cursor, Statement, choose
from certbroker.store.tables import LifecycleRow, ObjectRow, VersionRow

_o, _v, _l = ObjectRow, VersionRow, LifecycleRow
_EXPIRING = Statement(
    choose(_o.display, _v.version, _v.exp, _o.current)
    .join_from(
        _v,
        _o,
        and_(col(_v.vault_id) == col(_o.vault_id), col(_v.kind) == col(_o.kind), col(_v.name) == col(_o.name)),
    )
    .where(
        col(_v.vault_id) == bindparam("vault"),
        col(_v.kind) == literal(Kind.CERTIFICATE.value),
        col(_v.enabled) == 1,
        col(_v.exp) > bindparam("after"),
        col(_v.exp) <= bindparam("until"),
        col(_o.deleted_at).is_(None),
    )
    .order_by(col(_v.exp))
    .limit(bindparam("count"))
)
_TROUBLED = (Health.FAILING, Health.NEEDS_PERSON, Health.EXPIRED, Health.REVOKED, Health.NOT_DEPLOYED)
_UNWELL = Statement(
    choose(_o.display, _l.health)
    .join_from(
        _l,
        _o,
        and_(
            col(_l.vault_id) == col(_o.vault_id),
            col(_o.kind) == literal(Kind.CERTIFICATE.value),
            col(_l.name) == col(_o.name),
        ),
    )
    .where(
        col(_l.vault_id) == bindparam("vault"),
        or_(*(col(_l.health) == literal(each.value) for each in _TROUBLED)),
        col(_o.deleted_at).is_(None),
    )
    .order_by(col(_o.name))
    .limit(bindparam("count"))
)


class Expiring(Struct, frozen=True):
    """A version that expires, in Unix seconds, and the version that is in use."""

    name: str
    version: str
    expires: int
    current: str


class Overviews:
    """Reads what is worth a look. It walks over all versions of a vault, so it is for now and then."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def expiring(self, vault: int, after: int, until: int, count: int) -> list[Expiring]:
        """Versions of certificates that expire between two Unix seconds, the first first."""
        rows = _EXPIRING.all(self._cursor, vault=vault, after=after, until=until, count=count)
        return [Expiring(*row) for row in rows]

    def unwell(self, vault: int, count: int) -> list[tuple[str, Health]]:
        """Certificates that somebody should look at, by name."""
        return [(name, Health(health)) for name, health in _UNWELL.all(self._cursor, vault=vault, count=count)]
