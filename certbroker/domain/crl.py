"""CRLs: what a list says of itself, whether it is believed, and whom it covers (RFC 5280 section 5).

`refusal` walks an ordered list of small checks over a list whose signature has been verified; the first that has
something to say refuses it, and its sentence is what operators read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

# Clocks differ by minutes.
TOLERANCE: Final = timedelta(minutes=10)

# Of a list that names no next update, which RFC 5280 section 5.1.2.5 forbids and X.509 allows.
_ASSUMED_LIFE: Final = timedelta(days=7)

REMOVED: Final = 8
"""The reason removeFromCRL: an entry of a delta takes back one of its base."""
ON_HOLD: Final = 6
"""The reason certificateHold, which may be taken back."""

_REASONS: Final = {
    0: "unspecified",
    1: "keyCompromise",
    2: "cACompromise",
    3: "affiliationChanged",
    4: "superseded",
    5: "cessationOfOperation",
    6: "certificateHold",
    8: "removeFromCRL",
    9: "privilegeWithdrawn",
    10: "aACompromise",
}


class Scope(Struct, frozen=True):
    """The issuing distribution point (RFC 5280 section 5.2.5): which certificates of its issuer a list is about.

    `names` are the URLs of the point that it belongs to; empty where it is for all.
    """

    names: tuple[str, ...] = ()
    only_users: bool = False
    only_authorities: bool = False
    only_attributes: bool = False
    only_some_reasons: bool = False
    indirect: bool = False


class CRLFacts(Struct, frozen=True):
    """What a list says of itself. `base` is the number of the list that a delta is to be added to.

    `fresher` is where its deltas are (RFC 5280 section 5.2.6).
    """

    this_update: datetime
    next_update: datetime | None
    number: int | None
    entries: int
    base: int | None = None
    scope: Scope = Scope()
    fresher: tuple[str, ...] = ()

    @property
    def fresh_until(self) -> datetime:
        """From then on its silence about a certificate says nothing."""
        return self.next_update or self.this_update + _ASSUMED_LIFE


class Entry(Struct, frozen=True):
    """What a list says of one certificate."""

    at: datetime
    reason: int

    @property
    def reason_name(self) -> str:
        return reason_name(self.reason)


def reason_name(code: int) -> str:
    """The name of a CRLReason (RFC 5280 section 5.3.1)."""
    return _REASONS.get(code, "unspecified")


def reason_code(name: str) -> int:
    """The CRLReason of that name; unspecified where there is none."""
    return next((code for code, known in _REASONS.items() if known == name), 0)


class _Offer(Struct, frozen=True):
    """A list that came, the one of its sort that is held, and for a delta the base that is held."""

    new: CRLFacts
    held: CRLFacts | None
    base: CRLFacts | None
    delta: bool


Check = Callable[[_Offer, datetime], str | None]


def refusal(
    new: CRLFacts, held: CRLFacts | None, now: datetime, *, delta: bool = False, base: CRLFacts | None = None
) -> str | None:
    """Why a list is not taken in, in a sentence; None where it is."""
    offer = _Offer(new, held, base, delta)
    return next((reason for check in _CHECKS if (reason := check(offer, now)) is not None), None)


def _sort(offer: _Offer, now: datetime) -> str | None:
    if offer.delta and offer.new.base is None:
        return "Where a delta CRL should be is a complete one."
    if not offer.delta and offer.new.base is not None:
        return "Where a complete CRL should be is a delta."
    return None


def _from_the_future(offer: _Offer, now: datetime) -> str | None:
    if offer.new.this_update <= now + TOLERANCE:
        return None
    return f"The CRL is from the future: it was made at {_told(offer.new.this_update)}, and here it is {_told(now)}."


def _over(offer: _Offer, now: datetime) -> str | None:
    if now < offer.new.fresh_until + TOLERANCE:
        return None
    return f"The CRL has expired: the next one should have been there at {_told(offer.new.fresh_until)}."


def _replayed(offer: _Offer, now: datetime) -> str | None:
    """An older list hides what was revoked since. It may be a mistake of the CA, and then ends with the newer one."""
    held, new = offer.held, offer.new
    if held is None or now >= held.fresh_until + TOLERANCE:
        return None
    if new.number is not None and held.number is not None and new.number < held.number:
        return f"The CRL is older than the one held: its number is {new.number}, after {held.number}."
    if new.this_update < held.this_update:
        return f"The CRL is older than the one held: it was made at {_told(new.this_update)}."
    return None


def _does_not_fit(offer: _Offer, now: datetime) -> str | None:
    """A delta is added to a list of at least the number that it starts from, and of the same scope (section 5.2.4)."""
    if not offer.delta:
        return None
    base = offer.base
    if base is None or base.number is None or offer.new.base is None or base.number < offer.new.base:
        return f"The delta CRL starts from the list number {offer.new.base}, which is not held."
    if offer.new.scope != base.scope:
        return "The delta CRL is about other certificates than the list that it belongs to."
    return None


_CHECKS: Final[tuple[Check, ...]] = (_sort, _from_the_future, _over, _replayed, _does_not_fit)


def not_covered(scope: Scope, names: Iterable[str], *, is_authority: bool) -> str | None:
    """Why a list of that scope says nothing of a certificate; None where it does.

    `names` are those of the distribution point in the certificate by which the list was found (section 6.3.3 (b)).
    """
    if scope.indirect:
        return "The CRL is an indirect one, for several issuers, which is not supported."
    if scope.names and not set(scope.names) & set(names):
        return f"The CRL is that of another distribution point: {scope.names[0][:200]}."
    if scope.only_attributes:
        return "The CRL is about attribute certificates only."
    if scope.only_users and is_authority:
        return "The CRL is about certificates of end entities only."
    if scope.only_authorities and not is_authority:
        return "The CRL is about certificates of authorities only."
    return None


def _told(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
