"""Deployments: what each section `deploy` of the configuration has put where it belongs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct, field
from sqlalchemy import bindparam, delete, func, update
from sqlmodel import col

from certbroker.domain.deployment import Progress
from certbroker.store.moments import micros, moment
from certbroker.store.statement import Cursor, Row, Statement, choose, insertion
from certbroker.store.tables import DeploymentRow, VaultRow

_d = DeploymentRow
_COLUMNS = (_d.name, _d.vault, _d.certificate, _d.settings, _d.state, _d.act_at, _d.fence)
_THIS = col(_d.name) == bindparam("name")
# The row has the vault's name in lower case, because the configuration has it before there is such a vault.
_OF_CERTIFICATE = (
    col(_d.vault) == choose(func.lower(VaultRow.name)).where(col(VaultRow.id) == bindparam("vault")).scalar_subquery(),
    col(_d.certificate) == bindparam("certificate"),
)
_ALL = Statement(choose(*_COLUMNS).order_by(col(_d.name)))
_PUT = insertion(_d, replace=("vault", "certificate", "settings", "state", "act_at", "fence"))
_REMOVE = Statement(delete(_d).where(_THIS))
_OF = Statement(choose(_d.name, _d.state).where(*_OF_CERTIFICATE))
_SOONER = func.min(func.coalesce(col(_d.act_at), bindparam("new_act_at")), bindparam("new_act_at"))
_DISTURB = Statement(update(_d).where(*_OF_CERTIFICATE).values(act_at=_SOONER, fence=col(_d.fence) + 1))
_DUE = Statement(
    choose(_d.name).where(col(_d.act_at) <= bindparam("now")).order_by(col(_d.act_at)).limit(bindparam("count"))
)
_CLAIM = Statement(
    update(_d)
    .where(_THIS, col(_d.act_at) <= bindparam("now"))
    .values(act_at=bindparam("until"), fence=col(_d.fence) + 1)
    .returning(*(col(column) for column in _COLUMNS))
)
_SAVE = Statement(
    update(_d)
    .where(_THIS, col(_d.fence) == bindparam("owner_fence"))
    .values(state=bindparam("new_state"), act_at=bindparam("new_act_at"))
)
_NOTE = Statement(update(_d).where(_THIS).values(state=bindparam("new_state")))
_RELEASE = Statement(update(_d).where(col(_d.act_at) > bindparam("now")).values(act_at=bindparam("now")))

_STATE: Final = msgspec.json.Decoder(Progress)


class Deployment(Struct, frozen=True):
    """A deployment as it is stored. `vault` and `certificate` are in lower case; `act_at` is when it is next due."""

    name: str
    vault: str
    certificate: str
    settings: str
    progress: Progress = field(default_factory=Progress)
    act_at: datetime | None = None
    fence: int = 0


class Deployments:
    """The deployments, by their name in the configuration. Times are aware datetimes in UTC."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def all(self) -> list[Deployment]:
        return [_deployment(row) for row in _ALL.all(self._cursor)]

    def put(self, deployment: Deployment) -> None:
        """Store one, new or changed, whoever works on it: he writes nothing any more."""
        _PUT.run(
            self._cursor,
            name=deployment.name,
            vault=deployment.vault,
            certificate=deployment.certificate,
            settings=deployment.settings,
            state=msgspec.json.encode(deployment.progress).decode(),
            act_at=None if deployment.act_at is None else micros(deployment.act_at),
            fence=deployment.fence + 1,
        )

    def remove(self, name: str) -> None:
        _REMOVE.run(self._cursor, name=name)

    def disturb(self, vault: int, certificate: str, act_at: datetime) -> None:
        """The certificate has changed: look at what is deployed then, or earlier."""
        _DISTURB.run(self._cursor, vault=vault, certificate=certificate.lower(), new_act_at=micros(act_at))

    def alarm(self, vault: int, certificate: str) -> str | None:
        """Why a certificate is not deployed, where people have been told so."""
        for name, state in _OF.all(self._cursor, vault=vault, certificate=certificate.lower()):
            progress = _STATE.decode(state)
            if progress.told:
                return f"The deployment {name} fails. {progress.problem}"
        return None

    def due(self, now: datetime, count: int) -> list[str]:
        """The names of those that are due, the longest due first."""
        return [row[0] for row in _DUE.all(self._cursor, now=micros(now), count=count)]

    def claim(self, name: str, now: datetime, lease: timedelta) -> Deployment | None:
        """Take one; None when it is not due any more. It is due again when the lease is over, unless it is saved."""
        row = _CLAIM.one(self._cursor, name=name, now=micros(now), until=micros(now + lease))
        return None if row is None else _deployment(row)

    def save(self, deployment: Deployment, act_at: datetime | None) -> bool:
        """Write how it went; False when it was disturbed meanwhile, and nothing was written."""
        cursor = _SAVE.run(
            self._cursor,
            name=deployment.name,
            owner_fence=deployment.fence,
            new_state=msgspec.json.encode(deployment.progress).decode(),
            new_act_at=None if act_at is None else micros(act_at),
        )
        return cursor.rowcount == 1

    def note(self, deployment: Deployment) -> None:
        """Write how it went, also when it was disturbed meanwhile and is due again."""
        _NOTE.run(self._cursor, name=deployment.name, new_state=msgspec.json.encode(deployment.progress).decode())

    def release_all(self, now: datetime) -> None:
        """Make due what a dead owner may have claimed, and what has failed: a restart may have put it right."""
        _RELEASE.run(self._cursor, now=micros(now))


def _deployment(row: Row) -> Deployment:
    name, vault, certificate, settings, state, act_at, fence = row
    return Deployment(
        name, vault, certificate, settings, _STATE.decode(state), None if act_at is None else moment(act_at), fence
    )
