"""Writing: one thread that commits in groups.

Writes are functions that are handed to one thread. It runs those that have come meanwhile in one transaction, commits
once, and only then answers: the cost of making a commit durable (synchronous=FULL) is shared, and nobody is told of a
write that a power cut could undo. A function that fails undoes only itself. One that succeeds may run twice before it
is committed, so it does nothing but read and write the database.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from certbroker import background
from certbroker.failpoints import failpoint
from certbroker.store.audit import AuditChain
from certbroker.store.transaction import SQLTransaction

T = TypeVar("T")
Work = Callable[[SQLTransaction], T]

_GROUP: Final = 128

# So many writes from the background those have to wait for that somebody waits for.
_FEW: Final = 2

# For so long an event loop gathers writes, in seconds, while each of its turns brings another one.
_GATHER: Final = 0.02


class _Job:
    """A function for the writer, and whom to tell what became of it."""

    __slots__ = ("_future", "audited", "background", "error", "loop", "result", "work")

    def __init__(self, work: Work[Any], future: Future[Any] | asyncio.Future[Any] | None = None) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.audited: list[bytes] = []
        self.background = background.is_here()
        self.loop = future.get_loop() if isinstance(future, asyncio.Future) else None
        self._future = future

    def attempt(self, transaction: SQLTransaction) -> bool:
        """Run the function and keep what it brings or raises; whether it succeeded. Repeatable after a rollback."""
        transaction.audited = []
        self.result = self.error = None
        try:
            self.result = self.work(transaction)
        except BaseException as error:
            self.error = error
        self.audited = transaction.audited
        return self.error is None

    def deliver(self) -> None:
        """Tell. For a coroutine this runs on its loop."""
        if self._future is None or self._future.done():  # The request was cancelled meanwhile; the write stands.
            return
        if self.error is None:
            self._future.set_result(self.result)
        else:
            self._future.set_exception(self.error)


class _HalfDone(Exception):
    """A function has failed after it had written something."""

    def __init__(self, job: _Job) -> None:
        super().__init__()
        self.job = job


class Writer:
    """The writer and its thread. `changes` counts the commits."""

    def __init__(self, connection: sqlite3.Connection, chain: AuditChain) -> None:
        self.changes = 0
        self._connection = connection
        self._chain = chain
        self._cursor = connection.cursor()
        self._view = SQLTransaction(self._cursor)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # What has been taken from there; of the writer's thread alone.
        self._awaited: deque[_Job] = deque()
        self._patient: deque[_Job] = deque()
        self._ending = False
        self._passed_over = False
        self._gathered: list[_Job] = []
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def write(self, work: Work[T]) -> T:
        """Have `work` run, and return its result once it is on disk."""
        background.give_way()
        future: Future[T] = Future()
        self._jobs.put(_Job(work, future))
        with background.waiting():
            return future.result()

    def write_all(self, works: Sequence[Work[T]]) -> list[T | BaseException]:
        """Have all of them run, and return what each brought or raised; one that fails undoes only itself."""
        if not works:
            return []
        background.give_way()
        # They are answered in this order, so it is enough to wait for the last.
        end: Future[T] = Future()
        jobs = [_Job(work) for work in works[:-1]] + [_Job(works[-1], end)]
        for job in jobs:
            self._jobs.put(job)
        with background.waiting():
            end.exception()
        return [job.result if job.error is None else job.error for job in jobs]

    def write_soon(self, work: Work[T]) -> asyncio.Future[T]:
        """The same for a coroutine; all coroutines are on one event loop.

        What comes in turns of the loop that follow each other is handed over together. Otherwise the writer's thread
        would take the interpreter from a loop that has more to hand over, back and forth at each statement.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._gathered.append(_Job(work, future))
        if len(self._gathered) == 1:
            loop.call_soon(self._hand_over, loop, loop.time() + _GATHER, 1)
        return future

    def _hand_over(self, loop: asyncio.AbstractEventLoop, until: float, before: int) -> None:
        """Hand over what was gathered, unless this turn has brought more than there was `before`."""
        if before < len(self._gathered) < _GROUP and loop.time() < until:
            loop.call_soon(self._hand_over, loop, until, len(self._gathered))
            return
        gathered, self._gathered = self._gathered, []
        for job in gathered:
            self._jobs.put(job)

    def close(self) -> None:
        """Finish what was handed in, then stop."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            _answer(self._commit(group))
        self._connection.close()

    def _next_group(self) -> list[_Job]:
        """What somebody waits for, with a few of the rest where that was passed over; or else the rest; nothing at the
        end.
        """
        self._take_in(wait=not self._awaited and not self._patient)
        if not self._awaited:
            self._passed_over = False
            return _first(self._patient, _GROUP)
        few = _first(self._patient, _FEW) if self._passed_over else []
        self._passed_over = not few and bool(self._patient)
        return few + _first(self._awaited, _GROUP)

    def _take_in(self, *, wait: bool = False) -> None:
        """Take what has been handed in."""
        try:
            while not self._ending:
                job = self._jobs.get() if wait else self._jobs.get_nowait()
                wait = False
                if job is None:
                    self._ending = True
                else:
                    (self._patient if job.background else self._awaited).append(job)
        except queue.Empty:
            return

    def _commit(self, group: list[_Job]) -> list[_Job]:
        """Run and commit the group, or what becomes of it; return the jobs that have an outcome.

        Savepoints would cost as much as the writes. Instead, where a function fails after it has written something, all
        is rolled back and the others run again without it. Then nothing interrupts them: the one that failed is told
        together with them, and may be the last of many, whose end says that all before it are on disk.
        """
        ended: list[_Job] = []
        while group:
            try:
                self._run_group(group, interruptible=not ended)
            except _HalfDone as half_done:
                ended.append(half_done.job)
                group = [job for job in group if job is not half_done.job]
            except BaseException as error:
                for job in group:
                    job.error = error
                return ended + group
            else:
                break
        return ended + group

    def _run_group(self, group: list[_Job], *, interruptible: bool) -> None:
        """Run them in one transaction. Raises _HalfDone when one fails that has something to undo.

        Where the group is `interruptible`, what somebody waits for and is handed in meanwhile takes the place in it of
        what is patient.
        """
        with self._transaction():
            audited: list[bytes] = []
            place = 0
            while place < len(group):
                if interruptible and group[place].background and place >= _FEW and self._is_interrupted():
                    self._patient.extendleft(reversed(group[place:]))
                    group[place:] = _first(self._awaited, _GROUP)
                job, place = group[place], place + 1
                before = self._connection.total_changes
                if job.attempt(self._view):
                    audited += job.audited
                elif self._connection.total_changes != before:
                    raise _HalfDone(job)
            self._chain.append(self._cursor, audited)

    def _is_interrupted(self) -> bool:
        """Whether something has been handed in that somebody waits for."""
        self._take_in()
        return bool(self._awaited)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit at the end; roll back when something is raised."""
        before, cursor = self._chain.position, self._cursor
        cursor.execute("BEGIN IMMEDIATE")
        try:
            yield
            failpoint("store.before-commit")
            cursor.execute("COMMIT")
        except BaseException:
            self._chain.position = before
            if self._connection.in_transaction:
                cursor.execute("ROLLBACK")
            raise
        self.changes += 1
        failpoint("store.after-commit")


def _first(jobs: deque[_Job], count: int) -> list[_Job]:
    """Take the first of them, so many at most."""
    return [jobs.popleft() for _ in range(min(count, len(jobs)))]


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
