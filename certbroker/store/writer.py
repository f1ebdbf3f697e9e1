"""Writing: one thread that commits in groups.

Writes are functions that are handed to one thread. It runs those that have come meanwhile in one transaction, each in a
savepoint of its own, commits once, and only then answers: the cost of making a commit durable (synchronous=FULL) is
shared, and nobody is told of a write that a power cut could undo.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from certbroker.failpoints import failpoint
from certbroker.store.audit import AuditChain
from certbroker.store.transaction import SQLTransaction

T = TypeVar("T")
Work = Callable[[SQLTransaction], T]

_GROUP: Final = 128

# The event loop and the writer hand the interpreter to each other thousands of times a second. With the usual 5 ms before
# a busy thread is made to let go, either waits longer for the interpreter than for the disk.
_SWITCH_INTERVAL: Final = 0.005


class _Job:
    """A function for the writer, and whom to tell what became of it."""

    __slots__ = ("_future", "error", "loop", "result", "work")

    def __init__(self, work: Work[Any], future: Future[Any] | asyncio.Future[Any]) -> None:
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
    """The writer and its thread. `changes` counts the commits."""

    def __init__(self, connection: sqlite3.Connection, chain: AuditChain) -> None:
        self.changes = 0
        self._connection = connection
        self._chain = chain
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def write(self, work: Work[T]) -> T:
        """Have `work` run, and return its result once it is on disk."""
        future: Future[T] = Future()
        self._jobs.put(_Job(work, future))
        return future.result()

    def write_all(self, works: Sequence[Work[T]]) -> list[T | BaseException]:
        """Have all of them run, each in its own savepoint, and return what each brought or raised."""
        futures: list[Future[T]] = [Future() for _ in works]
        for work, future in zip(works, futures, strict=True):
            self._jobs.put(_Job(work, future))
        return [future.exception() or future.result() for future in futures]

    def write_soon(self, work: Work[T]) -> asyncio.Future[T]:
        """The same for a coroutine."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(work, future))
        return future

    def close(self) -> None:
        """Finish what was handed in, then stop."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        cursor = self._connection.cursor()
        while group := self._next_group():
            self._commit(cursor, group)
            _answer(group)
        self._connection.close()

    def _next_group(self) -> list[_Job]:
        """What has been handed in; nothing at the end."""
        group: list[_Job] = []
        try:
            job = self._jobs.get()
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

    def _commit(self, cursor: sqlite3.Cursor, group: list[_Job]) -> None:
        """Run and commit the group; afterwards every job has its outcome."""
        before = self._chain.position
        try:
            cursor.execute("BEGIN IMMEDIATE")
            for job in group:
                self._attempt(cursor, job)
            failpoint("store.before-commit")
            cursor.execute("COMMIT")
            failpoint("store.after-commit")
            self.changes += 1
        except BaseException as error:  # noqa: BLE001 - whatever it was, all who wait must hear of it
            self._chain.position = before
            if self._connection.in_transaction:
                cursor.execute("ROLLBACK")
            for job in group:
                job.error = error

    def _attempt(self, cursor: sqlite3.Cursor, job: _Job) -> None:
        """Run one function in a savepoint, and write its audit records after it."""
        before = self._chain.position
        cursor.execute("SAVEPOINT job")
        try:
            transaction = SQLTransaction(cursor)
            job.result = job.work(transaction)
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
