"""What the engine does now and then, and late if need be."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import structlog

from certbroker.domain.channels import LONGEST_PAUSE
from certbroker.ports.clock import Clock
from certbroker.services.notification.deliveries import LEASE
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

_BEAT: Final = "engine.beat"

# A clock that goes back by less is only being corrected.
_JUMP: Final = timedelta(minutes=1)

# After a jump everything is looked at again within this time, and not at once.
_LOOK_AGAIN: Final = timedelta(hours=1)

# Operations that are not shown any more are kept for those who look for the cause of something.
_KEEP_OPERATIONS: Final = timedelta(days=30)
_AT_ONCE: Final = 500

# RFC 5280 section 3.3: an entry stays on one CRL beyond the certificate's end; and people look for what is just over.
_KEEP_ISSUED: Final = timedelta(days=30)

_log = structlog.get_logger("certbroker.engine")


class Housekeeping:
    """Chores that need the database only. Each is safe to repeat and may be late."""

    def __init__(self, store: SQLiteStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def beat(self) -> None:
        """Leave a mark that the engine is alive, and remove what has run out.

        If the mark of the last time is in the future the clock has gone back, and what was put off by the wrong clock
        is called back.
        """
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> bool:
            last = _read(transaction)
            transaction.vaults.put_setting(_BEAT, now.isoformat())
            transaction.issuers.expire_challenges(now)
            jumped = last is not None and last - now > _JUMP
            if jumped:
                transaction.lifecycles.call_back(now, _LOOK_AGAIN)
                transaction.endpoints.call_back(now, _LOOK_AGAIN)
                transaction.deployments.release_all(now)
                transaction.watches.call_back(now, _LOOK_AGAIN)
                transaction.discovery.call_back(now)
                transaction.drills.release_all(now)
                transaction.channels.call_back(now, now + 2 * LONGEST_PAUSE, now + LEASE)
            return jumped

        if self._store.write(work):
            _log.warning("the clock has gone back; what was planned is looked at again")

    def last_beat(self) -> datetime | None:
        """When the engine was alive the last time; None when it never was."""
        return _read(self._store.glance())

    def forget_old_operations(self) -> None:
        """Forget operations that are not shown any more, a month after they were made."""
        before = self._clock.now() - _KEEP_OPERATIONS
        while self._store.glance().operations.has_retired(before):
            self._store.write(lambda transaction: transaction.operations.forget_retired(before, _AT_ONCE))

    def forget_expired_entries(self) -> None:
        """Forget what our CAs have issued, a month after it expired."""
        before = int((self._clock.now() - _KEEP_ISSUED).timestamp())
        while self._store.glance().authorities.has_expired(before):
            self._store.write(lambda transaction: transaction.authorities.forget_expired(before, _AT_ONCE))


def _read(transaction: SQLTransaction) -> datetime | None:
    text = transaction.vaults.setting(_BEAT)
    return None if text is None else datetime.fromisoformat(text)
