"""Channels: the ways to tell somebody what happens in a vault, and how deliveries through them have gone."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from certbroker.domain.backoff import doubled
from certbroker.domain.records import Identity, SealedBytes

# The channel that a vault has by having contacts, and its kind.
CONTACTS: Final = "contacts"

EVERYTHING: Final = "*"

# In a vault; the one that it has by having contacts may be one more.
MOST_CHANNELS: Final = 50

FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(minutes=5)

# What a target asks for is obeyed up to this.
LONGEST_REQUESTED: Final = timedelta(days=1)


class Outcome(StrEnum):
    """How the delivery of an event has ended."""

    DELIVERED = "delivered"
    DROPPED = "dropped"
    """There was nothing to tell any more."""
    DEAD = "dead"
    """It could not be delivered; somebody may have it tried again."""


class Lane(IntEnum):
    """How far a channel can be trusted not to hang. Each lane has threads of its own."""

    PROVEN = 0
    NEW = 1
    FAILING = 2


class Health(Struct, frozen=True):
    """How deliveries have gone. `failures` counts those in a row that were the target's fault.

    `confirmed` says whether the target has agreed to be told, with the settings of now. `reason` is for people.
    """

    confirmed: bool = False
    last_success: datetime | None = None
    failing_since: datetime | None = None
    failures: int = 0
    reason: str = ""

    @property
    def lane(self) -> Lane:
        if self.failures:
            return Lane.FAILING
        return Lane.NEW if self.last_success is None else Lane.PROVEN

    def succeeded(self, now: datetime, note: str = "") -> Health:
        return replace(self, last_success=now, failing_since=None, failures=0, reason=note)

    def refused(self, now: datetime, reason: str) -> Health:
        """The target is there, and would not have what it was sent."""
        return replace(self, failing_since=self.failing_since or now, failures=0, reason=reason)

    def failed(self, now: datetime, reason: str) -> Health:
        """The target could not be told at all."""
        return replace(self, failing_since=self.failing_since or now, failures=self.failures + 1, reason=reason)


class Channel(Struct, frozen=True):
    """A way to tell somebody. `settings` can be shown; of the secrets, which are sealed, only the names.

    `events` are the types that are wanted, or `*` alone. Times in Unix seconds. `fence` counts the owners it has had.
    """

    vault_id: int
    name: str
    kind: str
    settings: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    events: tuple[str, ...] = (EVERYTHING,)
    enabled: bool = True
    health: Health = Health()
    created: int = 0
    updated: int = 0
    sealed: SealedBytes | None = None
    fence: int = 0

    @property
    def identity(self) -> Identity:
        """What its sealed secrets belong to."""
        return Identity(self.vault_id, "channel", self.name, "secret")


def pause(failures: int, requested: timedelta | None, spread: float) -> timedelta:
    """How long to wait after so many failures in a row; `spread`, from 0 to 1, keeps many channels from meeting.

    What the target has asked for is the least.
    """
    own = doubled(FIRST_PAUSE, LONGEST_PAUSE, failures) * (0.8 + 0.4 * spread)
    return max(own, min(requested, LONGEST_REQUESTED)) if requested else own
