"""Retry-After (RFC 9110 section 10.2.3), in both of its forms."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

SHORTEST: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(days=1)

_SECONDS: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)


def retry_after(value: str | None, now: datetime, server_date: str | None = None) -> timedelta | None:
    """How long to wait: between one second and one day, or None when nothing intelligible was asked for.

    `server_date` is the answer's Date header: a date is counted from it where it is given, so that neither our clock
    nor the server's has to be right, and from `now` otherwise. Longer waits are cut to a day, because a mistaken
    header must not put a certificate to sleep; whoever still means it will say so again.
    """
    if value is None:
        return None
    value = value.strip()
    if _SECONDS.fullmatch(value):
        # More digits than this are more than a day in any case, and int() of a long string costs.
        seconds = int(value) if len(value) <= 9 else -1 if value.startswith("-") else 10**9
        return max(SHORTEST, min(LONGEST, timedelta(seconds=seconds)))
    moment = http_date(value)
    if moment is None:
        return None
    return max(SHORTEST, min(LONGEST, moment - (http_date(server_date) or now)))


def http_date(text: str | None) -> datetime | None:
    """An HTTP-date (RFC 9110 section 5.6.7) as an aware time in UTC; without a zone it is UTC too."""
    if not text or len(text) > 64:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
