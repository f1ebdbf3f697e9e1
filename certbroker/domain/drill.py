"""The replacement of everything from one issuer: what is known of it, and of each certificate in it.

A drill is planned first: every certificate of the issuer is looked at, and what stands in the way of its replacement is
noted, with when it would be done. One that is to be performed then asks for the replacements, so many at a time, and
watches until there is nothing left that a machine can do.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct, field

# Within these a public CA revokes a certificate after it has learnt of a reason, the shorter one where the key is
# compromised or control over the names was not proved (TLS Baseline Requirements, section 4.9.1.1).
SHORT_DEADLINE: Final = timedelta(days=1)
LONG_DEADLINE: Final = timedelta(days=5)

# How many may be in the making at the same time.
MOST_AT_ONCE: Final = 10_000
AT_ONCE: Final = 500


class Stage(StrEnum):
    """How far a drill is."""

    PLANNING = "planning"
    REPLACING = "replacing"
    PLANNED = "planned"
    """The end, where it was to be simulated only."""
    DONE = "done"
    STOPPED = "stopped"

    @property
    def is_over(self) -> bool:
        return self in (Stage.PLANNED, Stage.DONE, Stage.STOPPED)


class Fate(StrEnum):
    """What has become of a certificate in a drill."""

    READY = "ready"
    """It can be replaced, and that has not been asked for."""
    ASKED = "asked"
    """A new version is being made, or about to be."""
    FAILING = "failing"
    """Its renewal has failed and is tried again."""
    REPLACED = "replaced"
    PERSON = "person"
    """No machine can replace it."""


class Standby(Struct, frozen=True):
    """An issuer that stands in for the one that is to make the new versions, for so many certificates."""

    vault_id: int
    issuer: str
    state: str
    certificates: int


class Plan(Struct, frozen=True):
    """What the look at all certificates has brought together.

    `each` is how long one takes at its issuer in seconds, and `measured` says of how many that is known. `kinds` counts
    what is worth knowing of certificates; `limits` are sentences about what holds them back.
    """

    each: float = 0.0
    measured: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    standby: tuple[Standby, ...] = ()
    limits: tuple[str, ...] = ()


class Drill(Struct, frozen=True):
    """The replacement of everything from one issuer, in one vault or in all.

    `batch` is how many may be in the making at the same time. `act_at` is when it is worked on next, None when it is
    over; `fence` counts who has.
    """

    id: str
    vault_id: int | None
    issuer: str
    perform: bool
    reason: str
    new_key: bool
    batch: int
    stage: Stage
    started: datetime
    planned: datetime | None = None
    ended: datetime | None = None
    plan: Plan = Plan()
    act_at: datetime | None = None
    fence: int = 0


class Replacement(Struct, frozen=True):
    """A certificate in a drill. `expected` is when it would be replaced; `at` is when that was last looked at."""

    vault_id: int
    name: str
    version: str
    fate: Fate
    reason: str = ""
    expected: datetime | None = None
    at: datetime | None = None


class Progress(Struct, frozen=True):
    """How many certificates have each fate, how many come too late, and when the last is expected."""

    counts: dict[Fate, int]
    after_short: int = 0
    after_long: int = 0
    last: datetime | None = None
    last_replaced: datetime | None = None

    @property
    def total(self) -> int:
        return sum(self.counts.values())
