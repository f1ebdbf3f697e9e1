"""Configured issuers, what they remember, contacts, and answers to challenges."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import and_, bindparam, delete, exists, func, update
from sqlmodel import col

from certbroker.domain.issuer_health import IssuerHealth
from certbroker.domain.records import Contact, SealedBytes
from certbroker.ports.issuer import Administrator, BoardKind
from certbroker.store.moments import micros
from certbroker.store.statement import Cursor, Row, Statement, choose, insertion
from certbroker.store.tables import ChallengeRow, ContactsRow, IssuerMemoryRow, IssuerRow, JournalRow

_i, _m = IssuerRow, IssuerMemoryRow
_COLUMNS = (_i.display, _i.settings, _i.created, _i.updated, _i.kek, _i.dek, _i.payload)
_THIS = and_(col(_i.vault_id) == bindparam("vault"), col(_i.name) == bindparam("name"))
_GET = Statement(choose(*_COLUMNS).where(_THIS))
_LIST = Statement(
    choose(*_COLUMNS)
    .where(col(_i.vault_id) == bindparam("vault"), col(_i.name) > bindparam("after"))
    .order_by(col(_i.name))
    .limit(bindparam("count"))
)
# How it went with other settings says nothing about these.
_PUT = insertion(_i, replace=("settings", "health", "updated", "kek", "dek", "payload"))
_HEALTH = Statement(choose(_i.health).where(_THIS))
_SET_HEALTH = Statement(update(_i).where(_THIS).values(health=bindparam("new_health")))
_HEALTHS = Statement(
    choose(_i.vault_id, _i.display, _i.settings, _i.health)
    .order_by(col(_i.vault_id), col(_i.name))
    .limit(bindparam("count"))
)
_PROVIDERS = Statement(choose(func.json_extract(col(_i.settings), "$.provider")).distinct())
_REMOVE = Statement(delete(_i).where(_THIS))

_MEMORY = and_(
    col(_m.vault_id) == bindparam("vault"), col(_m.issuer) == bindparam("issuer"), col(_m.name) == bindparam("name")
)
_RECALL = Statement(choose(_m.kek, _m.dek, _m.payload).where(_MEMORY))
_REMEMBER = insertion(_m, replace=("kek", "dek", "payload"))
_GET_CONTACTS = Statement(choose(ContactsRow.contacts).where(col(ContactsRow.vault_id) == bindparam("vault")))
_PUT_CONTACTS = insertion(ContactsRow, replace=("contacts",))
_REMOVE_CONTACTS = Statement(delete(ContactsRow).where(col(ContactsRow.vault_id) == bindparam("vault")))

_CHALLENGE = col(ChallengeRow.token) == bindparam("token")
_PUT_CHALLENGE = insertion(ChallengeRow, replace=("key_authorization", "expires"))
_GET_CHALLENGE = Statement(choose(ChallengeRow.key_authorization).where(_CHALLENGE))
_REMOVE_CHALLENGE = Statement(
    delete(ChallengeRow).where(_CHALLENGE, col(ChallengeRow.key_authorization) == bindparam("answer"))
)
# What an issuer puts up it has written into the journal before. No other text has a key authorization in it by chance
# (RFC 8555 section 8.1).
_JOURNALLED = exists().where(
    col(JournalRow.operation_id) == bindparam("operation"),
    func.instr(col(JournalRow.intended), col(ChallengeRow.key_authorization)) > 0,
)
_REMOVE_JOURNALLED = Statement(delete(ChallengeRow).where(_JOURNALLED))
_EXPIRE_CHALLENGES = Statement(delete(ChallengeRow).where(col(ChallengeRow.expires) < bindparam("now")))


class PublicSettings(Struct, frozen=True):
    """An issuer's configuration without its password. Times in Unix seconds."""

    provider: str
    account_id: str | None = None
    organization_id: str | None = None
    administrators: tuple[Administrator, ...] = ()
    enabled: bool = True


class StoredIssuer(Struct, frozen=True):
    """An issuer as it is stored; the password is sealed."""

    name: str
    settings: PublicSettings
    created: int
    updated: int
    sealed_password: SealedBytes | None


class JudgedIssuer(Struct, frozen=True):
    """An issuer and how it is."""

    vault_id: int
    name: str
    settings: PublicSettings
    health: IssuerHealth


_JUDGED: Final = msgspec.json.Decoder(IssuerHealth)
_SETTINGS: Final = msgspec.json.Decoder(PublicSettings)
_CONTACTS: Final = msgspec.json.Decoder(tuple[Contact, ...])


class Issuers:
    """Issuers and contacts by vault. Names are found without regard to case."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def get(self, vault: int, name: str) -> StoredIssuer | None:
        row = _GET.one(self._cursor, vault=vault, name=name.lower())
        return None if row is None else _issuer(row)

    def listing(self, vault: int, after: str, count: int) -> list[StoredIssuer]:
        return [_issuer(row) for row in _LIST.all(self._cursor, vault=vault, after=after, count=count)]

    def put(self, vault: int, issuer: StoredIssuer) -> None:
        sealed = issuer.sealed_password
        _PUT.run(
            self._cursor,
            vault_id=vault,
            name=issuer.name.lower(),
            display=issuer.name,
            settings=msgspec.json.encode(issuer.settings).decode(),
            health=None,
            created=issuer.created,
            updated=issuer.updated,
            kek=sealed and sealed.kek,
            dek=sealed and sealed.dek,
            payload=sealed and sealed.payload,
        )

    def health(self, vault: int, name: str) -> IssuerHealth | None:
        """How the issuer has done; None when there is no such issuer."""
        row = _HEALTH.one(self._cursor, vault=vault, name=name.lower())
        return None if row is None else _health(row[0])

    def put_health(self, vault: int, name: str, health: IssuerHealth) -> None:
        encoded = msgspec.json.encode(health).decode()
        _SET_HEALTH.run(self._cursor, vault=vault, name=name.lower(), new_health=encoded)

    def judged(self, count: int) -> list[JudgedIssuer]:
        """Issuers of all vaults."""
        rows = _HEALTHS.all(self._cursor, count=count)
        return [
            JudgedIssuer(vault, name, _SETTINGS.decode(settings), _health(health))
            for vault, name, settings, health in rows
        ]

    def providers(self) -> list[str]:
        """Of all issuers of all vaults, each once."""
        return [provider for (provider,) in _PROVIDERS.all(self._cursor)]

    def remove(self, vault: int, name: str) -> None:
        """Delete the issuer. What it remembers stays, so that an issuer of the same name finds its account again."""
        _REMOVE.run(self._cursor, vault=vault, name=name.lower())

    def recall(self, vault: int, issuer: str, name: str) -> SealedBytes | None:
        row = _RECALL.one(self._cursor, vault=vault, issuer=issuer.lower(), name=name)
        return None if row is None else SealedBytes(*row)

    def remember(self, vault: int, issuer: str, name: str, sealed: SealedBytes) -> None:
        _REMEMBER.run(
            self._cursor,
            vault_id=vault,
            issuer=issuer.lower(),
            name=name,
            kek=sealed.kek,
            dek=sealed.dek,
            payload=sealed.payload,
        )

    def contacts(self, vault: int) -> tuple[Contact, ...] | None:
        """The vault's contacts, or None when they were never set or have been deleted."""
        row = _GET_CONTACTS.one(self._cursor, vault=vault)
        return None if row is None else _CONTACTS.decode(row[0])

    def put_contacts(self, vault: int, contacts: tuple[Contact, ...]) -> None:
        _PUT_CONTACTS.run(self._cursor, vault_id=vault, contacts=msgspec.json.encode(contacts).decode())

    def remove_contacts(self, vault: int) -> None:
        _REMOVE_CONTACTS.run(self._cursor, vault=vault)

    def put_challenge(self, kind: BoardKind, place: str, key_authorization: str, expires: datetime) -> None:
        _PUT_CHALLENGE.run(
            self._cursor, token=_place(kind, place), key_authorization=key_authorization, expires=micros(expires)
        )

    def challenge(self, kind: BoardKind, place: str) -> str | None:
        row = _GET_CHALLENGE.one(self._cursor, token=_place(kind, place))
        return None if row is None else row[0]

    def remove_challenge(self, kind: BoardKind, place: str, key_authorization: str) -> None:
        _REMOVE_CHALLENGE.run(self._cursor, token=_place(kind, place), answer=key_authorization)

    def remove_challenges_of(self, operation: str) -> None:
        """Take the answers away that an operation has put up, as far as its journal names them. It looks at all."""
        _REMOVE_JOURNALLED.run(self._cursor, operation=operation)

    def expire_challenges(self, now: datetime) -> None:
        _EXPIRE_CHALLENGES.run(self._cursor, now=micros(now))


def _place(kind: BoardKind, place: str) -> str:
    """Tokens of http-01 are stored as they are; no token has a colon."""
    return place if kind == "http-01" else f"{kind}:{place}"


def _health(text: str | None) -> IssuerHealth:
    return IssuerHealth() if text is None else _JUDGED.decode(text)


def _issuer(row: Row) -> StoredIssuer:
    (display, settings, created, updated, kek, dek, payload) = row
    sealed = None if kek is None else SealedBytes(kek, dek, payload)
    return StoredIssuer(display, _SETTINGS.decode(settings), created, updated, sealed)
