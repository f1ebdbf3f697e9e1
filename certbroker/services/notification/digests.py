"""A weekly overview of each vault: what expires, what fails, and what is replaced already."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from certbroker.domain.events import Event, EventType, event_id
from certbroker.domain.lifecycle import Health
from certbroker.domain.objects import Kind
from certbroker.ports.clock import Clock
from certbroker.services.notification.outbox import publish
from certbroker.store.database import SQLiteStore
from certbroker.store.outbox import wants
from certbroker.store.transaction import SQLTransaction

_AHEAD: Final = timedelta(weeks=5)
_MOST_LINES: Final = 100
_SETTING: Final = "digest"
_SAID: Final = {
    Health.FAILING: "could not be renewed, and is tried again",
    Health.NEEDS_PERSON: "waits for somebody",
    Health.EXPIRED: "has expired",
    Health.REVOKED: "is revoked, and clients that check refuse it",
    Health.NOT_DEPLOYED: "is not served where it should be",
}


class Digests:
    """Publishes the overview of each vault once a week, counted from Monday in UTC, if it is wanted at all."""

    def __init__(self, store: SQLiteStore, clock: Clock, *, weekly: bool) -> None:
        self._store = store
        self._clock = clock
        self._weekly = weekly

    def publish_due(self) -> None:
        """Publish this week's, unless that is done. Safe to repeat: the overview of a week is one event."""
        now = self._clock.now()
        year, week, _ = now.isocalendar()
        key = f"{year}-W{week:02}"
        if not self._weekly or self._store.glance().vaults.setting(_SETTING) == key:
            return
        for vault_id in self._store.glance().channels.vaults():
            with self._store.read() as transaction:
                event = _overview(transaction, vault_id, key, now)
            if event is not None:
                self._publish(event)
        self._store.write(lambda transaction: transaction.vaults.put_setting(_SETTING, key))

    def _publish(self, event: Event) -> None:
        self._store.write(lambda transaction: publish(transaction, event))


def _overview(transaction: SQLTransaction, vault_id: int, week: str, now: datetime) -> Event | None:
    """The event, unless there is nothing to tell or nobody to be told."""
    event = Event(
        event_id(EventType.VAULT_DIGEST, vault_id, Kind.CERTIFICATE, "", week),
        EventType.VAULT_DIGEST,
        vault_id,
        Kind.CERTIFICATE,
        "",
        "",
        now,
    )
    if not any(wants(wanted, event) for _, wanted in transaction.outbox.listeners(vault_id)):
        return None
    seconds = int(now.timestamp())
    until = seconds + int(_AHEAD.total_seconds())
    ending = transaction.overviews.expiring(vault_id, seconds, until, 2 * _MOST_LINES)
    lists = {
        "expiring": [f"{each.name}: {_date(each.expires)}" for each in ending if each.version == each.current],
        "failing": [f"{name} {_SAID[health]}" for name, health in transaction.overviews.unwell(vault_id, _MOST_LINES)],
        "replaced": [
            f"{each.name}: {_date(each.expires)}, the version {each.version[:8]} is already replaced by "
            f"{each.current[:8]}"
            for each in ending
            if each.version != each.current
        ],
    }
    if not any(lists.values()):
        return None
    counts = f"{len(lists['expiring'])} expire in the coming weeks, {len(lists['failing'])} need a look"
    return Event(
        event.id,
        event.type,
        vault_id,
        event.kind,
        "",
        "",
        now,
        message=f"Of the certificates of this vault {counts}.",
        details={name: "\n".join(lines[:_MOST_LINES]) for name, lines in lists.items() if lines},
    )


def _date(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
