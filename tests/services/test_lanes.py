"""Whoever hangs delays nobody else: lanes take turns, and one that is full leaves room for others."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from certbroker.engine.lanes import Lanes
from certbroker.engine.watch import WatchSweep
from certbroker.services.revocation.sources import WatchSettings
from tests.support.wire import until

HOSTS = 8
EACH = 50


@dataclass(frozen=True)
class Due:
    url: str


class Sources:
    """Very many at hosts that hang until they are let go, and behind all of them one that answers."""

    def __init__(self) -> None:
        self.due = deque(Due(f"http://{host}.example/{number}") for host in range(HOSTS) for number in range(EACH))
        self.due.append(Due("http://well.example/"))
        self.let_go, self.answered = threading.Event(), threading.Event()
        self.begun: list[str] = []

    def claim(self, count: int) -> list[Due]:
        return [self.due.popleft() for _ in range(min(count, len(self.due)))]

    def put_off(self, source: Due) -> None:
        """It comes again later than this test lasts."""

    def fetch(self, source: Due) -> None:
        self.begun.append(source.url)
        if source.url == "http://well.example/":
            self.answered.set()
        else:
            self.let_go.wait(30)


class Watching:
    """Has nothing to judge."""

    def __init__(self, sources: Sources) -> None:
        self.sources, self.settings = sources, WatchSettings()

    def claim(self, count: int) -> list[object]:
        return []

    def go_through(self) -> int:
        return 0


@pytest.fixture
def sources() -> Iterator[Sources]:
    sources = Sources()
    yield sources
    sources.let_go.set()


def test_hosts_that_hang_delay_no_other_however_much_there_is_to_ask_them(sources: Sources) -> None:
    sweep = WatchSweep(Watching(sources))  # type: ignore[arg-type]  # as far as a sweep needs it
    try:
        for _ in range(10):
            sweep.sweep()
        answered, begun = sources.answered.wait(10), len(sources.begun)
    finally:
        sources.let_go.set()
        sweep.stop()

    assert answered
    assert begun <= 2 * HOSTS + 1


def test_lanes_take_turns_where_more_hang_than_there_are_threads() -> None:
    done: list[str] = []
    begun, let_go = threading.Event(), threading.Event()

    def work(item: str) -> None:
        begun.set()
        let_go.wait(30)
        done.append(item)
        if item == "a2":
            raise RuntimeError("It is in the log, and the lane goes on.")

    lanes: Lanes[str, str] = Lanes("test", work, threads=1, at_once=1, waiting=3)
    lanes.put("a", "a1")
    begun.wait(10)
    taken = [lanes.put(item[0], item) for item in ("a2", "a3", "a4", "a5", "b1", "b2")]
    waiting = len(lanes)
    let_go.set()
    until("all were done", lambda: len(done) == 6 or None)
    lanes.stop()

    assert [True, True, True, False, True, True] == taken
    assert 2 == waiting  # One of each lane is what a lane can have in hand.
    assert ["a1", "b1", "a2", "b2", "a3", "a4"] == done
