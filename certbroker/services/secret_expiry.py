"""Secrets that come to their end: people are told a month before, as by Azure, and when it has come."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from certbroker.domain.events import Event, EventType, event_id
from certbroker.domain.objects import Kind
from certbroker.domain.records import Version
from certbroker.ports.clock import Clock
from certbroker.services.outbox import publish
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

_NEAR: Final = timedelta(days=30)
_MARK: Final = "secrets.told-until"

# Enough for one transaction; the rest follows in the next.
_AT_ONCE: Final = timedelta(days=1)


class SecretExpiry:
    """Tells of secrets that expire. What has passed while the broker was down is told when it is up again."""

    def __init__(self, store: SQLiteStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def tell(self) -> None:
        """Tell of what has come near, or to its end, since the last time.

        A secret that is set with less than a month to go is told of when it expires.
        """
        while self._store.write(self._some):
            pass

    def _some(self, transaction: SQLTransaction) -> bool:
        """Go on by a day at most; returns whether there is more."""
        now = self._clock.now()
        text = transaction.vaults.setting(_MARK)
        since = datetime.fromisoformat(text) if text else now
        until = min(now, since + _AT_ONCE)
        for kind, ahead in ((EventType.SECRET_NEAR_EXPIRY, _NEAR), (EventType.SECRET_EXPIRED, timedelta(0))):
            after, end = (int((moment + ahead).timestamp()) for moment in (since, until))
            for vault_id, version in transaction.objects.expiring_secrets(after, end):
                publish(transaction, _event(kind, vault_id, version, now))
        if until != since or text is None:
            transaction.vaults.put_setting(_MARK, until.isoformat())
        return until < now


def _event(kind: EventType, vault_id: int, version: Version, now: datetime) -> Event:
    life = version.attributes
    return Event(
        event_id(kind, vault_id, Kind.SECRET, version.name, version.version),
        kind,
        vault_id,
        Kind.SECRET,
        version.name,
        version.version,
        now,
        life.not_before,
        life.expires,
    )
