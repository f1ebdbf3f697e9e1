"""What a private CA publishes about its certificates, and when it is published anew."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from certbroker.domain.backoff import fraction

# At the latest after so long every CA is looked at, whatever was planned: a clock may have been wrong when it was.
LONGEST_WAIT: Final = timedelta(hours=1)

# Caches keep what they have for so long at most, so that a revocation is seen everywhere soon after.
_FRESH: Final = timedelta(hours=1)

# A list may be made anew for every revocation while that costs little. Making a megabyte takes some 60 ms.
_BYTES_PER_SECOND: Final = 1 << 20


class RevocationList(Struct, frozen=True):
    """The newest CRL of a shard. `sha256` names its content; it is None, and so are the times, before the first.

    `act_at` is when the next one is due; `fence` counts the revocations that have made it due. `partial` is whether it
    says of itself that it does not have all revocations of its issuer.
    """

    authority: str
    shard: int
    number: int
    sha256: str | None
    size: int
    this_update: datetime | None
    next_update: datetime | None
    act_at: datetime
    fence: int
    partial: bool = False

    @property
    def pause(self) -> timedelta:
        """How long there is none after this one: the more, the longer it is."""
        return timedelta(seconds=self.size // _BYTES_PER_SECOND)

    def is_due(self, now: datetime, longest: timedelta) -> bool:
        """Whether another one is to be made. `longest` is the longest time between two: what is planned for later, or
        was made later than now, comes from a clock that has been set back.
        """
        if self.this_update is None or self.this_update > now or self.act_at > now + longest:
            return True
        return self.act_at <= now and self.this_update + self.pause <= now


class StatusReply(Struct, frozen=True):
    """The OCSP replies about one certificate that are published, by the hash that names it.

    `act_at` is when the next ones are due.
    """

    this_update: datetime
    next_update: datetime
    act_at: datetime
    by_hash: dict[str, bytes]


class DueReply(Struct, frozen=True):
    """A certificate about which replies are to be signed. Times in Unix seconds; `revoked` is None while it is good.

    `not_after` is None where the CA's ledger has no such certificate any more.
    """

    serial: str
    fence: int
    not_after: int | None
    revoked: int | None
    reason: int | None


class PublishingProblem(Struct, frozen=True):
    """Why a CA cannot publish, since when, and how often it has tried."""

    authority: str
    since: datetime
    failures: int
    problem: str


class PublishingState(Struct, frozen=True):
    """How a CA stands with what it publishes: until when the first of its CRLs holds, or None where one was never made;
    and why it cannot publish, if it cannot.
    """

    vault_id: int
    name: str
    lists: int
    next_update: datetime | None
    since: datetime | None
    problem: str | None


def renewed_at(seed: str, now: datetime, next_update: datetime) -> datetime:
    """When the next one is due: after two fifths to a half of the time, by the seed, so that not all come at once."""
    return now + (next_update - now) * (0.4 + 0.1 * fraction(seed))


def fresh_for(next_update: datetime, now: datetime) -> int:
    """For how many seconds a cache may keep something without asking; 0 for what has passed its time."""
    return max(0, int(min(_FRESH, next_update - now).total_seconds()))
