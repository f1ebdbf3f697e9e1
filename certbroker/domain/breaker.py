"""The breaker: how often a certificate may be renewed by itself, whatever anybody thinks is a reason to.

It knows nothing of windows, lifetime actions and points in time. A mistake in those, a CA whose certificates are over
when they arrive, or a policy that no certificate can satisfy would otherwise renew in a loop: five certificates in ten
seconds, and then none for a week, have happened to others.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from certbroker.domain.budget import Bucket, Level, Limit, Scope, duration, moment, next_fit, set_of
from certbroker.domain.operation import Problem
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import Operation
from certbroker.domain.renewal import LOOP_STOPPED, Trigger

_DAY: Final = timedelta(days=1)
_BURST: Final = 2
_BURST_WITH_REASON: Final = 5
_SHORTEST: Final = timedelta(seconds=1)

# These come from outside of the certificate's life, so a mistake in reckoning with that does not bring them about.
_WITH_REASON: Final = (Trigger.OPERATOR, Trigger.REVOKED, Trigger.INCIDENT)


def breaker_limit(trigger: Trigger, life: timedelta) -> Limit:
    """Two renewals at once and one more after a day or, for shorter lives than four days, a quarter of the life.

    No 24 hours see a third where the life is longer, because what is given back then is less than one. With a reason
    from outside there are five, and one more after a fifth of the day.
    """
    quarter = max(_SHORTEST, life / 4)
    if trigger in _WITH_REASON:
        return Limit(_BURST_WITH_REASON, min(_DAY / _BURST_WITH_REASON, quarter))
    return Limit(_BURST, min(_DAY, quarter))


def breaker_bucket(operation: Operation, trigger: Trigger) -> Bucket:
    """What is counted together: versions of one certificate for exactly the same names, whoever issues them."""
    reason = "with-reason" if trigger in _WITH_REASON else "automatic"
    subject = f"{operation.name.lower()} {set_of(_names(operation.policy))} {reason}"
    return Bucket(f"vault:{operation.vault_id}", Scope.RENEWAL, subject)


def tripped(
    operation: Operation, trigger: Trigger, reason: str, limit: Limit, level: Level, now: datetime
) -> Problem | None:
    """Why the certificate is not renewed now; None when it may be."""
    closes = next_fit(limit, level, now)
    if closes <= now:
        return None
    return Problem(
        LOOP_STOPPED,
        f"{operation.name} has been renewed {limit.burst} times in too short a time, so it is now renewed only once in "
        f"{duration(limit.every)}. Something is wrong with the certificate, its policy or the CA. The last reason was: "
        f"{reason} Renewals go on by themselves at {moment(closes)}. To make a version before that, look for the cause "
        "and create the certificate again.",
        trigger.value,
    )


def _names(policy: CertificatePolicy) -> tuple[str, ...]:
    """Everything that the certificate is for, the subject included."""
    sans = policy.sans
    kinds = (sans.dns_names, sans.emails, sans.upns, sans.uris, sans.ip_addresses)
    names = {f"{number} {name.lower()}" for number, kind in enumerate(kinds) for name in kind}
    return (policy.subject, *sorted(names))
