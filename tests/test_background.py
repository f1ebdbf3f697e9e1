"""Threads in the background leave room for what somebody waits for, and never stand still because of it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from certbroker import background

FEW = max(1, (os.cpu_count() or 1) - 1)


def _together(count: int, work: Callable[[], None]) -> tuple[int, float]:
    """How many of the threads were inside at the same time at most, and what all of them took, in seconds."""
    inside, most, lock = 0, 0, threading.Lock()

    def count_me() -> None:
        nonlocal inside, most
        with background.working():
            with lock:
                inside += 1
                most = max(most, inside)
            work()
            with lock:
                inside -= 1

    started = time.monotonic()
    with ThreadPoolExecutor(count, initializer=background.enter) as threads:
        for each in [threads.submit(count_me) for _ in range(count)]:
            each.result()
    return most, time.monotonic() - started


def test_few_compute_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_PATIENCE", 10)
    most, _ = _together(8 * FEW, lambda: time.sleep(0.005))

    assert FEW == most


def test_who_waits_leaves_the_place_to_others() -> None:
    everybody = threading.Barrier(8 * FEW)

    def wait() -> None:
        with background.waiting():
            everybody.wait(10)

    most, _ = _together(8 * FEW, wait)

    assert 8 * FEW == most


def test_who_waits_within_a_wait_takes_one_place_and_gives_it_back() -> None:
    def wait() -> None:
        with background.waiting(), background.waiting():
            pass

    for _ in range(4):
        _together(4 * FEW, wait)

    assert FEW == background._places._value


def test_who_hogs_a_place_holds_nobody_up_for_long() -> None:
    everybody = threading.Barrier(4 * FEW)

    _, seconds = _together(4 * FEW, lambda: everybody.wait(10) and None)

    assert seconds < 5


def test_only_threads_that_say_so_are_in_the_background() -> None:
    with ThreadPoolExecutor(1, initializer=background.enter) as threads:
        assert threads.submit(background.is_here).result()
    assert not background.is_here()
    with background.waiting():
        pass


def test_requests_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_COURTESY", 10)

    async def answer(threads: ThreadPoolExecutor) -> list[str]:
        done: list[str] = []
        with background.answering:
            with background.answering:
                giving_way = threads.submit(lambda: (background.give_way(), done.append("background")))
            await asyncio.sleep(0.05)
            background.give_way()  # This thread is not in the background.
            done.append("request")
        await asyncio.wrap_future(giving_way)
        return done

    with ThreadPoolExecutor(1, initializer=background.enter) as threads:
        assert asyncio.run(answer(threads)) == ["request", "background"]


def test_who_gives_way_to_requests_in_vain_is_in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_COURTESY", 0.1)
    monkeypatch.setattr(background, "_HASTE", 60)

    def give_way_often() -> float:
        started = time.monotonic()
        for _ in range(100):
            background.give_way()
        return time.monotonic() - started

    async def answer_for_ever(threads: ThreadPoolExecutor) -> float:
        with background.answering:
            return await asyncio.wrap_future(threads.submit(give_way_often))

    with ThreadPoolExecutor(1, initializer=background.enter) as threads:
        assert 0.1 <= asyncio.run(answer_for_ever(threads)) < 5
