"""Connections, and the one writer.

Reads run on the calling thread, on a connection of its own: SQLite in WAL mode lets them go on beside the writer. Writes
are functions that are handed to one thread. It runs those that have come meanwhile in one transaction, each in a savepoint of
its own, commits once, and only then answers: the cost of making a commit durable (synchronous=FULL) is shared, and nobody
is told of a write that a power cut could undo.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from certbroker.domain.audit import AuditRecord
from certbroker.failpoints import failpoint
from certbroker.store.audit import AuditChain
from certbroker.store.transaction import SQLTransaction

T = TypeVar("T")
Work = Callable[[SQLTransaction], T]

_GROUP: Final = 128
_READ_ONLY: Final = "PRAGMA query_only = ON"
_PRAGMAS: Final = (
    "PRAGMA busy_timeout = 10000",
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    # Deleted rows hold sealed bytes only, but shredding a wrapped key must leave nothing to carve out of the file.
    "PRAGMA secure_delete = ON",
)

_Outcome = tuple[Any, BaseException | None]


class _Job:
    """A function for the writer, and whom to tell what became of it."""

    __slots__ = ("_future", "_loop", "outcome", "work")

    def __init__(self, work: Work[Any], future: Future[Any] | asyncio.Future[Any]) -> None:
        self.work = work
        self._future = future
        self._loop = future.get_loop() if isinstance(future, asyncio.Future) else None
        self.outcome: _Outcome = (None, None)

    def answer(self) -> asyncio.AbstractEventLoop | None:
        """Tell the waiting thread; for a waiting coroutine, return the loop on which `deliver` has to run."""
        if self._loop is None:
            self.deliver()
        return self._loop

    def deliver(self) -> None:
        result, error = self.outcome
        if self._future.done():  # The request was cancelled meanwhile; the write stands.
            return
        if error is None:
            self._future.set_result(result)
        else:
            self._future.set_exception(error)


class SQLiteStore:
    """The store on SQLite. Opening it does not create or migrate anything: `migrations.upgrade` does."""

    def __init__(self, path: Path, writer: str) -> None:
        self._path = path
        self._local = threading.local()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._chain = AuditChain(writer)
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def connect(self, *, read_only: bool) -> sqlite3.Connection:
        """A new connection in autocommit mode with our settings."""
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, cached_statements=256)
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        if read_only:
            connection.execute(_READ_ONLY)
        return connection

    @contextmanager
    def read(self) -> Iterator[SQLTransaction]:
        """A consistent view for several statements. Nested reads on one thread share it."""
        transaction: SQLTransaction | None = getattr(self._local, "transaction", None)
        if transaction is not None:
            yield transaction
            return
        cursor = self._cursor()
        cursor.execute("BEGIN")
        self._local.transaction = transaction = SQLTransaction(cursor)
        try:
            yield transaction
        finally:
            self._local.transaction = None
            cursor.execute("COMMIT")

    def glance(self) -> SQLTransaction:
        """For a single statement: what has been committed now, without the cost of a transaction around it."""
        transaction: SQLTransaction | None = getattr(self._local, "glance", None)
        if transaction is None:
            self._local.glance = transaction = SQLTransaction(self._cursor())
        return transaction

    def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction and return its result once that is on disk.

        What `work` raises is raised here, and then nothing of it has been kept. It runs on the writer's thread, so it must
        be quick, and it must not write or wait for another write.
        """
        future: Future[T] = Future()
        self._jobs.put(_Job(work, future))
        return future.result()

    def write_soon(self, work: Work[T]) -> asyncio.Future[T]:
        """The same for a coroutine on the event loop: await the result."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(work, future))
        return future

    def audit_soon(self, record: AuditRecord) -> asyncio.Future[None]:
        """Add a record of something that changed nothing; await that it is on disk."""
        return self.write_soon(lambda transaction: transaction.audit(record))

    def audit(self, record: AuditRecord) -> None:
        """The same for a thread."""
        self.write(lambda transaction: transaction.audit(record))

    def close(self) -> None:
        """Finish the writes that were handed in, then stop."""
        self._jobs.put(None)
        self._thread.join()

    def _cursor(self) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor | None = getattr(self._local, "cursor", None)
        if cursor is None:
            self._local.cursor = cursor = self.connect(read_only=True).cursor()
        return cursor

    def _run(self) -> None:
        connection = self.connect(read_only=False)
        cursor = connection.cursor()
        stopping = False
        while not stopping:
            group: list[_Job] = []
            job = self._jobs.get()
            try:
                while job is not None:
                    group.append(job)
                    if len(group) == _GROUP:
                        break
                    job = self._jobs.get_nowait()
                else:
                    stopping = True
            except queue.Empty:
                pass
            if group:
                self._commit(cursor, group)
                _answer(group)
        connection.close()

    def _commit(self, cursor: sqlite3.Cursor, group: list[_Job]) -> None:
        """Run the group's functions and commit; afterwards every job has its outcome."""
        before = self._chain.position
        try:
            cursor.execute("BEGIN IMMEDIATE")
            for job in group:
                self._attempt(cursor, job)
            failpoint("store.before-commit")
            cursor.execute("COMMIT")
            failpoint("store.after-commit")
        except BaseException as error:
            self._chain.position = before
            if cursor.connection.in_transaction:
                cursor.execute("ROLLBACK")
            for job in group:
                job.outcome = (None, error)

    def _attempt(self, cursor: sqlite3.Cursor, job: _Job) -> None:
        """Run one function in a savepoint, and its audit records after it."""
        before = self._chain.position
        cursor.execute("SAVEPOINT job")
        try:
            transaction = SQLTransaction(cursor)
            result = job.work(transaction)
            for record in transaction.audited:
                self._chain.append(cursor, record)
            job.outcome = (result, None)
        except BaseException as error:
            self._chain.position = before
            cursor.execute("ROLLBACK TO job")
            job.outcome = (None, error)
        cursor.execute("RELEASE job")


def _answer(group: list[_Job]) -> None:
    """Tell everybody, with one wake-up for each event loop."""
    waiting: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in group:
        loop = job.answer()
        if loop is not None:
            waiting.setdefault(loop, []).append(job)
    for loop, jobs in waiting.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_deliver, jobs)


def _deliver(jobs: list[_Job]) -> None:
    for job in jobs:
        job.deliver()
