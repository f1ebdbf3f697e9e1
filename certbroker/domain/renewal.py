"""When a certificate is renewed, and why.

`decide` walks an ordered list of small checks over gathered facts; the first that has something to say decides, and its
sentence is what operators read in the pending operation, the command line and the metrics. Everything here is pure: the
facts bring the time along with everything else that the decision depends on.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct

from certbroker.domain.backoff import doubled, fraction
from certbroker.domain.operation import Problem
from certbroker.domain.policy import AUTO_RENEW, EMAIL_CONTACTS, CertificatePolicy, LifetimeAction

# Below this lifetime a certificate is renewed at half of its life, as CAs that issue such certificates ask for.
SHORT_LIVED: Final = timedelta(days=10)

# A renewal point earlier in life than this renews all the time, and one before issuance for ever.
_EARLIEST: Final = 0.25

# Certificates that were made together are renewed over this part of their lives, so that they part.
_SPREAD: Final = 0.02

# After a change of policy its owner has this long to create the new version himself, as clients of Key Vault do.
POLICY_GRACE: Final = timedelta(hours=1)

# Waits after renewals that have failed, in a row: they double from the first to the last.
_FIRST_RETRY: Final = timedelta(minutes=15)
_LAST_RETRY: Final = timedelta(hours=12)

# Why a renewal fails that the breaker has stopped. It closes a day later at the latest, so nothing waits for longer.
LOOP_STOPPED: Final = "RenewalLoopStopped"
_LONGEST_REST: Final = timedelta(days=1)

# An operation in progress wakes us when it ends; this is for the case that it does not.
RECHECK: Final = timedelta(days=1)


class Trigger(StrEnum):
    """What makes a renewal happen."""

    LIFETIME_ACTION = "LifetimeAction"
    SUGGESTED = "SuggestedByCA"
    INCIDENT = "Incident"
    POLICY_CHANGED = "PolicyChanged"
    OPERATOR = "Operator"
    REVOKED = "Revoked"


class Suggestion(Struct, frozen=True):
    """The issuer's window for one certificate (RFC 9773), and the moment in it that was picked.

    It belongs to the certificate with that SHA-256 alone: a window that is applied to the successor renews in a loop.
    """

    sha256: str
    start: datetime
    end: datetime
    pick: datetime
    explanation: str | None = None


class Wish(Struct, frozen=True):
    """Somebody wants a version renewed now: an operator, or the broker for a reason outside of the version's life.

    `new_key` wants a key that was never used, whatever the policy says.
    """

    trigger: Trigger
    reason: str
    version: str
    new_key: bool = False


class Revoked(Struct, frozen=True):
    """A version whose certificate, or an issuer's of it, was found revoked. `reason` is a sentence."""

    version: str
    reason: str


class Setback(Struct, frozen=True):
    """Renewals that have failed in a row: the last one's operation, and when to try again."""

    operation: str
    failures: int
    retry_at: datetime
    problem: Problem


class Facts(Struct, frozen=True):
    """What is known when the renewal of a certificate's current version is decided.

    `spread` is between 0 and 1 and belongs to this version. `mismatch` says in which way the version is not what its
    policy asks for, if it is not. `manual` means that a person is the issuer. `undeployed` says where it is not that it
    should be; it decides nothing, because another version would not be there either.
    """

    policy: CertificatePolicy
    not_before: datetime
    not_after: datetime
    spread: float
    enabled: bool = True
    manual: bool = False
    in_progress: bool = False
    mismatch: str | None = None
    suggestion: Suggestion | None = None
    wish: Wish | None = None
    setback: Setback | None = None
    undeployed: str | None = None
    revoked: Revoked | None = None

    @property
    def life(self) -> timedelta:
        return self.not_after - self.not_before


class Renew(Struct, frozen=True):
    """Renew now. `new_key` wants a key that was never used."""

    trigger: Trigger
    reason: str
    new_key: bool = False


class Wait(Struct, frozen=True):
    """Nothing to do until then."""

    until: datetime
    reason: str


class Leave(Struct, frozen=True):
    """Not renewed by us; a person does, or nobody."""

    reason: str


Decision = Renew | Wait | Leave
Check = Callable[[Facts, datetime], Decision | None]


def decide(facts: Facts, now: datetime) -> Decision:
    """What to do about the certificate: the answer of the first check that has one."""
    for check in _CHECKS:
        decision = check(facts, now)
        if decision is not None:
            return decision
    raise AssertionError("the last check always has an answer")


def _in_progress(facts: Facts, now: datetime) -> Decision | None:
    return Wait(now + RECHECK, "A new version is being made.") if facts.in_progress else None


def _person_is_issuer(facts: Facts, now: datetime) -> Decision | None:
    return (
        Leave("A person brings its certificates: create a new version and merge the answer.") if facts.manual else None
    )


def _disabled(facts: Facts, now: datetime) -> Decision | None:
    return None if facts.enabled else Leave("The certificate is disabled.")


def _set_back(facts: Facts, now: datetime) -> Decision | None:
    setback = facts.setback
    # A time further away than any wait comes from a clock that was wrong.
    if setback is None or not now < setback.retry_at <= now + _LONGEST_REST:
        return None
    if setback.problem.code == LOOP_STOPPED and setback.problem.detail != Trigger.INCIDENT and _is_incident(facts, now):
        return None  # The breaker counts these by themselves.
    return Wait(setback.retry_at, f"The last renewal failed and is tried again then. {setback.problem.message}")


def _wished(facts: Facts, now: datetime) -> Decision | None:
    wish = facts.wish
    return None if wish is None else Renew(wish.trigger, wish.reason, wish.new_key)


def _not_renewed(facts: Facts, now: datetime) -> Decision | None:
    return None if _action(facts.policy, AUTO_RENEW) else Leave("Its policy has no lifetime action AutoRenew.")


def _suggested(facts: Facts, now: datetime) -> Decision | None:
    """The CA's window is over or its moment has come. A window in the past is how CAs ask for a renewal at once."""
    suggestion = facts.suggestion
    if suggestion is None or now < suggestion.pick:
        return None
    if _is_incident(facts, now):
        return Renew(Trigger.INCIDENT, f"The CA asks for a renewal and explains why at {suggestion.explanation}.")
    return Renew(Trigger.SUGGESTED, f"The CA suggests a renewal at {_told(suggestion.pick)}.")


def _is_incident(facts: Facts, now: datetime) -> bool:
    """Whether the CA wants the certificate replaced now, and says why."""
    suggestion = facts.suggestion
    return suggestion is not None and suggestion.explanation is not None and now >= suggestion.pick


def _lifetime_action(facts: Facts, now: datetime) -> Decision | None:
    point, reason = renewal_point(facts)
    return Renew(Trigger.LIFETIME_ACTION, f"The certificate is renewed {reason}.") if now >= point else None


def _policy_changed(facts: Facts, now: datetime) -> Decision | None:
    if facts.mismatch is None or now < _policy_point(facts):
        return None
    return Renew(Trigger.POLICY_CHANGED, f"The policy has changed: {facts.mismatch}.")


def _not_yet(facts: Facts, now: datetime) -> Decision | None:
    """The earliest of the points that the checks above look at."""
    point, reason = renewal_point(facts)
    waits = [Wait(point, f"It is renewed {reason}.")]
    if facts.suggestion is not None:
        waits.append(Wait(facts.suggestion.pick, "It is renewed when the CA suggests."))
    if facts.mismatch is not None:
        waits.append(Wait(_policy_point(facts), f"It is renewed because the policy has changed: {facts.mismatch}."))
    return min(waits, key=lambda wait: wait.until)


_CHECKS: Final[tuple[Check, ...]] = (
    _in_progress,
    _person_is_issuer,
    _disabled,
    _set_back,
    _wished,
    _not_renewed,
    _suggested,
    _lifetime_action,
    _policy_changed,
    _not_yet,
)


def renewal_point(facts: Facts) -> tuple[datetime, str]:
    """When the certificate is renewed if nothing else makes it happen earlier, and how that was found."""
    action = _action(facts.policy, AUTO_RENEW)
    usual, short = (1 / 2, True) if facts.life < SHORT_LIVED else (2 / 3, False)
    part, reason = _part(action, facts) if action else (usual, "")
    if part < _EARLIEST or not action:
        # The point lies before issuance or right after it: certificates have become shorter than the policy expects.
        part, reason = usual, f"at {_percent(usual)} of its life, because the policy's point comes too early for it"
    elif short and part > usual:
        part, reason = usual, f"at {_percent(usual)} of its life, because it is short-lived"
    return facts.not_before + facts.life * (part - _SPREAD * facts.spread), reason


def contact_point(facts: Facts) -> datetime | None:
    """When the policy wants the contacts to be mailed; None when it does not. Never before a quarter of the life."""
    action = _action(facts.policy, EMAIL_CONTACTS)
    if action is None and facts.manual:
        action = _action(facts.policy, AUTO_RENEW)  # Nobody but a person can do that.
    if action is None:
        return None
    return facts.not_before + facts.life * max(_part(action, facts)[0], _EARLIEST)


def _part(action: LifetimeAction, facts: Facts) -> tuple[float, str]:
    """The part of the life that has passed at an action's point; it is negative for a point before issuance."""
    if action.lifetime_percentage is not None:
        return action.lifetime_percentage / 100, f"at {action.lifetime_percentage} % of its life"
    days = action.days_before_expiry or 0
    return 1 - timedelta(days=days) / facts.life, f"{days} days before it expires"


def _action(policy: CertificatePolicy, wanted: str) -> LifetimeAction | None:
    return next((action for action in policy.lifetime_actions if action.action == wanted), None)


def _policy_point(facts: Facts) -> datetime:
    return datetime.fromtimestamp(facts.policy.updated, facts.not_before.tzinfo) + POLICY_GRACE


def pick(sha256: str, start: datetime, end: datetime) -> datetime:
    """The moment in a window at which this certificate is renewed: uniform over all certificates (RFC 9773 section
    4.2), and the same whenever it is computed for the same window.
    """
    return start + (end - start) * fraction(sha256, start.isoformat(), end.isoformat())


def retry_after(failures: int, remaining: timedelta) -> timedelta:
    """How long to wait after so many failures in a row, when the certificate is valid for `remaining`.

    A tenth of what is left at most, so that there are always several more tries.
    """
    pause = doubled(_FIRST_RETRY, _LAST_RETRY, failures)
    return max(_FIRST_RETRY, min(pause, remaining / 10)) if remaining > timedelta(0) else pause


def _percent(part: float) -> str:
    return f"{part:.0%}".replace("%", " %")


def _told(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
