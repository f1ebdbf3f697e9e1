"""Reading: each thread on a connection of its own, beside the writer."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from certbroker import background
from certbroker.store.transaction import SQLTransaction

# How long the event loop's view of the database is kept at most, in seconds: as long as it is, the write-ahead log
# cannot be reused.
_HOLD: Final = 1.0

# How many results of queries are kept with it. A secret has at most 25 KB.
_REMEMBERED: Final = 1024

# SQLite's cache for each connection, in KiB. There is one connection for each thread, and threads are many; the event
# loop's thread makes most of the reads.
_THREAD_CACHE: Final = 256
_LOOP_CACHE: Final = 4096

T = TypeVar("T")
Query = Callable[[SQLTransaction], T]


class ThreadReader:
    """Reads of one thread. One in the background gives way to requests before it begins to read."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = connection.cursor()
        self._transaction = SQLTransaction(self._cursor)
        self._depth = 0

    def glance(self) -> SQLTransaction:
        """For a single statement: what is committed now."""
        background.give_way()
        return self._transaction

    def recall(self, key: Hashable, query: Query[T]) -> T:
        """What the query finds now."""
        return query(self.glance())

    @contextmanager
    def read(self) -> Iterator[SQLTransaction]:
        """One consistent view for several statements; nested calls share it."""
        if self._depth == 0:
            background.give_way()
            self._cursor.execute("BEGIN")
        self._depth += 1
        try:
            yield self._transaction
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._cursor.execute("COMMIT")


class LoopReader:
    """Reads of the thread that runs the event loop, as quick as they can be.

    A statement outside of a transaction takes and gives back SQLite's locks, by system calls that cost more than the
    query, and during each the interpreter goes to another thread. So this thread keeps a transaction open, and what
    it has found, until something has changed, which `changes` tells: only this process writes.
    """

    def __init__(
        self, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop, changes: Callable[[], int]
    ) -> None:
        self._cursor = connection.cursor()
        self._transaction = SQLTransaction(self._cursor)
        self._loop = loop
        self._changes = changes
        self._seen: int | None = None
        self._let_go: asyncio.TimerHandle | None = None
        self._found: dict[Hashable, Any] = {}

    def glance(self) -> SQLTransaction:
        """What is committed now."""
        changes = self._changes()
        if self._seen != changes:
            self.release()
            self._cursor.execute("BEGIN")
            self._seen = changes
            self._let_go = self._loop.call_later(_HOLD, self.release)
        return self._transaction

    def recall(self, key: Hashable, query: Query[T]) -> T:
        """What the query finds now; `key` stands for it, so that it is run once for as long as nothing changes."""
        transaction = self.glance()
        found = self._found.get(key)
        if found is None:
            found = query(transaction)
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[key] = found
        remembered: T = found
        return remembered

    @contextmanager
    def read(self) -> Iterator[SQLTransaction]:
        """One consistent view for several statements, as nothing else runs on this thread meanwhile."""
        yield self.glance()

    def release(self) -> None:
        """Let go of the view."""
        if self._let_go is not None:
            self._let_go.cancel()
            self._let_go = None
            self._seen = None
            self._found.clear()
            self._cursor.execute("COMMIT")


class Readers:
    """The reader of each thread."""

    def __init__(self, connect: Callable[[int], sqlite3.Connection], changes: Callable[[], int]) -> None:
        self._connect = connect
        self._changes = changes
        self._local = threading.local()

    def mine(self) -> ThreadReader | LoopReader:
        """The reader of the calling thread."""
        reader: ThreadReader | LoopReader | None = getattr(self._local, "reader", None)
        if reader is None:
            self._local.reader = reader = ThreadReader(self._connect(_THREAD_CACHE))
        return reader

    @contextmanager
    def on_this_loop(self) -> Iterator[None]:
        """While it lasts, the calling thread reads as the one that runs the event loop."""
        self._local.reader = reader = LoopReader(self._connect(_LOOP_CACHE), asyncio.get_running_loop(), self._changes)
        try:
            yield
        finally:
            reader.release()
            self._local.reader = None
