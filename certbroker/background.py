"""Work in the background, which lets what somebody waits for go first.

Python runs one thread at a time, and asks nobody which is to be next. A request needs the interpreter ten times over,
because every read of the database lets go of it; beside a dozen threads that compute it waits for all of them each
time. So the threads of the engine say that they are in the background. What they write comes after what requests
write, and few of them compute at a time: each takes a place for its work, and leaves it while it waits. Before they
read or write, they give way to requests that are being answered.

All of this is courtesy and locks nothing: who has waited for a place or for requests for long goes on, so that nothing
can stand still because of it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# One core less than there are, because the event loop has something to compute as well.
_places: Final = threading.Semaphore(max(1, (os.cpu_count() or 1) - 1))
# Seconds that a thread waits for a place.
_PATIENCE: Final = 0.1
# Seconds that a thread gives way to requests, and for which it does not again where there was no end of them.
_COURTESY: Final = 0.02
_HASTE: Final = 0.1
# Seconds from the last answer on in which the next request is expected: who has one thing done asks for the next.
_LINGER: Final = 0.003


class _Mine(threading.local):
    """Whether a thread is in the background, whether it works there, has a place for that, and has left it to wait;
    and until when it gives way to nobody.
    """

    background: bool = False
    working: bool = False
    placed: bool = False
    waiting: bool = False
    in_haste: float = 0.0


_mine = _Mine()


class _Answering:
    """Counts the requests that are being answered, on the event loop. `over` is set while there are none."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.over.set()
        self._count = 0
        self._lingering: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._count += 1
        self.over.clear()
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    def __exit__(self, *error: object) -> None:
        self._count -= 1
        if not self._count:
            self._lingering = asyncio.get_running_loop().call_later(_LINGER, self.over.set)


answering: Final = _Answering()
"""`with answering:` a request is answered, by the event loop and whoever works for it."""


def enter() -> None:
    """Let the calling thread be in the background from now on."""
    _mine.background = True


def is_here() -> bool:
    """Whether the calling thread is in the background."""
    return _mine.background


def give_way() -> None:
    """Let requests that are being answered go first, where the calling thread is in the background."""
    if not _mine.background or answering.over.is_set() or time.monotonic() < _mine.in_haste:
        return
    if not answering.over.wait(_COURTESY):
        _mine.in_haste = time.monotonic() + _HASTE


@contextmanager
def working() -> Iterator[None]:
    """Do something that computes, in a place, once there is one."""
    _mine.working, _mine.placed = True, _places.acquire(timeout=_PATIENCE)
    try:
        yield
    finally:
        if _mine.placed:
            _places.release()
        _mine.working = _mine.placed = False


@contextmanager
def waiting() -> Iterator[None]:
    """Leave the place to others while the calling thread waits for something else, if it has one."""
    if not _mine.working or _mine.waiting:
        yield
        return
    if _mine.placed:
        _places.release()
    _mine.waiting, _mine.placed = True, False
    try:
        yield
    finally:
        _mine.waiting, _mine.placed = False, _places.acquire(timeout=_PATIENCE)
