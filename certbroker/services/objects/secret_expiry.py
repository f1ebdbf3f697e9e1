"""Secrets that come to their end: people are told a month before, as by Azure, and when it has come."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from certbroker.domain.events import EventType, version_event
from certbroker.domain.records import Version
from certbroker.ports.clock import Clock
from certbroker.services.notification.outbox import publish
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

_NEAR: Final = timedelta(days=30)
_MARK: Final = "secrets.told-until"

# Enough for one transaction; the rest follows in the next.
_AT_ONCE: Final = timedelta(days=1)

# So long the mark may lag behind while there is nothing to tell, so that an idle broker does not write.
_LAG: Final = timedelta(hours=1)


class SecretExpiry:
    """Tells of secrets that expire. What has passed while the broker was down is told when it is up again."""

    def __init__(self, store: SQLiteStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def tell(self) -> None:
        """Tell of what has come near, or to its end, since the last time.

        A secret that is set with less than a month to go is told of when it expires.
        """
        while self._is_due() and self._store.write(self._some):
            pass

    def _is_due(self) -> bool:
        """Whether there is something to tell, or to remember."""
        now = self._clock.now()
        with self._store.read() as transaction:
            since = _mark(transaction)
            return since is None or not since <= now < since + _LAG or any(_passed(transaction, since, now))

    def _some(self, transaction: SQLTransaction) -> bool:
        """Go on by a day at most; returns whether there is more."""
        now = self._clock.now()
        mark = _mark(transaction)
        since = mark or now
        until = min(now, since + _AT_ONCE)
        for kind, vault_id, version in _passed(transaction, since, until):
            publish(transaction, version_event(kind, vault_id, version, now))
        if until != mark:
            transaction.vaults.put_setting(_MARK, until.isoformat())
        return until < now


def _mark(transaction: SQLTransaction) -> datetime | None:
    """Up to when everything has been told."""
    text = transaction.vaults.setting(_MARK)
    return datetime.fromisoformat(text) if text else None


def _passed(transaction: SQLTransaction, since: datetime, until: datetime) -> Iterator[tuple[EventType, int, Version]]:
    """What came near, or to its end, between the two, with the vaults."""
    for kind, ahead in ((EventType.SECRET_NEAR_EXPIRY, _NEAR), (EventType.SECRET_EXPIRED, timedelta(0))):
        after, end = (int((moment + ahead).timestamp()) for moment in (since, until))
        for vault_id, version in transaction.objects.expiring_secrets(after, end):
            yield kind, vault_id, version
