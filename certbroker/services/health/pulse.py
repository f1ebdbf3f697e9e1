"""Signs of life: when each part of the engine last did what it is there for.

They are in this process alone and measured by a clock that nobody sets, so that they hold when the database is full
and when the time of day jumps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Part(StrEnum):
    """A part of the engine that comes round by itself."""

    ISSUE = "issue"
    """Works on operations."""
    RENEW = "renew"
    """Looks after certificates."""
    REVOKE = "revoke"
    """Asks again for revocations that a CA has not answered."""
    DRILL = "drill"
    """Plans and performs the replacement of everything from one issuer."""
    PUBLISH = "publish"
    """Makes the CRLs and OCSP replies of private CAs."""
    DISCOVER = "discover"
    """Looks for certificates that nobody has told of."""
    WATCH = "watch"
    """Asks whether certificates are revoked, and judges them."""
    NOTIFY = "notify"
    """Delivers events."""
    PROBE = "probe"
    """Looks at the endpoints of certificates."""
    DEPLOY = "deploy"
    """Puts certificates where they are used."""
    ROTATE = "rotate"
    """Makes keys anew, and tells of their end."""
    BEAT = "beat"
    """Writes its mark into the database: the proof that it can be written."""


# Each comes round every second, the mark every 30 seconds. After so many without one that has succeeded something is
# wrong: a sweep that hangs, a database that takes nothing.
SILENCE: Final = {**dict.fromkeys(Part, 60.0), Part.BEAT: 120.0}


@dataclass(frozen=True, slots=True)
class Sign:
    """How a part is. `age` is seconds since its last success; `problem` is why it fails, if it does."""

    part: Part
    age: float
    problem: str = ""

    @property
    def is_fresh(self) -> bool:
        return self.age <= SILENCE[self.part]


class Pulse:
    """Keeps the signs. Until the engine starts there are none."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._at: dict[Part, float] = {}
        self._moved: dict[Part, float] = {}
        self._problems: dict[Part, str] = {}

    def start(self) -> None:
        """The engine starts: each part has the time that it may be silent for."""
        with self._lock:
            self._at = dict.fromkeys(Part, self._monotonic())
            self._moved = dict(self._at)
            self._problems.clear()

    def beat(self, part: Part) -> None:
        """The part has done what it is there for."""
        with self._lock:
            self._at[part] = self._moved[part] = self._monotonic()
            self._problems.pop(part, None)

    def stumble(self, part: Part, problem: str) -> None:
        """The part could not do it."""
        with self._lock:
            self._moved[part] = self._monotonic()
            self._problems[part] = problem

    def signs(self) -> tuple[Sign, ...]:
        """How every part is; none before the start."""
        with self._lock:
            now = self._monotonic()
            return tuple(Sign(part, now - at, self._problems.get(part, "")) for part, at in self._at.items())

    @property
    def is_fresh(self) -> bool:
        """Whether the engine has started and every part is well."""
        signs = self.signs()
        return bool(signs) and all(sign.is_fresh for sign in signs)

    @property
    def is_moving(self) -> bool:
        """Whether no part hangs: each has come round of late, if only to fail. True before the start."""
        with self._lock:
            now = self._monotonic()
            return all(now - at <= SILENCE[part] for part, at in self._moved.items())
