"""How long to wait before looking again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

FIRST: Final = timedelta(milliseconds=75)
LONGEST: Final = timedelta(seconds=30)


def pause_after(since: datetime | None, now: datetime, asked: timedelta | None = None) -> timedelta:
    """What the CA `asked` for, or else half of the time that has passed `since` we started to wait.

    So the pauses grow by a half each time, without anybody counting them: the journal is not written at a poll. A clock
    that jumped gives one of the bounds, 75 ms and 30 s.
    """
    if asked is not None:
        return asked
    return FIRST if since is None else max(FIRST, min(LONGEST, (now - since) / 2))


def stamp(now: datetime) -> str:
    """A moment as text for the journal."""
    return now.isoformat()


def stamped(text: str | None) -> datetime | None:
    """The moment that `stamp` wrote."""
    return datetime.fromisoformat(text) if text else None
