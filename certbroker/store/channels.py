"""Channels, their health, and which of them has something to deliver."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import bindparam, case, delete, func, insert, literal, update
from sqlmodel import col

from certbroker.domain.channels import CONTACTS, Channel, Health, Lane
from certbroker.domain.errors import LeaseLost
from certbroker.domain.events import FOR_PEOPLE
from certbroker.domain.records import SealedBytes
from certbroker.store.moments import micros
from certbroker.store.statement import Cursor, Row, Statement, choose, insertion
from certbroker.store.tables import ChannelRow, ContactsRow, OutboxRow

_c = ChannelRow
_COLUMNS = (
    _c.vault_id, _c.display, _c.kind, _c.settings, _c.events, _c.enabled, _c.state, _c.created, _c.updated, _c.kek,
    _c.dek, _c.payload, _c.fence,
)  # fmt: skip
_VAULT = col(_c.vault_id) == bindparam("vault")
_THIS = (_VAULT, col(_c.name) == bindparam("name"))
_DUE = (col(_c.act_at) <= bindparam("now"), col(_c.lease_until) <= bindparam("now"))
_OWNED = (*_THIS, col(_c.fence) == bindparam("owner_fence"))

_GET = Statement(choose(*_COLUMNS).where(*_THIS))
_LIST = Statement(
    choose(*_COLUMNS).where(_VAULT, col(_c.name) > bindparam("after")).order_by(col(_c.name)).limit(bindparam("count"))
)
_EVERYWHERE = Statement(choose(*_COLUMNS).order_by(col(_c.vault_id), col(_c.name)).limit(bindparam("count")))
_COUNT = Statement(choose(func.count()).where(_VAULT))
# The fence moves, so that a delivery under way by the old settings writes nothing any more.
_PUT = Statement(
    update(_c)
    .where(*_THIS)
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "kind",
                "settings",
                "events",
                "enabled",
                "state",
                "lane",
                "updated",
                "act_at",
                "kek",
                "dek",
                "payload",
            )
        }
        | {"fence": col(_c.fence) + 1, "lease_until": 0}
    )
)
_INSERT = insertion(_c)
_REMOVE = Statement(delete(_c).where(*_THIS))
_CANDIDATES = Statement(
    choose(_c.vault_id, _c.name)
    .where(col(_c.lane) == bindparam("lane"), *_DUE)
    .order_by(col(_c.act_at))
    .limit(bindparam("count"))
)
_CLAIM = Statement(
    update(_c)
    .where(*_THIS, *_DUE)
    .values(lease_until=bindparam("until"), fence=col(_c.fence) + 1)
    .returning(*(col(column) for column in _COLUMNS))
)
_STATE: Final[dict[str, Any]] = {"state": bindparam("new_state"), "lane": bindparam("new_lane")}
_KEEP = Statement(update(_c).where(*_OWNED).values(**_STATE, lease_until=bindparam("until")))
_RELEASE = Statement(update(_c).where(*_OWNED).values(**_STATE, lease_until=0, act_at=bindparam("new_act_at")))
_HURRY = Statement(update(_c).where(*_THIS).values(act_at=bindparam("new_act_at")))
_RELEASE_ALL = Statement(update(_c).where(col(_c.lease_until) > 0).values(lease_until=0))
# What was put off further than it can be was put off by a clock that has gone back since.
_CALL_BACK = (
    Statement(update(_c).where(col(_c.act_at) > bindparam("latest")).values(act_at=bindparam("now"))),
    Statement(update(_c).where(col(_c.lease_until) > bindparam("lease")).values(lease_until=bindparam("lease"))),
    Statement(update(OutboxRow).where(col(OutboxRow.act_at) > bindparam("latest")).values(act_at=bindparam("now"))),
)
_VAULTS = Statement(choose(_c.vault_id).distinct())
_EVENTS: Final = " ".join(sorted(FOR_PEOPLE))


def _contacts_channels() -> Statement:
    """A channel for each vault that has contacts and no such channel yet."""
    columns: dict[str, Any] = {
        "vault_id": ContactsRow.vault_id, "name": literal(CONTACTS), "display": literal(CONTACTS),
        "kind": literal(CONTACTS), "settings": literal('{"options":{}}'), "events": literal(_EVENTS),
        "enabled": bindparam("enabled"), "state": literal("{}"), "lane": literal(int(Lane.NEW)),
        "created": bindparam("now"), "updated": bindparam("now"), "lease_until": literal(0), "fence": literal(0),
    }  # fmt: skip
    missing = choose(*columns.values()).where(
        ~choose(_c.name).where(col(_c.vault_id) == col(ContactsRow.vault_id), col(_c.name) == CONTACTS).exists()
    )
    return Statement(insert(_c).from_select([*columns], missing))


_ADD_CONTACTS = _contacts_channels()
_ENABLE_CONTACTS = Statement(
    update(_c)
    .where(col(_c.kind) == CONTACTS, col(_c.enabled) != bindparam("new_enabled"))
    .values(enabled=bindparam("new_enabled"), act_at=case((bindparam("new_enabled") == 1, 0), else_=None))
)


class _Settings(Struct, frozen=True):
    """What can be shown of a channel's configuration: the options, and the names of the secrets."""

    options: dict[str, str]
    secrets: tuple[str, ...] = ()


class DueChannel(Struct, frozen=True):
    """A channel that has something to deliver."""

    vault_id: int
    name: str


class Channels:
    """Channels of vaults, by name without regard to case. Times are aware datetimes in UTC."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def get(self, vault: int, name: str) -> Channel | None:
        row = _GET.one(self._cursor, vault=vault, name=name.lower())
        return None if row is None else _channel(row)

    def listing(self, vault: int, after: str, count: int) -> list[Channel]:
        return [_channel(row) for row in _LIST.all(self._cursor, vault=vault, after=after, count=count)]

    def everywhere(self, count: int) -> list[Channel]:
        """Channels of all vaults."""
        return [_channel(row) for row in _EVERYWHERE.all(self._cursor, count=count)]

    def count(self, vault: int) -> int:
        row = _COUNT.one(self._cursor, vault=vault)
        return row[0] if row else 0

    def vaults(self) -> list[int]:
        """The vaults that have channels."""
        return [row[0] for row in _VAULTS.all(self._cursor)]

    def add(self, channel: Channel) -> None:
        values = _values(channel)
        _INSERT.run(
            self._cursor,
            vault_id=channel.vault_id,
            name=channel.name.lower(),
            display=channel.name,
            created=channel.created,
            act_at=None,
            lease_until=0,
            fence=0,
            **values,
        )

    def put(self, channel: Channel, act_at: datetime | None) -> None:
        """Replace a channel that is there; who delivers to it now writes nothing any more."""
        values = {f"new_{name}": value for name, value in _values(channel).items()}
        act = None if act_at is None else micros(act_at)
        _PUT.run(self._cursor, vault=channel.vault_id, name=channel.name.lower(), new_act_at=act, **values)

    def remove(self, vault: int, name: str) -> None:
        _REMOVE.run(self._cursor, vault=vault, name=name.lower())

    def sync_contacts(self, now: datetime, *, enabled: bool) -> None:
        """Give each vault that has contacts a channel for them, and have these channels enabled or not."""
        _ADD_CONTACTS.run(self._cursor, now=int(now.timestamp()), enabled=int(enabled))
        _ENABLE_CONTACTS.run(self._cursor, new_enabled=int(enabled))

    def due(self, now: datetime, lane: Lane, count: int) -> list[DueChannel]:
        """Channels of a lane that could be claimed now, the longest due first."""
        rows = _CANDIDATES.all(self._cursor, lane=int(lane), now=micros(now), count=count)
        return [DueChannel(*row) for row in rows]

    def claim(self, due: DueChannel, now: datetime, lease: timedelta) -> Channel | None:
        """Take the channel if it is still due; None when somebody else has it."""
        row = _CLAIM.one(self._cursor, vault=due.vault_id, name=due.name, now=micros(now), until=micros(now + lease))
        return None if row is None else _channel(row)

    def keep(self, channel: Channel, until: datetime) -> None:
        """Write the health, and hold the lease until then. LeaseLost when it has another owner, or has been changed."""
        _check_owner(_KEEP.run(self._cursor, **_owner(channel), **_health(channel.health), until=micros(until)))

    def release(self, channel: Channel, act_at: datetime | None) -> None:
        """Write the health, give the lease back, and have it looked at again then. LeaseLost as for `keep`."""
        act = None if act_at is None else micros(act_at)
        _check_owner(_RELEASE.run(self._cursor, **_owner(channel), **_health(channel.health), new_act_at=act))

    def hurry(self, vault: int, name: str, now: datetime) -> None:
        """End the pause of a channel."""
        _HURRY.run(self._cursor, vault=vault, name=name.lower(), new_act_at=micros(now))

    def call_back(self, now: datetime, latest: datetime, lease: datetime) -> None:
        """Have delivered now what was put off beyond `latest`, and end leases at `lease`: the clock has gone back."""
        for statement in _CALL_BACK:
            statement.run(self._cursor, now=micros(now), latest=micros(latest), lease=micros(lease))

    def release_all(self) -> None:
        """End all leases: for a start at which no other process can hold one."""
        _RELEASE_ALL.run(self._cursor)


_SETTINGS: Final = msgspec.json.Decoder(_Settings)
_HEALTH: Final = msgspec.json.Decoder(Health)


def _owner(channel: Channel) -> dict[str, Any]:
    return {"vault": channel.vault_id, "name": channel.name.lower(), "owner_fence": channel.fence}


def _check_owner(cursor: Cursor) -> None:
    if cursor.rowcount != 1:
        raise LeaseLost("The channel has another owner now, or has been changed.")


def _state(health: Health) -> str:
    return msgspec.json.encode(health).decode()


def _health(health: Health) -> dict[str, Any]:
    return {"new_state": _state(health), "new_lane": int(health.lane)}


def _values(channel: Channel) -> dict[str, Any]:
    sealed = channel.sealed
    return {
        "kind": channel.kind,
        "settings": msgspec.json.encode(_Settings(channel.settings, channel.secrets)).decode(),
        "events": " ".join(channel.events),
        "enabled": int(channel.enabled),
        "state": _state(channel.health),
        "lane": int(channel.health.lane),
        "updated": channel.updated,
        "kek": sealed and sealed.kek,
        "dek": sealed and sealed.dek,
        "payload": sealed and sealed.payload,
    }


def _channel(row: Row) -> Channel:
    (vault, display, kind, settings, events, enabled, state, created, updated, kek, dek, payload, fence) = row
    chosen = _SETTINGS.decode(settings)
    return Channel(
        vault_id=vault,
        name=display,
        kind=kind,
        settings=chosen.options,
        secrets=chosen.secrets,
        events=tuple(events.split()),
        enabled=bool(enabled),
        health=_HEALTH.decode(state),
        created=created,
        updated=updated,
        sealed=None if kek is None else SealedBytes(kek, dek, payload),
        fence=fence,
    )
