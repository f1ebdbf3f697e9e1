"""Whether certificates are revoked, as far as anybody says so.

A certificate is judged together with the certificates of its issuers. For each of them there are sources, CRLs and
OCSP responders; `combined` walks an ordered list of small checks over what these say, and `Verdict.worst` is what the
certificate as a whole comes to. Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

from msgspec import Struct


class Standing(StrEnum):
    """How a certificate stands."""

    GOOD = "Good"
    """A source that covers it says, as of now, that it is not revoked."""
    REVOKED = "Revoked"
    ON_HOLD = "OnHold"
    """Revoked with the reason certificateHold, which may be taken back."""
    UNKNOWN = "Unknown"
    """Whoever should know it does not."""
    UNREACHABLE = "Unreachable"
    """What its sources have said is too old, and they cannot be asked."""
    UNCHECKED = "Unchecked"
    """Its sources have not been asked yet."""
    NOT_COVERED = "NotCovered"
    """Nobody says anything about it: it names no source, or none that is about it."""


class Answer(Struct, frozen=True):
    """What one source says of one certificate, or all of them together. `source` is a URL.

    `at` is when it was revoked, or as of when it was not; `reason` is the CRLReason by name; `problem` is a sentence.
    """

    standing: Standing
    source: str = ""
    at: datetime | None = None
    reason: str = ""
    problem: str = ""
    since: datetime | None = None


class Judged(Struct, frozen=True):
    """One certificate of a chain and what is known of it. `sha256` is its own."""

    sha256: str
    subject: str
    serial: str
    is_leaf: bool
    answer: Answer


class Verdict(Struct, frozen=True):
    """A certificate with those of its issuers, the end entity's first."""

    judged: tuple[Judged, ...] = ()

    @property
    def worst(self) -> Judged | None:
        """The one that decides: the first in the worst standing."""
        return min(self.judged, key=lambda each: _WORST.index(each.answer.standing), default=None)

    @property
    def deciding(self) -> Judged | None:
        """The one whose standing is that of the whole: the worst, or the certificate itself where nothing is bad."""
        worst = self.worst
        return self.judged[0] if worst is not None and worst.answer.standing is Standing.GOOD else worst

    @property
    def standing(self) -> Standing:
        return Standing.NOT_COVERED if self.deciding is None else self.deciding.answer.standing


class Watched(Struct, frozen=True):
    """What is remembered between two checks of a certificate. `version` is the one that the verdict is about.

    `replaced_for` are the SHA-256 of issuers' certificates for whose revocation a successor was already made: it may
    have the same issuer, and then another would be no better.
    """

    version: str = ""
    verdict: Verdict = Verdict()
    checked: datetime | None = None
    replaced_for: tuple[str, ...] = ()


_WORST: Final = (
    Standing.REVOKED,
    Standing.ON_HOLD,
    Standing.UNREACHABLE,
    Standing.UNKNOWN,
    Standing.UNCHECKED,
    Standing.GOOD,
    Standing.NOT_COVERED,
)


def kept(before: Judged | None, now: Answer) -> Answer:
    """What is said now, unless it was said before that the certificate is revoked: that is for ever.

    What was on hold is so until a source says again that it is good (RFC 5280 section 5.3.1).
    """
    if before is None or now.standing is Standing.REVOKED:
        return now
    if before.answer.standing is Standing.REVOKED:
        return before.answer
    held = before.answer.standing is Standing.ON_HOLD and now.standing is not Standing.GOOD
    return before.answer if held else now


Check = Callable[[Sequence[Answer]], Answer | None]


def combined(answers: Sequence[Answer]) -> Answer:
    """What several sources say of one certificate together: the answer of the first check that has one."""
    for check in _CHECKS:
        answer = check(answers)
        if answer is not None:
            return answer
    return Answer(Standing.NOT_COVERED, problem="The certificate names nobody who says whether it is revoked.")


def _first(standing: Standing) -> Check:
    """The answer of the first source with that standing."""
    return lambda answers: next((answer for answer in answers if answer.standing is standing), None)


_CHECKS: Final[tuple[Check, ...]] = (
    _first(Standing.REVOKED),  # Whatever others say: nobody revokes by mistake and goes on saying so.
    _first(Standing.ON_HOLD),
    _first(Standing.GOOD),
    _first(Standing.UNKNOWN),
    _first(Standing.UNREACHABLE),
    _first(Standing.UNCHECKED),
    _first(Standing.NOT_COVERED),
)


def told(judged: Judged) -> str:
    """The standing of a certificate in a sentence, for people."""
    answer = judged.answer
    what = "The certificate" if judged.is_leaf else f"The certificate of its issuer {judged.subject}"
    match answer.standing:
        case Standing.REVOKED:
            return f"{what} was revoked {_when(answer.at)} ({answer.reason}), says {answer.source}."
        case Standing.ON_HOLD:
            return f"{what} is on hold since {_when(answer.at)}, says {answer.source}; that may be taken back."
        case Standing.GOOD:
            return f"{what} is not revoked, says {answer.source} as of {_when(answer.at)}."
        case Standing.UNCHECKED:
            return f"{what} has not been checked yet."
        case Standing.UNKNOWN | Standing.UNREACHABLE | Standing.NOT_COVERED:
            return f"{what}: {answer.problem}"


def _when(moment: datetime | None) -> str:
    return "at an unknown time" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
