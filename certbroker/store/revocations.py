"""Revocations: those that are wanted, those that were made, and the keys that must never be used again."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, bindparam, func, literal_column, or_, select, update
from sqlmodel import col

from certbroker.domain.revocation import LONGEST_RETRY, Reason, Revocation
from certbroker.store.moments import micros, moment
from certbroker.store.statement import Cursor, Row, Statement, choose, insertion
from certbroker.store.tables import RevocationRow

_r = RevocationRow
_COLUMNS = (
    _r.sha256, _r.vault_id, _r.name, _r.version, _r.certificate, _r.key_sha256, _r.issuer, _r.reason, _r.renew,
    _r.compromised, _r.requested, _r.act_at, _r.attempts, _r.revoked, _r.problem,
)  # fmt: skip
_OF = Statement(choose(*_COLUMNS).where(col(_r.sha256) == bindparam("sha256")))
_GET = Statement(
    choose(*_COLUMNS).where(
        col(_r.sha256) == bindparam("sha256"),
        col(_r.vault_id) == bindparam("vault"),
        func.lower(col(_r.name)) == bindparam("name"),
    )
)
_PUT = insertion(
    _r,
    replace=(
        "version", "issuer", "reason", "renew", "compromised", "requested", "act_at", "attempts", "revoked", "problem",
    ),
)  # fmt: skip
_ROW: Final[ColumnElement[int]] = literal_column("rowid")
_CLAIM = Statement(
    update(_r)
    .where(
        _ROW.in_(
            select(_ROW)
            .select_from(_r)
            # A time further away than any wait comes from a clock that was wrong.
            .where(or_(col(_r.act_at) <= bindparam("now"), col(_r.act_at) > bindparam("latest")))
            .order_by(col(_r.act_at))
            .limit(bindparam("count"))
        )
    )
    .values(act_at=bindparam("until"))
    .returning(*(col(column) for column in _COLUMNS))
)
_HAS_DUE = Statement(
    choose(_r.sha256).where(or_(col(_r.act_at) <= bindparam("now"), col(_r.act_at) > bindparam("latest"))).limit(1)
)
_RELEASE = Statement(update(_r).where(col(_r.act_at) > bindparam("now")).values(act_at=bindparam("now")))
# Written into the statement, because SQLite uses a partial index only for a condition that it can read.
_COMPROMISED = Statement(
    choose(_r.sha256).where(col(_r.key_sha256) == bindparam("key"), col(_r.compromised).is_not(None)).limit(1)
)


class Revocations:
    """Revocations by the SHA-256 of the certificate and the place where it lies.

    They outlive it: a purge does not make a bad key good.
    """

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def get(self, sha256: str, vault: int, name: str) -> Revocation | None:
        """The one of that place."""
        row = _GET.one(self._cursor, sha256=sha256, vault=vault, name=name.lower())
        return None if row is None else _revocation(row)

    def of(self, sha256: str) -> list[Revocation]:
        """Those of all places."""
        return [_revocation(row) for row in _OF.all(self._cursor, sha256=sha256)]

    def put(self, revocation: Revocation) -> None:
        """Store it, or what has become of it."""
        _PUT.run(
            self._cursor,
            sha256=revocation.sha256,
            vault_id=revocation.vault_id,
            name=revocation.name,
            version=revocation.version,
            certificate=revocation.certificate,
            key_sha256=revocation.key_sha256,
            issuer=revocation.issuer,
            reason=str(revocation.reason),
            renew=int(revocation.renew),
            compromised=1 if revocation.compromised else None,
            requested=micros(revocation.requested),
            act_at=None if revocation.act_at is None else micros(revocation.act_at),
            attempts=revocation.attempts,
            revoked=None if revocation.revoked is None else micros(revocation.revoked),
            problem=revocation.problem,
        )

    def has_due(self, now: datetime) -> bool:
        """Whether there is anything to claim."""
        return _HAS_DUE.one(self._cursor, now=micros(now), latest=micros(now + 2 * LONGEST_RETRY)) is not None

    def claim(self, now: datetime, until: datetime, count: int) -> list[Revocation]:
        """Take what is due. It is due again at `until`, if nothing is stored before."""
        latest = micros(now + 2 * LONGEST_RETRY)
        rows = _CLAIM.all(self._cursor, now=micros(now), latest=latest, until=micros(until), count=count)
        return [_revocation(row) for row in rows]

    def release_all(self, now: datetime) -> None:
        """Make due what a dead owner may have claimed."""
        _RELEASE.run(self._cursor, now=micros(now))

    def is_compromised(self, key: str) -> bool:
        """Whether somebody has said so of the key with that digest, for whatever certificate."""
        return _COMPROMISED.one(self._cursor, key=key) is not None


def _revocation(row: Row) -> Revocation:
    (
        sha256,
        vault_id,
        name,
        version,
        certificate,
        key_sha256,
        issuer,
        reason,
        renew,
        compromised,
        requested,
        act_at,
        attempts,
        revoked,
        problem,
    ) = row
    return Revocation(
        sha256,
        vault_id,
        name,
        version,
        certificate,
        key_sha256,
        issuer,
        Reason(reason),
        bool(renew),
        compromised is not None,
        moment(requested),
        None if act_at is None else moment(act_at),
        attempts,
        None if revoked is None else moment(revoked),
        problem,
    )
