"""Waits that grow with every failure, and numbers that keep many who wait from coming at once."""

from __future__ import annotations

import hashlib
from datetime import timedelta


def doubled(first: timedelta, last: timedelta, failures: int) -> timedelta:
    """The wait after so many failures in a row: the first after one, twice as long after each further, and the last."""
    # More doublings than these reach any last wait that there is.
    return min(last, first * (1 << min(max(failures - 1, 0), 16)))


def fraction(*seed: str) -> float:
    """A number between 0 and 1 that belongs to the seed: always the same for one, and spread evenly over many."""
    digest = hashlib.sha256("\0".join(seed).encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)
