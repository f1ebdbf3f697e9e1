"""Writing: one thread that commits in groups.

Writes are functions that are handed to one thread. It runs those that have come meanwhile in one transaction, each in a
savepoint of its own, commits once, and only then answers: the cost of making a commit durable (synchronous=FULL) is
shared, and nobody is told of a write that a power cut could undo.

Audit records of reads go the same way, but a group of nothing else is committed without waiting for the disk: whoever
gets an answer is on record even if this process is killed at once, and a second later also if the power fails.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from certbroker.domain.audit import AuditRecord
from certbroker.failpoints import failpoint
from certbroker.store.audit import AuditChain
from certbroker.store.transaction import SQLTransaction

T = TypeVar("T")
Work = Callable[[SQLTransaction], T]

_GROUP: Final = 128

# How long a commit that did not wait for the disk may stay without it, in seconds.
_FLUSH: Final = 1.0

# The event loop and the writer hand the interpreter to each other thousands of times a second. With the usual 5 ms before
# a busy thread is made to let go, a group of reads waited 15 ms for a commit that takes 0.1.
_SWITCH_INTERVAL: Final = 0.0005


class _Job:
    """A function or audit records for the writer, and whom to tell what became of it."""

    __slots__ = ("_future", "error", "loop", "result", "work")

    def __init__(self, work: Work[Any] | list[AuditRecord], future: Future[Any] | asyncio.Future[Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.loop = future.get_loop() if isinstance(future, asyncio.Future) else None
        self._future = future

    def deliver(self) -> None:
        """Tell. For a coroutine this runs on its loop."""
        if self._future.done():  # The request was cancelled meanwhile; the write stands.
            return
        if self.error is None:
            self._future.set_result(self.result)
        else:
            self._future.set_exception(self.error)


class Writer:
    """The writer and its thread. `changes` counts the writes that have been committed."""

    def __init__(self, connection: sqlite3.Connection, chain: AuditChain) -> None:
        self.changes = 0
        self._connection = connection
        self._chain = chain
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._batch: tuple[list[AuditRecord], asyncio.Future[None]] | None = None
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def write(self, work: Work[T]) -> T:
        """Have `work` run, and return its result once it is on disk."""
        future: Future[T] = Future()
        self._jobs.put(_Job(work, future))
        return future.result()

    def audit(self, records: list[AuditRecord]) -> None:
        """Put what changed nothing on record."""
        future: Future[None] = Future()
        self._jobs.put(_Job(records, future))
        future.result()

    def audit_soon(self, record: AuditRecord) -> asyncio.Future[None]:
        """The same for a coroutine. The records of one turn of the loop go together."""
        if self._batch is None:
            loop = asyncio.get_running_loop()
            self._batch = ([], loop.create_future())
            loop.call_soon(self._send_batch)
        records, future = self._batch
        records.append(record)
        return asyncio.shield(future)  # A request that is cancelled takes none of the others with it.

    def close(self) -> None:
        """Finish what was handed in, then stop."""
        self._jobs.put(None)
        self._thread.join()

    def _send_batch(self) -> None:
        assert self._batch is not None
        self._jobs.put(_Job(*self._batch))
        self._batch = None

    def _run(self) -> None:
        cursor = self._connection.cursor()
        unflushed = False
        while (group := self._next_group(_FLUSH if unflushed else None)) is not None:
            if group:
                unflushed = self._commit(cursor, group)
                _answer(group)
            else:
                # In WAL mode a checkpoint syncs the log first, which is what is wanted.
                cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
                unflushed = False
        self._connection.close()

    def _next_group(self, patience: float | None) -> list[_Job] | None:
        """What has been handed in: nothing when patience ends, None at the end."""
        group: list[_Job] = []
        try:
            job = self._jobs.get(timeout=patience)
            while job is not None:
                group.append(job)
                if len(group) == _GROUP:
                    return group
                job = self._jobs.get_nowait()
        except queue.Empty:
            return group
        if group:
            self._jobs.put(None)  # The end comes after what was handed in before it.
            return group
        return None

    def _commit(self, cursor: sqlite3.Cursor, group: list[_Job]) -> bool:
        """Run and commit the group; afterwards every job has its outcome. Returns whether the disk may lag behind."""
        before = self._chain.position
        works = 0
        try:
            works = sum(callable(job.work) for job in group)
            cursor.execute("PRAGMA synchronous = FULL" if works else "PRAGMA synchronous = NORMAL")
            cursor.execute("BEGIN IMMEDIATE")
            for job in group:
                if isinstance(job.work, list):
                    self._chain.append(cursor, job.work)
                else:
                    self._attempt(cursor, job, job.work)
            failpoint("store.before-commit")
            cursor.execute("COMMIT")
            failpoint("store.after-commit")
            self.changes += works
        except BaseException as error:  # noqa: BLE001 - whatever it was, all who wait must hear of it
            self._chain.position = before
            if self._connection.in_transaction:
                cursor.execute("ROLLBACK")
            for job in group:
                job.error = error
        return not works

    def _attempt(self, cursor: sqlite3.Cursor, job: _Job, work: Work[Any]) -> None:
        """Run one function in a savepoint, and write its audit records after it."""
        before = self._chain.position
        cursor.execute("SAVEPOINT job")
        try:
            transaction = SQLTransaction(cursor)
            job.result = work(transaction)
            if transaction.audited:
                self._chain.append(cursor, transaction.audited)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the write was asked for
            job.error = error
            self._chain.position = before
            cursor.execute("ROLLBACK TO job")
        cursor.execute("RELEASE job")


def _answer(group: list[_Job]) -> None:
    """Tell everybody, with one wake-up for each event loop."""
    waiting: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in group:
        if job.loop is None:
            job.deliver()
        else:
            waiting.setdefault(job.loop, []).append(job)
    for loop, jobs in waiting.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_deliver, jobs)


def _deliver(jobs: list[_Job]) -> None:
    for job in jobs:
        job.deliver()
