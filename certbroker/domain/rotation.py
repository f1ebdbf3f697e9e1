"""When a key is made anew, and when people are told of its end: the rotation policy of a key.

A version is rotated so long after it was made, or so long before it expires. Everything here is pure.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct

from certbroker.domain.durations import Duration
from certbroker.domain.errors import Invalid
from certbroker.domain.objects import Attributes

_SHORTEST_LIFE: Final = timedelta(days=28)
_SHORTEST_PAUSE: Final = timedelta(days=7)

# The latest time that a calendar has; versions may expire later, which is never.
_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


class RotationPolicy(Struct, frozen=True):
    """What happens to the current version of a key, and how long the next one lives. Times in Unix seconds.

    It is rotated `rotate_after` its creation or `rotate_before` its end, and people are told `notify_before` its end.
    """

    rotate_after: Duration | None = None
    rotate_before: Duration | None = None
    notify_before: Duration | None = None
    expiry: Duration | None = None
    created: int = 0
    updated: int = 0

    def check(self) -> None:
        """Raise Invalid where it contradicts itself, or asks for something too often."""
        if self.expiry is not None and self.expiry.shortest < _SHORTEST_LIFE:
            raise Invalid(f"attributes.expiryTime {self.expiry.text!r} is too short: a key lives for 28 days at least.")
        if self.rotate_after is not None and self.rotate_after.shortest < _SHORTEST_PAUSE:
            raise Invalid("trigger.timeAfterCreate is 7 days at least.")
        if self.rotate_before is not None and self.expiry is None:
            raise Invalid("To rotate by trigger.timeBeforeExpiry needs attributes.expiryTime: set it.")
        for before in (self.rotate_before, self.notify_before):
            if before is not None and before.shortest < _SHORTEST_PAUSE:
                raise Invalid("trigger.timeBeforeExpiry is 7 days at least.")
            if (
                before is not None
                and self.expiry is not None
                and self.expiry.shortest - before.longest < _SHORTEST_PAUSE
            ):
                raise Invalid("trigger.timeBeforeExpiry would be less than 7 days after the key was made.")
        if (
            self.rotate_after is not None
            and self.expiry is not None
            and self.expiry.shortest - self.rotate_after.longest < _SHORTEST_PAUSE
        ):
            raise Invalid("trigger.timeAfterCreate would be less than 7 days before the end of the key.")


DEFAULT: Final = RotationPolicy(notify_before=Duration("P30D", 0, 30))
"""What holds for a key whose owner has set no policy."""


class Deed(StrEnum):
    """What is due for a version of a key."""

    ROTATE = "rotate"
    TELL_OF_END = "near"
    TELL_IT_ENDED = "expired"


class Due(Struct, frozen=True):
    """What is to be done about a version, and when. Earliest first, of two at the same time what helps more."""

    deed: Deed
    at: datetime


def next_due(policy: RotationPolicy, life: Attributes, told: Deed | None, now: datetime) -> Due | None:
    """What comes next for the current version; None when that is nothing.

    `told` is what people have been told of it. A version that is switched off is not rotated. A version that is made
    with less left than people are told before its end is told of when it ends.
    """
    created = datetime.fromtimestamp(life.created, UTC)
    ends = None
    if life.expires is not None and life.expires <= _LATEST:
        ends = datetime.fromtimestamp(life.expires, UTC)
    found = []
    if life.enabled and policy.rotate_after is not None:
        found.append(Due(Deed.ROTATE, policy.rotate_after.after(created)))
    if life.enabled and policy.rotate_before is not None and ends is not None:
        found.append(Due(Deed.ROTATE, policy.rotate_before.before(ends)))
    if ends is not None and told is None and policy.notify_before is not None:
        near = policy.notify_before.before(ends)
        if near > created and ends > now:
            found.append(Due(Deed.TELL_OF_END, near))
    if ends is not None and told is not Deed.TELL_IT_ENDED:
        found.append(Due(Deed.TELL_IT_ENDED, ends))
    return min(found, key=lambda due: due.at, default=None)
