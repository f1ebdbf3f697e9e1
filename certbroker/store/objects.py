"""Secrets, keys and certificates: objects and their versions."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import and_, bindparam, delete, literal, literal_column, or_, update
from sqlmodel import col

from certbroker.domain.objects import Attributes, Changes, Deletion, Kind, Listed
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import CertificateFacts, Head, KeyFacts, SealedBytes, Version
from certbroker.store.statement import Cursor, Row, Statement, choose, insertion
from certbroker.store.tables import ObjectRow, PolicyRow, VersionRow

_o, _v = ObjectRow, VersionRow

_VERSION_COLUMNS = (
    _o.display, _o.managed, _v.version, _v.enabled, _v.nbf, _v.exp, _v.created, _v.updated, _v.content_type, _v.tags,
    _v.facts, _v.previous, _v.kek, _v.dek, _v.payload,
)  # fmt: skip
_LISTED_COLUMNS = (
    _o.display, _v.version, _v.enabled, _v.nbf, _v.exp, _v.created, _v.updated, _v.tags, _v.content_type, _o.managed,
    _o.deleted_at, _o.purge_at, _v.facts,
)  # fmt: skip

_OF_OBJECT = and_(col(_v.vault_id) == col(_o.vault_id), col(_v.kind) == col(_o.kind), col(_v.name) == col(_o.name))
_CURRENT = and_(_OF_OBJECT, col(_v.version) == col(_o.current))
_THIS_OBJECT = and_(
    col(_o.vault_id) == bindparam("vault"), col(_o.kind) == bindparam("kind"), col(_o.name) == bindparam("name")
)
_THESE_VERSIONS = and_(
    col(_v.vault_id) == bindparam("vault"), col(_v.kind) == bindparam("kind"), col(_v.name) == bindparam("name")
)
_THIS_VERSION = and_(_THESE_VERSIONS, col(_v.version) == bindparam("version"))
_LIVE = col(_o.deleted_at).is_(None)
_IN_VAULT = and_(col(_o.vault_id) == bindparam("vault"), col(_o.kind) == bindparam("kind"))

# Written into the statement, because SQLite uses a partial index only for a condition that it can read.
_PLAIN_SECRET = and_(col(_v.kind) == literal_column("'secret'"), col(_v.payload).is_not(None), col(_v.exp).is_not(None))
_EXPIRING = Statement(
    choose(_v.vault_id, _v.name, _v.version)
    .where(_PLAIN_SECRET, col(_v.exp) > bindparam("after"), col(_v.exp) <= bindparam("until"))
    .order_by(col(_v.exp))
)
_HEAD = Statement(choose(_o.display, _o.current, _o.managed, _o.deleted_at, _o.purge_at).where(_THIS_OBJECT))
_HEADS = Statement(
    choose(_o.kind, _o.display, _o.current, _o.managed, _o.deleted_at, _o.purge_at).where(
        col(_o.vault_id) == bindparam("vault"),
        or_(*(col(_o.kind) == literal(str(kind)) for kind in Kind)),
        col(_o.name) == bindparam("name"),
    )
)
_PUT_HEAD = insertion(ObjectRow, replace=("current",))
_GET_CURRENT = Statement(choose(*_VERSION_COLUMNS).join_from(_o, _v, _CURRENT).where(_THIS_OBJECT, _LIVE))
_GET_VERSION = Statement(
    choose(*_VERSION_COLUMNS)
    .join_from(_o, _v, _OF_OBJECT)
    .where(_THIS_OBJECT, _LIVE, col(_v.version) == bindparam("version"))
)
_IS_ENABLED = Statement(choose(_v.enabled).where(_THIS_VERSION))
_GET_DELETED = Statement(choose(*_VERSION_COLUMNS).join_from(_o, _v, _CURRENT).where(_THIS_OBJECT, ~_LIVE))
_ALL_VERSIONS = Statement(
    choose(*_VERSION_COLUMNS)
    .join_from(_o, _v, _OF_OBJECT)
    .where(_THIS_OBJECT)
    .order_by(col(_v.created), col(_v.version))
)
_INSERT = insertion(VersionRow)
_UPDATE = Statement(
    update(_v)
    .where(_THIS_VERSION)
    .values({name: bindparam(f"new_{name}") for name in ("enabled", "nbf", "exp", "tags", "content_type", "updated")})
)
_SET_FACTS = Statement(update(_v).where(_THIS_VERSION).values(facts=bindparam("new_facts")))
_LIST = Statement(
    choose(*_LISTED_COLUMNS)
    .join_from(_o, _v, _CURRENT)
    .where(_IN_VAULT, _LIVE, col(_o.name) > bindparam("after"))
    .order_by(col(_o.name))
    .limit(bindparam("count"))
)
_LIST_ALL = Statement(
    choose(*_LISTED_COLUMNS)
    .join_from(_o, _v, _CURRENT, isouter=True)
    .where(_IN_VAULT, _LIVE, col(_o.name) > bindparam("after"))
    .order_by(col(_o.name))
    .limit(bindparam("count"))
)
_LIST_DELETED = Statement(
    choose(*_LISTED_COLUMNS)
    .join_from(_o, _v, _CURRENT, isouter=True)
    .where(_IN_VAULT, ~_LIVE, col(_o.managed) == 0, col(_o.name) > bindparam("after"))
    .order_by(col(_o.name))
    .limit(bindparam("count"))
)
_LIST_VERSIONS = Statement(
    choose(*_LISTED_COLUMNS)
    .join_from(_o, _v, _OF_OBJECT)
    .where(_THIS_OBJECT, _LIVE, col(_v.version) > bindparam("after"))
    .order_by(col(_v.version))
    .limit(bindparam("count"))
)
_MARK = Statement(
    update(_o).where(_THIS_OBJECT).values(deleted_at=bindparam("deleted_at"), purge_at=bindparam("purge_at"))
)
_SET_CURRENT = Statement(update(_o).where(_THIS_OBJECT).values(current=bindparam("version")))
_REMOVE_VERSIONS = Statement(delete(_v).where(_THESE_VERSIONS))
_REMOVE_HEAD = Statement(delete(_o).where(_THIS_OBJECT))
_DUE_PURGES = Statement(
    choose(_o.vault_id, _o.kind, _o.display)
    .where(col(_o.purge_at) <= bindparam("now"), col(_o.managed) == 0)
    .order_by(col(_o.purge_at))
    .limit(bindparam("count"))
)

_THIS_POLICY = and_(col(PolicyRow.vault_id) == bindparam("vault"), col(PolicyRow.name) == bindparam("name"))
_GET_POLICY = Statement(choose(PolicyRow.policy).where(_THIS_POLICY))
_PUT_POLICY = insertion(PolicyRow, replace=("policy",))
_REMOVE_POLICY = Statement(delete(PolicyRow).where(_THIS_POLICY))

_TAGS: Final = msgspec.json.Decoder(dict[str, str])
_KEY: Final = msgspec.json.Decoder(KeyFacts)
_CERTIFICATE: Final = msgspec.json.Decoder(CertificateFacts)
_POLICY: Final = msgspec.json.Decoder(CertificatePolicy)
_encode: Final = msgspec.json.encode


# One policy is read several times while a certificate is made by it, and at each look at the certificate.
@lru_cache(maxsize=1024)
def decode_policy(text: str) -> CertificatePolicy:
    """The policy in its stored form."""
    return _POLICY.decode(text)


def encode_policy(policy: CertificatePolicy) -> str:
    """The stored form of a policy."""
    return _encode(policy).decode()


class Objects:
    """Objects of all three kinds. Names are found without regard to case; times are Unix seconds."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def head(self, vault: int, kind: Kind, name: str) -> Head | None:
        """The object, deleted or not."""
        row = _HEAD.one(self._cursor, vault=vault, kind=kind, name=name.lower())
        return None if row is None else Head(row[0], row[1], bool(row[2]), _deletion(row[3], row[4]))

    def heads(self, vault: int, name: str) -> dict[Kind, Head]:
        """The objects of all kinds of that name, deleted or not."""
        rows = _HEADS.all(self._cursor, vault=vault, name=name.lower())
        return {Kind(row[0]): Head(row[1], row[2], bool(row[3]), _deletion(row[4], row[5])) for row in rows}

    def get(self, vault: int, kind: Kind, name: str, version: str = "") -> Version | None:
        """One version of an object that is not deleted; the current one when none is named."""
        if version:
            row = _GET_VERSION.one(self._cursor, vault=vault, kind=kind, name=name.lower(), version=version)
        else:
            row = _GET_CURRENT.one(self._cursor, vault=vault, kind=kind, name=name.lower())
        return None if row is None else _version(kind, row)

    def is_enabled(self, vault: int, kind: Kind, name: str, version: str) -> bool:
        """Whether a version is there and enabled, whether or not its object is deleted."""
        row = _IS_ENABLED.one(self._cursor, vault=vault, kind=kind, name=name.lower(), version=version)
        return row is not None and bool(row[0])

    def get_deleted(self, vault: int, kind: Kind, name: str) -> Version | None:
        """The current version of a deleted object."""
        row = _GET_DELETED.one(self._cursor, vault=vault, kind=kind, name=name.lower())
        return None if row is None else _version(kind, row)

    def all_versions(self, vault: int, kind: Kind, name: str) -> list[Version]:
        """Every version, oldest first."""
        return [
            _version(kind, row) for row in _ALL_VERSIONS.all(self._cursor, vault=vault, kind=kind, name=name.lower())
        ]

    def add(self, vault: int, *versions: Version) -> None:
        """Store new versions and make them the current ones; an object comes into being with its first version."""
        _PUT_HEAD.insert(
            self._cursor,
            [_head_row(vault, version.kind, version.name, version.version, version.managed) for version in versions],
        )
        self.stage(vault, *versions)

    def stage(self, vault: int, *versions: Version) -> None:
        """Store new versions of objects that are there, and leave the current ones as they are."""
        _INSERT.insert(self._cursor, [_version_row(vault, version) for version in versions])

    def change(self, vault: int, kind: Kind, version: Version, changes: Changes, now: int) -> Version:
        """Apply the changes to one version and return it as it is now."""
        old = version.attributes
        attributes = Attributes(
            created=old.created,
            updated=now,
            enabled=old.enabled if changes.enabled is None else changes.enabled,
            not_before=old.not_before if changes.not_before is None else changes.not_before,
            expires=old.expires if changes.expires is None else changes.expires,
        )
        tags = version.tags if changes.tags is None else changes.tags
        content_type = version.content_type if changes.content_type is None else changes.content_type
        _UPDATE.run(
            self._cursor,
            vault=vault,
            kind=kind,
            name=version.name.lower(),
            version=version.version,
            new_enabled=int(attributes.enabled),
            new_nbf=attributes.not_before,
            new_exp=attributes.expires,
            new_tags=_encode(tags).decode(),
            new_content_type=content_type,
            new_updated=now,
        )
        return replace(version, attributes=attributes, tags=tags, content_type=content_type)

    def change_key(self, vault: int, version: Version, facts: KeyFacts) -> Version:
        """Say something else of a key and return it as it is now."""
        _SET_FACTS.run(
            self._cursor,
            vault=vault,
            kind=Kind.KEY,
            name=version.name.lower(),
            version=version.version,
            new_facts=_encode(facts).decode(),
        )
        return replace(version, key=facts)

    def listing(self, vault: int, kind: Kind, after: str, count: int, *, pending: bool = False) -> list[Listed]:
        """Objects that are not deleted, by name, after the given one; `pending` includes those without a version."""
        statement = _LIST_ALL if pending else _LIST
        return [
            _listed(kind, row) for row in statement.all(self._cursor, vault=vault, kind=kind, after=after, count=count)
        ]

    def reserve(self, vault: int, kind: Kind, name: str) -> None:
        """Make an object that has no version yet."""
        _PUT_HEAD.insert(self._cursor, [_head_row(vault, kind, name, "", managed=False)])

    def list_deleted(self, vault: int, kind: Kind, after: str, count: int) -> list[Listed]:
        """Deleted objects, without those that belong to a certificate."""
        rows = _LIST_DELETED.all(self._cursor, vault=vault, kind=kind, after=after, count=count)
        return [_listed(kind, row) for row in rows]

    def list_versions(self, vault: int, kind: Kind, name: str, after: str, count: int) -> list[Listed]:
        """The versions of an object, by version."""
        rows = _LIST_VERSIONS.all(self._cursor, vault=vault, kind=kind, name=name.lower(), after=after, count=count)
        return [_listed(kind, row) for row in rows]

    def set_current(self, vault: int, kind: Kind, name: str, version: str) -> None:
        """Make that version the current one."""
        _SET_CURRENT.run(self._cursor, vault=vault, kind=kind, name=name.lower(), version=version)

    def mark(self, vault: int, kind: Kind, name: str, deletion: Deletion | None) -> None:
        """Mark the object as deleted, or as live again."""
        _MARK.run(
            self._cursor,
            vault=vault,
            kind=kind,
            name=name.lower(),
            deleted_at=deletion and deletion.deleted,
            purge_at=deletion and deletion.scheduled_purge,
        )

    def remove(self, vault: int, kind: Kind, name: str) -> None:
        """Delete the object with all versions and their data keys, for good."""
        _REMOVE_VERSIONS.run(self._cursor, vault=vault, kind=kind, name=name.lower())
        _REMOVE_HEAD.run(self._cursor, vault=vault, kind=kind, name=name.lower())

    def expiring_secrets(self, after: int, until: int) -> list[tuple[int, Version]]:
        """Current versions of secrets of their own that expire between these times, each with its vault."""
        found = []
        for vault, name, version in _EXPIRING.all(self._cursor, after=after, until=until):
            current = self.get(vault, Kind.SECRET, name)
            if current is not None and current.version == version:
                found.append((vault, current))
        return found

    def due_for_purge(self, now: int, count: int) -> list[tuple[int, Kind, str]]:
        """Deleted objects whose time is up, without those that belong to a certificate."""
        return [(row[0], Kind(row[1]), row[2]) for row in _DUE_PURGES.all(self._cursor, now=now, count=count)]

    def policy(self, vault: int, name: str) -> CertificatePolicy | None:
        row = _GET_POLICY.one(self._cursor, vault=vault, name=name.lower())
        return None if row is None else decode_policy(row[0])

    def put_policy(self, vault: int, name: str, policy: CertificatePolicy) -> None:
        _PUT_POLICY.run(self._cursor, vault_id=vault, name=name.lower(), policy=encode_policy(policy))

    def remove_policy(self, vault: int, name: str) -> None:
        _REMOVE_POLICY.run(self._cursor, vault=vault, name=name.lower())


def _head_row(vault: int, kind: Kind, name: str, current: str, managed: bool) -> dict[str, object]:
    return {
        "vault_id": vault,
        "kind": kind,
        "name": name.lower(),
        "display": name,
        "current": current,
        "managed": int(managed),
        "deleted_at": None,
        "purge_at": None,
    }


def _version_row(vault: int, version: Version) -> dict[str, object]:
    sealed = version.sealed
    facts = version.key or version.certificate
    return {
        "vault_id": vault,
        "kind": version.kind,
        "name": version.name.lower(),
        "version": version.version,
        "enabled": int(version.attributes.enabled),
        "nbf": version.attributes.not_before,
        "exp": version.attributes.expires,
        "created": version.attributes.created,
        "updated": version.attributes.updated,
        "content_type": version.content_type,
        "tags": _encode(version.tags).decode() if version.tags else "{}",
        "facts": _encode(facts).decode() if facts else None,
        "previous": version.previous,
        "kek": sealed and sealed.kek,
        "dek": sealed and sealed.dek,
        "payload": sealed and sealed.payload,
    }


def _deletion(deleted: int | None, purge: int | None) -> Deletion | None:
    return None if deleted is None or purge is None else Deletion(deleted, purge)


def _tags(text: str) -> dict[str, str]:
    return {} if text == "{}" else _TAGS.decode(text)


def _version(kind: Kind, row: Row) -> Version:
    (
        display,
        managed,
        version,
        enabled,
        nbf,
        exp,
        created,
        updated,
        content_type,
        tags,
        facts,
        previous,
        kek,
        dek,
        payload,
    ) = row
    return Version(
        kind,
        display,
        version,
        Attributes(created, updated, bool(enabled), nbf, exp),
        _tags(tags),
        content_type,
        bool(managed),
        _KEY.decode(facts) if kind is Kind.KEY else None,
        _CERTIFICATE.decode(facts) if kind is Kind.CERTIFICATE else None,
        None if kek is None else SealedBytes(kek, dek, payload),
        previous,
    )


def _listed(kind: Kind, row: Row) -> Listed:
    (display, version, enabled, nbf, exp, created, updated, tags, content_type, managed, deleted, purge, facts) = row
    if version is None:
        return Listed(
            display, "", Attributes(deleted or 0, deleted or 0, enabled=False), deletion=_deletion(deleted, purge)
        )
    return Listed(
        display,
        version,
        Attributes(created, updated, bool(enabled), nbf, exp),
        _tags(tags),
        content_type,
        bool(managed),
        _deletion(deleted, purge),
        _CERTIFICATE.decode(facts).sha1 if kind is Kind.CERTIFICATE else None,
    )
