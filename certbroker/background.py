"""Work in the background, which lets what somebody waits for go first.

Python runs one thread at a time, and asks nobody which is to be next. A request needs the interpreter ten times over,
because every read of the database lets go of it; beside a dozen threads that compute it waits for all of them each
time. So the threads of the engine say that they are in the background. What they write comes after what requests
write, and few of them compute at a time: each takes a place for its work, and leaves it while it waits.

A place is a courtesy and no lock: who has waited for one for long goes on without, so that nothing can stand still
because of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# One core less than there are, because the event loop has something to compute as well.
_places: Final = threading.Semaphore(max(1, (os.cpu_count() or 1) - 1))
# Seconds.
_PATIENCE: Final = 0.1


class _Mine(threading.local):
    """Whether a thread is in the background, whether it works there, has a place for that, and has left it to wait."""

    background: bool = False
    working: bool = False
    placed: bool = False
    waiting: bool = False


_mine = _Mine()


def enter() -> None:
    """Let the calling thread be in the background from now on."""
    _mine.background = True


def is_here() -> bool:
    """Whether the calling thread is in the background."""
    return _mine.background


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
