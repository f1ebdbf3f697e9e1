"""How a certificate is looked after: what is remembered between two looks, what is told, and its health."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from msgspec import Struct
from msgspec.structs import replace

from certbroker.domain.renewal import (
    RECHECK,
    Decision,
    Facts,
    Leave,
    Renew,
    Revoked,
    Setback,
    Suggestion,
    Wait,
    Wish,
    contact_point,
)

# A warning in days besides those in parts of the life: as early as Azure warns, and only where that is not most of it.
_WARNING: Final = timedelta(days=30)
_WARNING_FROM: Final = timedelta(days=150)
_LAST_TENTH: Final = 0.9


class Health(StrEnum):
    """How a certificate is."""

    UNKNOWN = "Unknown"
    """It has not been looked at yet."""
    HEALTHY = "Healthy"
    RENEWING = "Renewing"
    """A new version is being made."""
    FAILING = "Failing"
    """Renewals fail, and are tried again."""
    NEEDS_PERSON = "NeedsPerson"
    """Nobody will renew it, and it is time."""
    NOT_DEPLOYED = "NotDeployed"
    """It is well, and not served where it should be, or not put where it is used."""
    EXPIRED = "Expired"
    REVOKED = "Revoked"
    """Clients that check refuse it."""
    DISABLED = "Disabled"


class Lifecycle(Struct, frozen=True):
    """What is remembered of a certificate's care. All but the wish and the setback is about one version.

    `ask_at` is when the issuer is asked for its window next, after `ask_failures` questions in a row that failed.
    `told` holds the steps that contacts and channels have been told of.
    """

    version: str = ""
    suggestion: Suggestion | None = None
    ask_at: datetime | None = None
    ask_failures: int = 0
    wish: Wish | None = None
    setback: Setback | None = None
    revoked: Revoked | None = None
    told: tuple[str, ...] = ()
    health: Health = Health.UNKNOWN
    reason: str = ""
    since: datetime | None = None
    next_action: datetime | None = None


class Step(Struct, frozen=True):
    """A point in a certificate's life that people are told of. The name is the same for every certificate."""

    name: str
    at: datetime


EXPIRED: Final = "Expired"


def steps(facts: Facts) -> Iterator[Step]:
    """The points at which a version that is still current is warned about, in no order."""
    contact = contact_point(facts)
    if contact is not None:
        yield Step("EmailContacts", contact)
    if facts.life >= _WARNING_FROM:
        yield Step("30Days", facts.not_after - _WARNING)
    yield Step("LastTenth", facts.not_before + facts.life * _LAST_TENTH)
    yield Step(EXPIRED, facts.not_after)


def health_of(facts: Facts, decision: Decision, now: datetime) -> Health:
    """How the certificate is, given what was decided about it. That a disabled one has expired troubles nobody."""
    if not facts.enabled and not facts.in_progress:
        return Health.DISABLED
    if now >= facts.not_after:
        return Health.EXPIRED
    match decision:
        case _ if facts.in_progress:
            return Health.RENEWING
        case Renew():
            return Health.RENEWING
        case _ if facts.revoked is not None:
            return Health.REVOKED
        case _ if facts.setback is not None:
            return Health.FAILING
        case Wait():
            return Health.HEALTHY if facts.undeployed is None else Health.NOT_DEPLOYED
        case Leave():
            if now >= min(step.at for step in steps(facts)):
                return Health.NEEDS_PERSON
            return Health.HEALTHY if facts.undeployed is None else Health.NOT_DEPLOYED


def judged(lifecycle: Lifecycle, facts: Facts, decision: Decision, now: datetime) -> Lifecycle:
    """With the health and its reason, and the time of the next thing that the engine does by itself."""
    health = health_of(facts, decision, now)
    next_action = None
    match decision:
        case Wait(until):
            next_action = until
        case Renew():
            next_action = now + RECHECK
        case Leave():
            pass
        case _:
            assert_never(decision)
    same = health is lifecycle.health and lifecycle.since is not None
    since = lifecycle.since if same else now
    reason = decision.reason
    if health is Health.NOT_DEPLOYED and facts.undeployed is not None:
        reason = facts.undeployed
    if facts.revoked is not None and not isinstance(decision, Renew):
        reason = f"{facts.revoked.reason} {reason}"
    return replace(lifecycle, health=health, reason=reason, since=since, next_action=next_action)
