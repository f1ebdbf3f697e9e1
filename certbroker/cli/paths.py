"""Where things are in the API: paths out of names as people type them."""

from __future__ import annotations

from typing import Final, NewType
from urllib.parse import quote

Place = NewType("Place", str)
"""A path that `at` has put together, and nothing else: in any other a name could lead to something else."""

# They would be taken out of a path with what stands before them (RFC 3986 section 5.2.4), so they go as `%2E`.
_DOTS: Final = (".", "..")


def at(*segments: str) -> Place:
    """The path to what has these names. Whatever is in a name is a part of that name: `#`, `?`, `/` and `..` too."""
    return Place("".join(f"/{_segment(each)}" for each in segments))


def within(place: Place, *segments: str) -> Place:
    """The path to what has these names within something else."""
    return Place(place + at(*segments))


def _segment(name: str) -> str:
    # What is no UTF-8 on the command line goes as it was typed.
    return name.replace(".", "%2E") if name in _DOTS else quote(name, safe="", errors="surrogateescape")
