"""The broker's store without disk, write-ahead log and threads, for a process in which nobody else reads or writes.

Statements, transactions and the audit chain are the real ones. Left out is what it costs to wake a thread, to lock a
file, and to read again what another connection has written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TypeVar

from certbroker.store.audit import AuditChain
from certbroker.store.database import SQLiteStore
from certbroker.store.reading import Readers, ThreadReader
from certbroker.store.transaction import SQLTransaction
from certbroker.store.writer import _GROUP, Work, Writer, _Job

T = TypeVar("T")


class MemoryDatabase:
    """A copy of a store's database, which the store has from now on instead of its file."""

    def __init__(self, store: SQLiteStore) -> None:
        self._path = store._path
        store._writer.close()
        self._connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)
        with closing(sqlite3.connect(self._path)) as file:
            file.backup(self._connection)
        self._connection.execute("PRAGMA foreign_keys = ON")
        store._writer = store._spool._writer = _Writer(self._connection, store._writer._chain)
        store._readers = _Readers(self._connection)

    @property
    def size(self) -> int:
        """In bytes."""
        pages, page = (self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return int(pages) * int(page)

    def save(self) -> None:
        """Put it where the file was."""
        for path in (self._path, self._path.with_name(f"{self._path.name}-wal")):
            path.unlink(missing_ok=True)
        with closing(sqlite3.connect(self._path)) as file:
            self._connection.backup(file)


class _Writer(Writer):
    """What is written is committed by whoever writes it."""

    def __init__(self, connection: sqlite3.Connection, chain: AuditChain) -> None:
        self.changes = 0
        self._connection = connection
        self._chain = chain
        self._cursor = connection.cursor()
        self._view = SQLTransaction(self._cursor)

    def write(self, work: Work[T]) -> T:
        outcome = self.write_all([work])[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def write_all(self, works: Sequence[Work[T]]) -> list[T | BaseException]:
        outcomes: list[T | BaseException] = []
        for start in range(0, len(works), _GROUP):
            jobs = [_Job(work) for work in works[start : start + _GROUP]]
            self._commit(jobs)
            outcomes += [job.error or job.result for job in jobs]
        return outcomes

    def close(self) -> None:
        self._connection.close()


class _Reader(ThreadReader):
    """Sees what is there. Nobody writes while something is read."""

    @contextmanager
    def read(self) -> Iterator[SQLTransaction]:
        yield self._transaction


class _Readers(Readers):
    """There is one thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._reader = _Reader(connection)

    def mine(self) -> ThreadReader:
        return self._reader
