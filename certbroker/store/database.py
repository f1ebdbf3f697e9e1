"""The store on SQLite: many readers beside one writer."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Final, TypeVar

from certbroker.domain.audit import AuditRecord
from certbroker.store.audit import AuditChain
from certbroker.store.reading import Query, Readers
from certbroker.store.spool import AuditSpool
from certbroker.store.transaction import SQLTransaction
from certbroker.store.writer import Work, Writer

T = TypeVar("T")

_PRAGMAS: Final = (
    "PRAGMA busy_timeout = 10000",
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    # Deleted rows hold sealed bytes only, but shredding a wrapped key must leave nothing to carve out of the file.
    "PRAGMA secure_delete = ON",
)


class SQLiteStore:
    """A database that `migrations.upgrade` has prepared, and that only this process has open.

    `writer` names this process's audit chain.
    """

    def __init__(self, path: Path, writer: str) -> None:
        self._path = path
        self._writer = Writer(self._connect(read_only=False), AuditChain(writer))
        self._spool = AuditSpool(path.parent, self._writer, writer)
        self._readers = Readers(self._connect_for_reading, lambda: self._writer.changes)

    def read(self) -> AbstractContextManager[SQLTransaction]:
        """A consistent view for several statements. Nested reads on one thread share it."""
        return self._readers.mine().read()

    def glance(self) -> SQLTransaction:
        """For a single statement: what is committed now, without the cost of a transaction around it."""
        return self._readers.mine().glance()

    def recall(self, key: Hashable, query: Query[T]) -> T:
        """What the query finds now. On the event loop it is run once for as long as nothing changes."""
        return self._readers.mine().recall(key, query)

    def reading_on_this_loop(self) -> AbstractContextManager[None]:
        """While it lasts, reads on the calling thread, which runs the event loop, are quick enough to be made there."""
        return self._readers.on_this_loop()

    def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction and return its result once that is on disk.

        What `work` raises is raised here, and then nothing of it has been kept. It runs on the writer's thread, so it
        must be quick, and it must not write or wait for another write.
        """
        return self._writer.write(work)

    def write_soon(self, work: Work[T]) -> asyncio.Future[T]:
        """The same for a coroutine."""
        return self._writer.write_soon(work)

    def write_all(self, works: Sequence[Work[T]]) -> list[T | BaseException]:
        """The same for several functions that share a commit. What one raises is in its place, and undoes only it."""
        return self._writer.write_all(works)

    def audit(self, record: AuditRecord) -> None:
        """Put something that changed nothing on record, durably, on any thread."""
        self._writer.write(lambda transaction: transaction.audit(record))

    def audit_read(self, record: AuditRecord) -> None:
        """The same at a fraction of the cost, on the event loop. Raises OSError when it cannot be put on record."""
        self._spool.add(record)

    @property
    def audit_failures(self) -> int:
        """How often audit records could not be written since the start."""
        return self._spool.failures

    def quick_check(self, seconds: float) -> str | None:
        """What SQLite finds wrong with the database: nothing at best; None when there was not enough time.

        Raises sqlite3.Error.
        """
        end = time.monotonic() + seconds
        with closing(self._connect(read_only=True)) as connection:
            connection.set_progress_handler(lambda: int(time.monotonic() > end), 10_000)
            try:
                rows = connection.execute("PRAGMA quick_check(5)").fetchall()
            except sqlite3.OperationalError:
                if time.monotonic() > end:
                    return None
                raise
        found = "; ".join(str(row[0]) for row in rows)
        return "" if found == "ok" else found

    def sizes(self) -> tuple[int, int]:
        """Bytes of the database, and of its write-ahead log. Raises OSError."""
        log = self._path.with_name(f"{self._path.name}-wal")
        return self._path.stat().st_size, log.stat().st_size if log.exists() else 0

    def close(self) -> None:
        """Finish the writes that were handed in, then stop."""
        self._spool.close()
        self._writer.close()

    def _connect_for_reading(self, cache_kib: int) -> sqlite3.Connection:
        connection = self._connect(read_only=True)
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        return connection

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        """A connection in autocommit mode with our settings."""
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, cached_statements=256)
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        return connection
