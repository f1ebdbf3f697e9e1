"""What is there whether or not the seal can be opened: the data directory, which one broker uses, and its database."""

from __future__ import annotations

import fcntl
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

from certbroker.config import Configuration, ConfigurationError
from certbroker.ports.clock import Clock
from certbroker.services.deployment.endpoints import LEASE as LOOK_LEASE
from certbroker.services.discovery.tasks import LEASE as DISCOVERY_LEASE
from certbroker.services.health.meters import Meters
from certbroker.services.health.pulse import Pulse
from certbroker.services.health.readiness import Readiness
from certbroker.services.renewal.renewals import LEASE
from certbroker.services.revocation.sources import LEASE as SOURCE_LEASE
from certbroker.services.revocation.watching import LEASE as WATCH_LEASE
from certbroker.store import migrations
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction
from certbroker.unsealing import setting

# Linux counts the time in which the machine sleeps in one clock only.
_PASSED: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def passed(self) -> timedelta:
        return timedelta(seconds=time.clock_gettime(_PASSED))


@dataclass(frozen=True, slots=True)
class Foundation:
    """What is there whether or not the seal can be opened: the database."""

    configuration: Configuration
    store: SQLiteStore
    clock: Clock
    tenant: str
    lock: IO[str]
    meters: Meters
    readiness: Readiness

    def close(self) -> None:
        self.store.close()
        self.lock.close()


def lay_foundation(configuration: Configuration, upgrade: Callable[[Path], object] = migrations.upgrade) -> Foundation:
    """Open the database alone, which `upgrade` brings up to date. Raises ConfigurationError."""
    directory = configuration.data.directory
    lock = _lock(directory)
    database = directory / "certbroker.db"
    upgrade(database)
    store = SQLiteStore(database, secrets.token_hex(8))
    # Nobody else has the directory open, so whoever held a lease is dead.
    clock = SystemClock()
    store.write(lambda transaction: _release_leases(transaction, clock.now()))
    tenant = setting(store, "tenant", lambda: str(uuid.uuid4()))
    pulse = Pulse()
    readiness = Readiness(store, directory, pulse)
    return Foundation(configuration, store, clock, tenant, lock, Meters(store, pulse), readiness)


def _release_leases(transaction: SQLTransaction, now: datetime) -> None:
    transaction.operations.release_all()
    transaction.lifecycles.release(now, LEASE)
    transaction.revocations.release_all(now)
    transaction.drills.release_all(now)
    transaction.discovery.release(now, DISCOVERY_LEASE)
    transaction.watches.release(now, WATCH_LEASE)
    transaction.sources.release(now, SOURCE_LEASE)
    transaction.channels.release_all()
    transaction.publications.release_all(now)
    transaction.endpoints.release(now, LOOK_LEASE)
    transaction.deployments.release_all(now)


def _lock(directory: Path) -> IO[str]:
    """Make the data directory, and make sure that no other broker uses it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (directory / "certbroker.lock").open("w")
    except OSError as error:
        raise ConfigurationError(f"data.directory: {directory} cannot be written: {error.strerror}.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise ConfigurationError(f"data.directory: another broker is running on {directory}.") from None
    return lock
