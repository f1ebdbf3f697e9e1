"""Rate budgets: what a CA allows in a time, and whether one more order fits.

A budget is a bucket of `burst` places that empties continuously, one place in `every` (the generic cell rate algorithm,
which is how Let's Encrypt counts). All that is remembered is `full_at`, the moment at which it will be whole again,
and how many orders in progress will take a place if a certificate comes of them. Two things follow:

- In any time no more is taken than `burst` and what came back meanwhile, whatever is asked for and in which order.
- A clock that goes back never gives anything back, and locks nobody out for longer than the limit's period: a bucket is
  never emptier than empty. A clock that goes forward would give back what the time that it pretends to have passed
  does; the governor moves levels along with it.

A hold is the CA's own word that it wants to be left alone: it binds everybody, whatever is left of a budget.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

# Of the orders that an account may make, one in five is kept for renewals, so that new names cannot starve them.
KEPT_FOR_RENEWALS: Final = 5

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SOON: Final = timedelta(seconds=1)
_LONGEST_SPREAD: Final = timedelta(minutes=5)

# No pause that a CA asks for is taken for longer than a day, so what seems to last longer was set by a clock that was
# ahead, and binds nobody.
_LONGEST_HOLD: Final = timedelta(days=2)


class Limit(Struct, frozen=True):
    """At most `burst` at once; each place comes back after `every`."""

    burst: int
    every: timedelta

    @property
    def period(self) -> timedelta:
        """How long an empty budget takes to be whole again."""
        return self.burst * self.every


def limit(count: int, period: timedelta) -> Limit:
    """So many in a time, refilled continuously."""
    return Limit(count, period / count)


class Limits(Struct, frozen=True):
    """What a CA allows. None stands for what it does not limit."""

    orders: Limit | None = None
    """New orders by one account."""
    domain: Limit | None = None
    """Certificates for one registered domain, one IPv4 address or one IPv6 /64, by all accounts together."""
    names: Limit | None = None
    """Certificates for exactly the same names, by all accounts together."""
    failures: Limit | None = None
    """Failed validations of one name by one account."""
    consecutive: Limit | None = None
    """Failed validations of one name by one account without a success between them."""
    exempts_renewals: bool = False
    """Whether orders that name the certificate that they replace (RFC 9773 section 5) count nowhere, and other renewals
    for the same names only as certificates for exactly these.
    """


class Scope(StrEnum):
    """What a bucket counts for, or what a hold is put on."""

    CA = "ca"
    ACCOUNT = "account"
    DOMAIN = "domain"
    NAMES = "names"
    NAME = "name"
    CONSECUTIVE = "consecutive"
    RENEWAL = "renewal"


class Bucket(Struct, frozen=True):
    """Which bucket: of which CA, of what sort, and whose."""

    ca: str
    scope: Scope
    subject: str


class Level(Struct, frozen=True):
    """What is remembered of a bucket."""

    full_at: datetime = _EPOCH
    reserved: int = 0
    """Places that orders in progress will take if a certificate comes of them."""
    held_until: datetime = _EPOCH
    reason: str | None = None
    """Why it is held, in the CA's words."""

    def is_held(self, now: datetime) -> bool:
        """Whether the CA wants to be left alone at the moment."""
        return now < self.held_until <= now + _LONGEST_HOLD


WHOLE: Final = Level()
UNLIMITED: Final = Limits()


class Standing(Enum):
    """What an order is to the CA."""

    NEW = "new"
    RENEWAL = "renewal"
    """For exactly the names of the certificate before it."""
    REPLACEMENT = "replacement"
    """It names the certificate that it replaces (RFC 9773 section 5)."""


class PlannedOrder(Struct, frozen=True):
    """An order that is about to be made. `operation_id`, `step` and `ca` name it; one takes its place only once."""

    operation_id: str
    step: str
    ca: str
    """URL of the CA's directory."""
    account: str
    """URL of the account."""
    names: tuple[str, ...]
    """DNS names and addresses, in lower case, each once."""
    standing: Standing = Standing.NEW


class Take(Enum):
    """When a place is taken."""

    NEVER = "never"
    NOW = "now"
    WHEN_ISSUED = "when issued"


class Claim(Struct, frozen=True):
    """What an order wants of one bucket. `kept` places are not for it; it is refused only where it is `bound`."""

    bucket: Bucket
    what: str
    """What is counted, as `{count} {what} in {period}`."""
    limit: Limit | None = None
    take: Take = Take.NEVER
    kept: int = 0
    bound: bool = True


class Refusal(Struct, frozen=True):
    """Why an order does not fit now, and when it may."""

    sentence: str
    retry_at: datetime
    spread: timedelta = timedelta(0)
    """By how much those who wait for the same may come later than that, so that they do not come all at once."""


def set_of(names: tuple[str, ...]) -> str:
    """What stands for exactly these names."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:32]


def validated(name: str) -> str:
    """What is validated for a name: of a wildcard its base (RFC 8555 section 7.1.4)."""
    return name.removeprefix("*.")


def failure_buckets(order: PlannedOrder, name: str) -> tuple[Bucket, Bucket]:
    """Where a failed validation of a name counts: among those of late, and among those in a row."""
    whose = f"{validated(name)} {order.account}"
    return Bucket(order.ca, Scope.NAME, whose), Bucket(order.ca, Scope.CONSECUTIVE, whose)


def claims(order: PlannedOrder, limits: Limits, domains: Mapping[str, str]) -> tuple[Claim, ...]:
    """Everything that an order must fit into. `domains` has the registered domain of each name."""
    replaces = order.standing is Standing.REPLACEMENT
    exempt = limits.exempts_renewals and order.standing is not Standing.NEW
    counted = Limits() if exempt and replaces else limits
    bound = not replaces
    new = order.standing is Standing.NEW
    kept = counted.orders.burst // KEPT_FOR_RENEWALS if counted.orders and new else 0
    found = [
        Claim(Bucket(order.ca, Scope.CA, ""), "requests to this CA"),
        Claim(
            Bucket(order.ca, Scope.ACCOUNT, order.account),
            "new orders by this account",
            None if exempt else counted.orders,
            Take.NOW,
            kept,
            bound,
        ),
        Claim(
            Bucket(order.ca, Scope.NAMES, set_of(order.names)),
            "certificates for this exact set of names",
            counted.names,
            Take.WHEN_ISSUED,
            bound=bound,
        ),
    ]
    found += [
        Claim(
            Bucket(order.ca, Scope.DOMAIN, domain),
            f"certificates for {domain}",
            None if exempt else counted.domain,
            Take.WHEN_ISSUED,
            bound=bound,
        )
        for domain in sorted({domains[name] for name in order.names})
    ]
    for name in sorted({validated(name) for name in order.names}):
        of_late, in_a_row = failure_buckets(order, name)
        found.append(Claim(of_late, f"failed validations of {name}", counted.failures, bound=bound))
        row = f"failed validations of {name} in a row"
        found.append(Claim(in_a_row, row, counted.consecutive, bound=bound))
    return tuple(found)


def refusal(wanted: tuple[Claim, ...], levels: Mapping[Bucket, Level], now: datetime) -> Refusal | None:
    """Why the order does not fit: of several reasons the one that lasts longest. None when it fits."""
    found = [refused for claim in wanted if (refused := _refused(claim, levels.get(claim.bucket, WHOLE), now))]
    return max(found, key=lambda refused: refused.retry_at, default=None)


def _refused(claim: Claim, level: Level, now: datetime) -> Refusal | None:
    if level.is_held(now):
        return Refusal(held(claim.what, level), level.held_until, min((level.held_until - now) / 10, _LONGEST_SPREAD))
    fits = next_fit(claim.limit, level, now, claim.kept) if claim.bound else now
    if claim.limit is None or fits <= now:
        return None
    allowed = described(claim.limit, claim.what)
    kept = f", {claim.kept} of them kept for renewals" if claim.kept else ""
    spread = min(10 * claim.limit.every, _LONGEST_SPREAD)
    return Refusal(f"The budget is used up: {allowed}{kept}; the next fits at {moment(fits)}.", fits, spread)


def held(what: str, level: Level) -> str:
    """That the CA wants to be left alone."""
    return f"The CA wants no {what} before {moment(level.held_until)}. It said: {level.reason or 'nothing more'}"


def next_fit(limit: Limit | None, level: Level, now: datetime, kept: int = 0) -> datetime:
    """When one more fits, `now` if it does: an estimate where orders in progress take what is left."""
    if limit is None:
        return now
    lacking = _used(limit, level, now) + (level.reserved + kept + 1) * limit.every - limit.period
    if lacking <= timedelta(0):
        return now
    return now + max(_SOON, min(lacking, limit.period))


def left(limit: Limit, level: Level, now: datetime) -> int:
    """How many fit now."""
    return max(0, (limit.period - _used(limit, level, now)) // limit.every - level.reserved)


def taken(limit: Limit, level: Level, now: datetime) -> Level:
    """After one has been taken. Where more is taken than fits, the bucket is empty."""
    full_at = now + min(_used(limit, level, now) + limit.every, limit.period)
    return replace(level, full_at=full_at)


def corrected(limit: Limit, level: Level, now: datetime) -> Level:
    """The same, but no emptier than empty, as it can seem when the clock went back or the limit was changed."""
    return replace(level, full_at=min(level.full_at, now + limit.period))


def _used(limit: Limit, level: Level, now: datetime) -> timedelta:
    return max(timedelta(0), min(level.full_at - now, limit.period))


def described(limit: Limit, what: str) -> str:
    """The limit in words, such as `5 certificates for example.com in 7 days`."""
    return f"{limit.burst} {what} in {duration(limit.period)}"


def duration(length: timedelta) -> str:
    """A length of time in its largest whole unit."""
    seconds = round(length.total_seconds())
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}{'s' if seconds > size else ''}"
    return f"{seconds} second{'s' if seconds != 1 else ''}"


def moment(at: datetime) -> str:
    """A moment for people, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
