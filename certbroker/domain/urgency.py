"""Who goes first of those that are due at the same time.

Work is done in the order in which it became due, but for what is urgent: that goes before all else, in this order.
Whoever takes work turns to the longest due, whatever it is, every few times: what has time waits, and never for ever.
"""

from __future__ import annotations

from datetime import timedelta
from enum import IntEnum
from typing import Final

from certbroker.domain.renewal import Trigger

# With less than this part of its life left a certificate has no time to wait behind others.
_LAST_PART: Final = 0.1


class Urgency(IntEnum):
    """What is urgent, and why. What has time has no urgency at all."""

    AWAITED = 0
    """Somebody waits for the answer."""
    REVOKED = 1
    """Clients that check refuse the certificate in use already."""
    EXPIRING = 2
    """The certificate in use ends soon."""
    INCIDENT = 3
    """All certificates of an issuer are to be replaced, while they are still good."""


_OF_TRIGGER: Final = {
    Trigger.OPERATOR: Urgency.AWAITED,
    Trigger.REVOKED: Urgency.REVOKED,
    Trigger.INCIDENT: Urgency.INCIDENT,
}


def urgency_of(trigger: Trigger, remaining: timedelta, life: timedelta) -> Urgency | None:
    """How urgent it is to renew for that reason, when so much is left of the life; None when it has time."""
    expiring = Urgency.EXPIRING if remaining <= life * _LAST_PART else None
    found = [each for each in (_OF_TRIGGER.get(trigger), expiring) if each is not None]
    return min(found, default=None)


def urgency_of_wish(trigger: Trigger) -> Urgency | None:
    """How urgent it is to look at a certificate that somebody wants renewed."""
    return _OF_TRIGGER.get(trigger)
