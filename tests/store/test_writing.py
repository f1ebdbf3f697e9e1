"""One writer: what is told to be written is, in groups or alone, and every change leaves its record."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certbroker import background
from certbroker.domain.access import Assignment
from certbroker.domain.audit import GENESIS, Caller, link, record
from certbroker.domain.errors import Conflict
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction
from tests.support.wire import until

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def _put(name: str, value: str = "v") -> Callable[[SQLTransaction], str]:
    def work(transaction: SQLTransaction) -> str:
        transaction.vaults.put_setting(name, value)
        transaction.audit(record(Caller("somebody", "Put"), NOW, f"/settings/{name}"))
        return value

    return work


def _fail(name: str) -> Callable[[SQLTransaction], None]:
    def work(transaction: SQLTransaction) -> None:
        _put(name)(transaction)
        raise Conflict("not this one")

    return work


def _chain(path: Path) -> list[tuple[str, int, bytes, bytes]]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT writer, seq, record, hash FROM audit ORDER BY writer, seq").fetchall()
    connection.close()
    return rows


def _check_chain(path: Path) -> int:
    """Walk every chain; return how many records there are."""
    expected: dict[str, tuple[int, bytes]] = {}
    for writer, sequence, encoded, digest in _chain(path):
        last, previous = expected.get(writer, (0, GENESIS))
        assert last + 1 == sequence
        assert link(previous, encoded) == digest
        expected[writer] = (sequence, digest)
    return sum(last for last, _ in expected.values())


def test_a_write_is_seen_by_the_next_read(store: SQLiteStore) -> None:
    assert "one" == store.write(_put("a", "one"))
    assert "one" == store.glance().vaults.setting("a")
    with store.read() as transaction:
        assert "one" == transaction.vaults.setting("a")


def test_what_fails_is_raised_and_leaves_nothing(store: SQLiteStore, database: Path) -> None:
    with pytest.raises(Conflict, match="not this one"):
        store.write(_fail("a"))

    assert store.glance().vaults.setting("a") is None
    assert 0 == _check_chain(database)


def test_one_failure_in_a_group_disturbs_nobody_else(store: SQLiteStore, database: Path) -> None:
    """The first write keeps the writer busy, so that the others come together."""
    started, go_on = threading.Event(), threading.Event()

    def slow(transaction: SQLTransaction) -> None:
        started.set()
        go_on.wait(10)

    with ThreadPoolExecutor(64) as pool:
        first = pool.submit(store.write, slow)
        started.wait(10)
        others = [pool.submit(store.write, _fail(f"n{n}") if n % 5 == 0 else _put(f"n{n}", str(n))) for n in range(60)]
        go_on.set()
        first.result()

    for number, other in enumerate(others):
        if number % 5 == 0:
            assert isinstance(other.exception(), Conflict)
            assert store.glance().vaults.setting(f"n{number}") is None
        else:
            assert str(number) == other.result() == store.glance().vaults.setting(f"n{number}")
    assert 48 == _check_chain(database)


class Order:
    """In which order the writer runs what it is given. Until `go` is set it is kept busy."""

    def __init__(self, store: SQLiteStore) -> None:
        self.store, self.go = store, threading.Event()
        self.ran: list[str] = []
        self._behind = ThreadPoolExecutor(64, initializer=background.enter)
        self._before = ThreadPoolExecutor(512)
        busy = threading.Event()

        def wait(transaction: SQLTransaction) -> None:
            busy.set()
            self.go.wait(60)

        self._before.submit(store.write, wait)
        assert busy.wait(30)

    def work(self, name: str, then: Callable[[], object] = lambda: None) -> Callable[[SQLTransaction], str]:
        def run(transaction: SQLTransaction) -> str:
            self.ran.append(name)
            then()
            return name

        return run

    def finish(self) -> None:
        self.go.set()
        self._behind.shutdown()
        self._before.shutdown()

    def awaited(self, name: str) -> Future[str]:
        return self._before.submit(self.store.write, self.work(name))

    def in_background(self, count: int, then: Callable[[], object] = lambda: None) -> Future[list[str | BaseException]]:
        works = [self.work(f"b{number}", then) for number in range(count)]
        return self._behind.submit(self.store.write_all, works)

    def queued(self, count: int) -> None:
        until("handed in", lambda: self.store._writer._jobs.qsize() >= count or None)


def test_what_somebody_waits_for_goes_before_what_the_engine_writes(store: SQLiteStore) -> None:
    order = Order(store)
    order.in_background(50)
    order.queued(50)
    order.awaited("a")
    order.queued(51)
    order.finish()

    assert ["a", *(f"b{number}" for number in range(50))] == order.ran


def test_what_somebody_waits_for_interrupts_a_group_and_nothing_is_lost(store: SQLiteStore) -> None:
    order = Order(store)
    came = threading.Event()

    def interrupt() -> None:
        if not came.is_set():
            came.set()
            order.awaited("a")
            order.queued(1)

    outcome = order.in_background(50, interrupt)
    order.queued(50)
    order.finish()

    assert [f"b{number}" for number in range(50)] == outcome.result()
    assert order.ran.index("a") <= 3
    assert sorted(["a", *(f"b{number}" for number in range(50))]) == sorted(order.ran)


def test_all_of_many_are_on_disk_when_they_are_answered_though_the_last_fails_and_the_others_are_interrupted(
    store: SQLiteStore,
) -> None:
    order, runs, answered = Order(store), Counter[int](), threading.Event()

    def work(number: int) -> Callable[[SQLTransaction], str]:
        def run(transaction: SQLTransaction) -> str:
            runs[number] += 1
            if (number, runs[number]) == (1, 2):  # They run again without the last.
                order.awaited("a")
                order.queued(1)
            if (number, runs[number]) == (2, 2):
                answered.wait(0.5)
            return (_fail if number == 5 else _put)(f"n{number}")(transaction) or ""

        return run

    def write() -> tuple[list[str | BaseException], list[str | None]]:
        outcome = store.write_all([work(number) for number in range(6)])
        stored = [store.glance().vaults.setting(f"n{number}") for number in range(6)]
        answered.set()
        return outcome, stored

    written = order._behind.submit(write)
    order.queued(6)
    order.finish()
    outcome, stored = written.result()

    assert ["v"] * 5 == outcome[:5] == stored[:5]
    assert isinstance(outcome[5], Conflict)
    assert stored[5] is None
    assert ["a"] == order.ran


def test_the_engine_is_not_starved_by_those_who_are_waited_for(store: SQLiteStore) -> None:
    order = Order(store)
    for number in range(400):
        order.awaited(f"a{number}")
    order.in_background(6)
    order.queued(406)
    order.finish()

    assert [128, 129] == [order.ran.index(name) for name in ("b0", "b1")]


def test_errors_of_the_database_end_the_one_write_only(store: SQLiteStore) -> None:
    def clash(transaction: SQLTransaction) -> None:
        for _ in range(2):
            transaction.identities.add_assignment(Assignment("a", "p", "r", "/", 0))

    with pytest.raises(sqlite3.IntegrityError):
        store.write(clash)
    assert [] == store.glance().identities.assignments()
    assert "v" == store.write(_put("after"))


def test_readers_cannot_write(store: SQLiteStore) -> None:
    with pytest.raises(sqlite3.OperationalError, match="write a readonly"):
        store.glance().vaults.put_setting("a", "b")


def test_a_read_sees_one_moment_while_others_write(store: SQLiteStore) -> None:
    store.write(_put("a", "before"))
    with store.read() as outer:
        assert "before" == outer.vaults.setting("a")
        thread = threading.Thread(target=lambda: store.write(_put("a", "after")))
        thread.start()
        thread.join()
        assert "before" == outer.vaults.setting("a")
        with store.read() as inner:
            assert "before" == inner.vaults.setting("a")

    assert "after" == store.glance().vaults.setting("a")


def test_closing_finishes_what_was_handed_in(database: Path) -> None:
    store = SQLiteStore(database, "first")
    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(store.write, _put(f"n{number}")) for number in range(40)]
        for write in writes:
            write.result()
    store.close()

    assert 40 == _check_chain(database)


def test_each_start_has_a_chain_of_its_own(database: Path) -> None:
    for writer in ("first", "second"):
        store = SQLiteStore(database, writer)
        store.write(_put("a"))
        store.close()

    assert ["first", "second"] == [row[0] for row in _chain(database)]
    assert 2 == _check_chain(database)


def test_a_changed_a_missing_and_a_moved_record_are_noticed(store: SQLiteStore, database: Path) -> None:
    for number in range(4):
        store.write(_put(f"n{number}"))
    store.close()
    for damage in (
        "UPDATE audit SET record = CAST(replace(record, 'somebody', 'nobody') AS BLOB) WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 2",
        "UPDATE audit SET hash = zeroblob(32) WHERE seq = 3",
    ):
        connection = sqlite3.connect(database)
        copy = database.with_name("damaged.db")
        copy.unlink(missing_ok=True)
        with sqlite3.connect(copy) as target:
            connection.backup(target)
            target.execute(damage)
        target.close()
        connection.close()
        with pytest.raises(AssertionError):
            _check_chain(copy)


SCRIPT = """
import sys
from certbroker.store.database import SQLiteStore
from pathlib import Path
store = SQLiteStore(Path(sys.argv[1]), "killed")
for number in range(10**6):
    store.write(lambda transaction: transaction.vaults.put_setting(f"n{number}", "v"))
    print(number, flush=True)
"""


def test_what_was_answered_survives_a_kill(database: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(database)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    answered = [int(process.stdout.readline()) for _ in range(50)]
    process.kill()
    answered += [int(line) for line in process.stdout.read().split()]
    process.stdout.close()
    process.wait()
    store = SQLiteStore(database, "after")

    assert [*range(len(answered))] == answered
    assert all(store.glance().vaults.setting(f"n{number}") == "v" for number in answered)
    store.close()
