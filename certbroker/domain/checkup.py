"""What a look at the broker and its surroundings has found, for the person who asked for it."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Grade(StrEnum):
    """How something is."""

    OK = "ok"
    WARN = "warn"
    """It works, or it could not be told from here."""
    FAIL = "fail"


class Checked(Struct, frozen=True):
    """One thing that was looked at. `advice` says what to do, where there is something."""

    what: str
    grade: Grade
    detail: str
    advice: str = ""


def ok(what: str, detail: str) -> Checked:
    """It is well."""
    return Checked(what, Grade.OK, detail)


def warn(what: str, detail: str, advice: str = "") -> Checked:
    """It may become a problem, or cannot be told."""
    return Checked(what, Grade.WARN, detail, advice)


def fail(what: str, detail: str, advice: str = "") -> Checked:
    """It does not work."""
    return Checked(what, Grade.FAIL, detail, advice)
