"""The outbox: events on their way to the channels of their vault, and for a while those that have arrived."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import bindparam, delete, func, literal_column, update
from sqlmodel import col

from certbroker.domain.channels import EVERYTHING, Outcome
from certbroker.domain.events import Event
from certbroker.store.moments import micros, moment
from certbroker.store.statement import Cursor, Row, Statement, choose, insertion
from certbroker.store.tables import ChannelRow, OutboxRow

# For so long the engine tries to deliver an event, from when it was published or asked for again.
PATIENCE: Final = timedelta(days=3)

# More than this waits for a channel only while its target is away; then the oldest are given up.
MOST_WAITING: Final = 10_000

# How long deliveries that have ended are kept, and how many of a vault: what is told again meanwhile is known.
KEPT: Final = {
    Outcome.DELIVERED: (timedelta(days=30), 10_000),
    Outcome.DROPPED: (timedelta(days=30), 10_000),
    Outcome.DEAD: (timedelta(days=90), 10_000),
}

_c, _o = ChannelRow, OutboxRow
_LISTENERS = Statement(choose(_c.name, _c.events).where(col(_c.vault_id) == bindparam("vault"), col(_c.enabled) == 1))
_ADD = insertion(_o, once=True)
# A channel that pauses, because its target is away, goes on pausing.
_MAKE_DUE = Statement(
    update(_c)
    .where(col(_c.vault_id) == bindparam("vault"), col(_c.name) == bindparam("channel"), col(_c.act_at).is_(None))
    .values(act_at=bindparam("new_act_at"))
)

_HERE = (col(_o.vault_id) == bindparam("vault"), col(_o.channel) == bindparam("channel"))
_THIS = (*_HERE, col(_o.event_id) == bindparam("event"))
# Written into the statements, because SQLite uses a partial index only for a condition that it can read.
_DEAD = col(_o.outcome) == literal_column("'dead'")
_WAITING = col(_o.act_at).is_not(None)
_BATCH = Statement(
    choose(_o.event, _o.attempts)
    .where(*_HERE, _WAITING, col(_o.act_at) <= bindparam("now"))
    .order_by(col(_o.act_at))
    .limit(bindparam("count"))
)
_NEXT = Statement(choose(func.min(_o.act_at)).where(*_HERE, _WAITING))
_SETTLE = Statement(
    update(_o)
    .where(*_THIS, _WAITING)
    .values(
        act_at=None,
        attempts=col(_o.attempts) + bindparam("tried"),
        outcome=bindparam("new_outcome"),
        settled=bindparam("new_settled"),
        problem=bindparam("new_problem"),
    )
)
_POSTPONE = Statement(
    update(_o)
    .where(*_THIS, _WAITING)
    .values(act_at=bindparam("new_act_at"), attempts=col(_o.attempts) + 1, problem=bindparam("new_problem"))
)
_GET = Statement(choose(_o.event, _o.attempts, _o.outcome, _o.settled, _o.act_at, _o.problem, _o.created).where(*_THIS))
_LIST_DEAD = Statement(
    choose(_o.event, _o.attempts, _o.outcome, _o.settled, _o.act_at, _o.problem, _o.created)
    .where(*_HERE, _DEAD, col(_o.event_id) > bindparam("after"))
    .order_by(col(_o.event_id))
    .limit(bindparam("count"))
)
_AGAIN = {
    "act_at": bindparam("new_act_at"),
    "expires": bindparam("new_expires"),
    "attempts": 0,
    "outcome": None,
    "settled": None,
}
_RETRY = Statement(update(_o).where(*_THIS, _DEAD).values(**_AGAIN))
_RETRY_ALL = Statement(update(_o).where(*_HERE, _DEAD).values(**_AGAIN))
_COUNT_WAITING = Statement(choose(func.count()).where(*_HERE, _WAITING))
_COUNT_DEAD = Statement(choose(func.count()).where(*_HERE, _DEAD))
_REMOVE = Statement(delete(_o).where(*_HERE))

_ENDING: Final[dict[str, Any]] = {
    "act_at": None,
    "outcome": Outcome.DEAD.value,
    "settled": bindparam("now"),
    "problem": func.coalesce(col(_o.problem), bindparam("otherwise")),
}
_EXPIRE = Statement(update(_o).where(*_HERE, _WAITING, col(_o.expires) <= bindparam("now")).values(_ENDING))
_CROWDED = Statement(
    choose(_o.act_at).where(*_HERE, _WAITING).order_by(col(_o.act_at).desc()).limit(1).offset(bindparam("most"))
)
_THIN_OUT = Statement(update(_o).where(*_HERE, _WAITING, col(_o.act_at) < bindparam("oldest")).values(_ENDING))
_ENDED = (col(_o.vault_id) == bindparam("vault"), col(_o.outcome) == bindparam("outcome"), col(_o.settled).is_not(None))
_SURPLUS = Statement(
    choose(_o.settled).where(*_ENDED).order_by(col(_o.settled).desc()).limit(1).offset(bindparam("most"))
)
_PRUNE = Statement(delete(_o).where(*_ENDED, col(_o.settled) < bindparam("before")))


class Waiting(Struct, frozen=True):
    """An event that is to be delivered, after so many attempts."""

    event: Event
    attempts: int


class Delivery(Struct, frozen=True):
    """How far the delivery of an event has come. Without an outcome it waits until `act_at`."""

    event: Event
    attempts: int
    outcome: Outcome | None
    settled: datetime | None
    act_at: datetime | None
    problem: str | None
    created: datetime


class Outbox:
    """Events for channels. Times are aware datetimes in UTC; channels go by their name in lower case."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def listeners(self, vault: int) -> list[tuple[str, str]]:
        """The enabled channels of a vault, each with what it wants: for `wants`."""
        return [(row[0], row[1]) for row in _LISTENERS.all(self._cursor, vault=vault)]

    def add(
        self, channel: str, event: Event, now: datetime, *, first: bool = False, patience: timedelta = PATIENCE
    ) -> None:
        """Have the event delivered to the channel, unless it was added before; `first` puts it before all others."""
        added = _ADD.run(
            self._cursor,
            vault_id=event.vault_id,
            channel=channel,
            event_id=event.id,
            event=msgspec.json.encode(event).decode(),
            created=micros(now),
            expires=micros(now + patience),
            act_at=0 if first else micros(now),
            attempts=0,
            outcome=None,
            settled=None,
            problem=None,
        )
        if added.rowcount == 1:
            _MAKE_DUE.run(self._cursor, vault=event.vault_id, channel=channel, new_act_at=micros(now))

    def batch(self, vault: int, channel: str, now: datetime, count: int) -> list[Waiting]:
        """What is to be delivered now, the longest due first."""
        rows = _BATCH.all(self._cursor, vault=vault, channel=channel, now=micros(now), count=count)
        return [Waiting(_EVENT.decode(event), attempts) for event, attempts in rows]

    def next_due(self, vault: int, channel: str) -> datetime | None:
        """When there is something to deliver to the channel."""
        row = _NEXT.one(self._cursor, vault=vault, channel=channel)
        return None if row is None or row[0] is None else moment(row[0])

    def settle(
        self, vault: int, channel: str, event_id: str, outcome: Outcome, now: datetime, problem: str, *, tried: bool
    ) -> None:
        """End the delivery."""
        _SETTLE.run(
            self._cursor,
            vault=vault,
            channel=channel,
            event=event_id,
            tried=int(tried),
            new_outcome=outcome.value,
            new_settled=micros(now),
            new_problem=problem or None,
        )

    def postpone(self, vault: int, channel: str, event_id: str, until: datetime, problem: str) -> None:
        """It was tried, and is to be tried again then."""
        _POSTPONE.run(
            self._cursor, vault=vault, channel=channel, event=event_id, new_act_at=micros(until), new_problem=problem
        )

    def get(self, vault: int, channel: str, event_id: str) -> Delivery | None:
        row = _GET.one(self._cursor, vault=vault, channel=channel, event=event_id)
        return None if row is None else _delivery(row)

    def dead(self, vault: int, channel: str, after: str, count: int) -> list[Delivery]:
        """What could not be delivered, in the order of event ids."""
        rows = _LIST_DEAD.all(self._cursor, vault=vault, channel=channel, after=after, count=count)
        return [_delivery(row) for row in rows]

    def retry(self, vault: int, channel: str, event_id: str | None, now: datetime) -> int:
        """Have what could not be delivered, one or all of it, tried again; return how many that are."""
        times = {"new_act_at": micros(now), "new_expires": micros(now + PATIENCE)}
        if event_id is None:
            return _RETRY_ALL.run(self._cursor, vault=vault, channel=channel, **times).rowcount
        return _RETRY.run(self._cursor, vault=vault, channel=channel, event=event_id, **times).rowcount

    def counts(self, vault: int, channel: str) -> tuple[int, int]:
        """How many events wait, and how many are dead."""
        waiting = _COUNT_WAITING.one(self._cursor, vault=vault, channel=channel)
        dead = _COUNT_DEAD.one(self._cursor, vault=vault, channel=channel)
        return (waiting[0] if waiting else 0, dead[0] if dead else 0)

    def expire(self, vault: int, channel: str, now: datetime) -> None:
        """Give up what has waited for too long, and the oldest where too much waits."""
        common = {"vault": vault, "channel": channel, "now": micros(now)}
        _EXPIRE.run(
            self._cursor, **common, otherwise="It was never tried: the channel was disabled, or had too much to do."
        )
        crowded = _CROWDED.one(self._cursor, vault=vault, channel=channel, most=MOST_WAITING - 1)
        if crowded is not None:
            problem = f"More than {MOST_WAITING} events were waiting for the channel."
            _THIN_OUT.run(self._cursor, **common, oldest=crowded[0], otherwise=problem)

    def prune(self, vault: int, now: datetime) -> int:
        """Forget deliveries that ended long ago, or are too many; return how many."""
        pruned = 0
        for outcome, (age, most) in KEPT.items():
            surplus = _SURPLUS.one(self._cursor, vault=vault, outcome=outcome.value, most=most - 1)
            before = max(micros(now - age), surplus[0] if surplus else 0)
            pruned += _PRUNE.run(self._cursor, vault=vault, outcome=outcome.value, before=before).rowcount
        return pruned

    def remove(self, vault: int, channel: str) -> None:
        """Forget everything about the channel."""
        _REMOVE.run(self._cursor, vault=vault, channel=channel)


def wants(events: str, event: Event) -> bool:
    """Whether a channel that wants these events, separated by spaces or all of them, wants this one."""
    return events == EVERYTHING or event.type in events.split()


_EVENT: Final = msgspec.json.Decoder(Event)


def _delivery(row: Row) -> Delivery:
    (event, attempts, outcome, settled, act_at, problem, created) = row
    return Delivery(
        _EVENT.decode(event),
        attempts,
        Outcome(outcome) if outcome else None,
        None if settled is None else moment(settled),
        None if act_at is None else moment(act_at),
        problem,
        moment(created),
    )
