"""Certification authorities and the ledger of what they have issued."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import and_, bindparam, delete, update
from sqlmodel import col

from certbroker.domain.authority import Authority, AuthoritySettings, AuthorityState, Issued
from certbroker.domain.records import SealedBytes
from certbroker.store.moments import micros, moment
from certbroker.store.publications import Publications
from certbroker.store.statement import Cursor, Row, Statement, choose, insertion
from certbroker.store.tables import AuthorityRow, IssuedRow

_a, _i = AuthorityRow, IssuedRow

_COLUMNS = (
    _a.id, _a.vault_id, _a.display, _a.version, _a.certificate, _a.sha256, _a.subject, _a.key_sha256, _a.not_after,
    _a.parent, _a.state, _a.settings, _a.created, _a.crl_number, _a.crl_act_at, _a.kek, _a.dek, _a.payload,
)  # fmt: skip
_THIS = col(_a.id) == bindparam("id")
_NAMED = and_(col(_a.vault_id) == bindparam("vault"), col(_a.name) == bindparam("name"))
_GET = Statement(choose(*_COLUMNS).where(_THIS))
_BY_CERTIFICATE = Statement(choose(*_COLUMNS).where(col(_a.sha256) == bindparam("sha256")))
_GENERATIONS = Statement(choose(*_COLUMNS).where(_NAMED).order_by(col(_a.created).desc(), col(_a.id)))
_ACTIVE = Statement(choose(*_COLUMNS).where(_NAMED, col(_a.state) == bindparam("state")))
_LIST = Statement(
    choose(*_COLUMNS)
    .where(col(_a.vault_id) == bindparam("vault"))
    .order_by(col(_a.name), col(_a.created).desc(), col(_a.id))
)
_CHILDREN = Statement(choose(*_COLUMNS).where(col(_a.parent) == bindparam("parent")).order_by(col(_a.created)))
_ADD = insertion(_a)
_SET_STATE = Statement(update(_a).where(_THIS).values(state=bindparam("new_state")))
_SET_SETTINGS = Statement(update(_a).where(_THIS).values(settings=bindparam("new_settings")))

_ISSUED_COLUMNS = (
    _i.authority, _i.serial, _i.sha256, _i.vault_id, _i.name, _i.version, _i.profile, _i.not_after, _i.shard,
    _i.certificate, _i.revoked, _i.reason,
)  # fmt: skip
_ENTRY = and_(col(_i.authority) == bindparam("authority"), col(_i.serial) == bindparam("serial"))
_RECORD = insertion(_i, once=True)
_FIND = Statement(choose(*_ISSUED_COLUMNS).where(_ENTRY))
_LEDGER = Statement(
    choose(*_ISSUED_COLUMNS)
    .where(col(_i.authority) == bindparam("authority"), col(_i.serial) > bindparam("after"))
    .order_by(col(_i.serial))
    .limit(bindparam("count"))
)
_VALID = Statement(
    choose(_i.serial).where(col(_i.authority) == bindparam("authority"), col(_i.not_after) > bindparam("now")).limit(1)
)
_REMOVE = Statement(delete(_a).where(_THIS))
_REVOKE = Statement(
    update(_i)
    .where(_ENTRY, col(_i.revoked).is_(None))
    .values(revoked=bindparam("new_revoked"), reason=bindparam("new_reason"))
    .returning(col(_i.shard))
)
_OVER = choose(_i.authority, _i.serial).where(col(_i.not_after) < bindparam("before")).limit(bindparam("count"))
_HAS_OVER = Statement(_OVER)
_FORGET = Statement(delete(_i).where(_ENTRY))

_SETTINGS: Final = msgspec.json.Decoder(AuthoritySettings)


class Authorities:
    """CAs by their names, and what they have issued by serial number. Names are found without regard to case."""

    __slots__ = ("_cursor", "_publications")

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._publications = Publications(cursor)

    def get(self, authority: str) -> Authority | None:
        """The generation with this id."""
        row = _GET.one(self._cursor, id=authority)
        return None if row is None else _authority(row)

    def of_certificate(self, sha256: str) -> Authority | None:
        """The generation whose own certificate has this digest."""
        row = _BY_CERTIFICATE.one(self._cursor, sha256=sha256)
        return None if row is None else _authority(row)

    def active(self, vault: int, name: str) -> Authority | None:
        """The generation that signs."""
        row = _ACTIVE.one(self._cursor, vault=vault, name=name.lower(), state=AuthorityState.ACTIVE)
        return None if row is None else _authority(row)

    def generations(self, vault: int, name: str) -> list[Authority]:
        """All certificates that the CA of this name has had, the newest first."""
        return [_authority(row) for row in _GENERATIONS.all(self._cursor, vault=vault, name=name.lower())]

    def listing(self, vault: int) -> list[Authority]:
        """All generations of a vault's CAs, by name, the newest first."""
        return [_authority(row) for row in _LIST.all(self._cursor, vault=vault)]

    def children(self, authority: str) -> list[Authority]:
        """The generations that this one has issued."""
        return [_authority(row) for row in _CHILDREN.all(self._cursor, parent=authority)]

    def add(self, authority: Authority) -> None:
        """Store a new generation."""
        sealed = authority.sealed_key
        _ADD.run(
            self._cursor,
            id=authority.id,
            vault_id=authority.vault_id,
            name=authority.name.lower(),
            display=authority.name,
            version=authority.version,
            certificate=authority.certificate,
            sha256=authority.sha256,
            subject=authority.subject,
            key_sha256=authority.key_sha256,
            not_after=authority.not_after,
            parent=authority.parent,
            state=authority.state,
            settings=_encode(authority.settings),
            created=authority.created,
            crl_number=authority.crl_number,
            crl_act_at=None if authority.crl_act_at is None else micros(authority.crl_act_at),
            crl_fence=0,
            kek=sealed and sealed.kek,
            dek=sealed and sealed.dek,
            payload=sealed and sealed.payload,
        )

    def set_state(self, authority: str, state: AuthorityState) -> None:
        _SET_STATE.run(self._cursor, id=authority, new_state=state)

    def set_settings(self, authority: str, settings: AuthoritySettings) -> None:
        _SET_SETTINGS.run(self._cursor, id=authority, new_settings=_encode(settings))

    def publish_soon(self, authority: str, now: datetime) -> None:
        """Have what the CA publishes looked at, because its settings have changed."""
        self._publications.soon(authority, now)

    def record(self, issued: Issued) -> None:
        """Enter a certificate into its CA's ledger, and publish that it is good, or have that done. An entry that is
        there stays as it is.
        """
        _RECORD.run(
            self._cursor,
            authority=issued.authority,
            serial=issued.serial,
            sha256=issued.sha256,
            vault_id=issued.vault_id,
            name=issued.name,
            version=issued.version,
            profile=issued.profile,
            not_after=issued.not_after,
            shard=issued.shard,
            certificate=issued.certificate,
            revoked=issued.revoked,
            reason=issued.reason,
        )
        self._publications.issued(issued.authority, issued.serial, issued.replies)

    def issued(self, authority: str, serial: str) -> Issued | None:
        """The entry of a certificate."""
        row = _FIND.one(self._cursor, authority=authority, serial=serial)
        return None if row is None else Issued(*row)

    def ledger(self, authority: str, after: str, count: int) -> list[Issued]:
        """Entries by serial number, after the given one."""
        return [Issued(*row) for row in _LEDGER.all(self._cursor, authority=authority, after=after, count=count)]

    def revoke(self, authority: str, serial: str, now: datetime, reason: int) -> bool:
        """Mark a certificate as revoked, and have that published; False when it was already, and nothing changes."""
        revoked = int(now.timestamp())
        row = _REVOKE.one(self._cursor, authority=authority, serial=serial, new_revoked=revoked, new_reason=reason)
        if row is not None:
            self._publications.revoked(authority, row[0], serial, now)
        return row is not None

    def has_valid(self, authority: str, now: int) -> bool:
        """Whether a certificate that it has issued has not expired."""
        return _VALID.one(self._cursor, authority=authority, now=now) is not None

    def remove(self, authority: str) -> None:
        """Forget a generation, with its key where that is kept here. Its ledger stays until all in it has expired."""
        _REMOVE.run(self._cursor, id=authority)

    def has_expired(self, before: int) -> bool:
        """Whether there is an entry of a certificate that expired before then."""
        return _HAS_OVER.one(self._cursor, before=before, count=1) is not None

    def forget_expired(self, before: int, count: int) -> int:
        """Forget so many entries of certificates that expired before then; return how many went."""
        rows = _HAS_OVER.all(self._cursor, before=before, count=count)
        for authority, serial in rows:
            _FORGET.run(self._cursor, authority=authority, serial=serial)
        return len(rows)


def _encode(settings: AuthoritySettings) -> str:
    return msgspec.json.encode(settings).decode()


def _authority(row: Row) -> Authority:
    (
        authority,
        vault_id,
        name,
        version,
        certificate,
        sha256,
        subject,
        key_sha256,
        not_after,
        parent,
        state,
        settings,
        created,
        crl_number,
        crl_act_at,
        kek,
        dek,
        payload,
    ) = row
    return Authority(
        authority,
        vault_id,
        name,
        version,
        certificate,
        sha256,
        subject,
        key_sha256,
        not_after,
        parent,
        AuthorityState(state),
        _SETTINGS.decode(settings),
        created,
        None if kek is None else SealedBytes(kek, dek, payload),
        crl_number,
        None if crl_act_at is None else moment(crl_act_at),
    )
