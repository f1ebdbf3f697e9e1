"""How a configured issuer is: what the requests to it and the questions about renewal have shown."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

# An issuer that works is noted once in so long, and not at every request.
_NOTED_EVERY: Final = timedelta(hours=1)


class IssuerState(StrEnum):
    """How an issuer is."""

    UNUSED = "Unused"
    """It has not been asked for anything with the settings that it has."""
    WORKING = "Working"
    FAILING = "Failing"
    """It cannot be used at the moment, and is tried again."""
    NEEDS_PERSON = "NeedsPerson"
    """Its settings do not hold; nothing is asked of it before they are corrected."""


class IssuerHealth(Struct, frozen=True):
    """What is known. `since` is when the state began, `next_try` when it is asked again at the latest, if it is."""

    state: IssuerState = IssuerState.UNUSED
    reason: str = ""
    since: datetime | None = None
    last_success: datetime | None = None
    next_try: datetime | None = None


class Finding(Struct, frozen=True):
    """What one request to an issuer has shown of it."""

    state: IssuerState
    reason: str = ""
    next_try: datetime | None = None


WORKS: Final = Finding(IssuerState.WORKING)


def noted(health: IssuerHealth, finding: Finding, now: datetime) -> IssuerHealth:
    """The health after a finding; the same object where nothing has changed that is worth a write."""
    changed = finding.state is not health.state
    if finding.state is IssuerState.WORKING:
        recent = health.last_success is not None and now - _NOTED_EVERY < health.last_success <= now
        if recent and not changed:
            return health
        return IssuerHealth(finding.state, "", now if changed else health.since, now)
    waits = health.next_try is not None and now < health.next_try
    if not changed and finding.reason == health.reason and (waits or finding.next_try == health.next_try):
        return health
    since = now if changed or health.since is None else health.since
    return replace(health, state=finding.state, reason=finding.reason, since=since, next_try=finding.next_try)
