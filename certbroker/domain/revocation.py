"""Revocation: why a certificate is taken back, and how far that is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from certbroker.domain.errors import Invalid

_FIRST_RETRY: Final = timedelta(minutes=1)
LONGEST_RETRY: Final = timedelta(hours=6)

KEY_COMPROMISED: Final = (
    "The compromise of this private key was reported, with the revocation of a certificate for it. It is never used "
    "again: make a new key."
)


class Reason(StrEnum):
    """A reason for the end of an end entity's certificate, by its name in RFC 5280 section 5.3.1.

    The others there are for CAs and attribute authorities, or can be taken back, which ACME cannot.
    """

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"

    @property
    def code(self) -> int:
        """Its CRLReason."""
        return _CODES[self]


_CODES: Final = {
    Reason.UNSPECIFIED: 0,
    Reason.KEY_COMPROMISE: 1,
    Reason.AFFILIATION_CHANGED: 3,
    Reason.SUPERSEDED: 4,
    Reason.CESSATION_OF_OPERATION: 5,
    Reason.PRIVILEGE_WITHDRAWN: 9,
}
_BY_NAME: Final = {reason.lower(): reason for reason in Reason}


class Progress(StrEnum):
    """How far a revocation is."""

    PENDING = "pending"
    """It is wanted, and the CA has not answered yet."""
    REVOKED = "revoked"
    REFUSED = "refused"


class Revocation(Struct, frozen=True):
    """That somebody wants a certificate revoked, and what came of it.

    `sha256` is of `certificate`, which settles its issuer and serial number: that is what is revoked, whatever the name
    and version, where it was found, hold by now. It may lie in several vaults, or under several names: there is one of
    these for each place where somebody has asked. `key_sha256` is of the SubjectPublicKeyInfo. `compromised` stays true
    once somebody has said so. `issuer` is the configured one that is asked, and empty where the revocation was found at
    the CA without anybody here having asked for it; `renew` says whether a successor is wanted.
    """

    sha256: str
    vault_id: int
    name: str
    version: str
    certificate: bytes
    key_sha256: str
    issuer: str
    reason: Reason
    renew: bool
    compromised: bool
    requested: datetime
    act_at: datetime | None
    attempts: int = 0
    revoked: datetime | None = None
    problem: str | None = None

    @property
    def progress(self) -> Progress:
        if self.revoked is not None:
            return Progress.REVOKED
        return Progress.REFUSED if self.act_at is None else Progress.PENDING

    @property
    def is_settled(self) -> bool:
        """Whether the CA has taken it as it stands here, with that reason."""
        return self.revoked is not None and self.act_at is None and self.problem is None


def seen_from(vault_id: int, name: str, found: Sequence[Revocation]) -> Revocation | None:
    """What is known of a certificate at one place, of all that was wanted of it wherever it lies.

    One that is revoked is so everywhere. Who has asked for that elsewhere, of whom and how, does not show here.
    """
    here = next((each for each in found if (each.vault_id, each.name.lower()) == (vault_id, name.lower())), None)
    elsewhere = [each for each in found if each is not here and each.revoked is not None]
    if not elsewhere or (here is not None and here.revoked is not None):
        return here
    best = max(elsewhere, key=lambda each: (each.is_settled, each.reason is Reason.KEY_COMPROMISE))
    reason = best.reason if best.is_settled else Reason.UNSPECIFIED
    if here is None:
        here = replace(best, vault_id=vault_id, name=name, version="", issuer="", renew=False, act_at=None)
    if here.act_at is not None:
        return replace(here, revoked=best.revoked)
    return replace(here, reason=reason, revoked=best.revoked, problem=None)


def read_reason(name: str) -> Reason:
    """The reason of that name, without regard to case. Raises Invalid."""
    reason = _BY_NAME.get(name.lower())
    if reason is None:
        raise Invalid(f"reason {name[:40]!r} is none for a certificate like this: use one of {', '.join(Reason)}.")
    return reason


def key_digest(public: bytes) -> str:
    """What a key is known by: the SHA-256 of its SubjectPublicKeyInfo in DER, in hexadecimal digits."""
    return hashlib.sha256(public).hexdigest()


def retry_after(attempts: int) -> timedelta:
    """How long to wait after so many attempts at which the CA could not be asked."""
    return min(LONGEST_RETRY, _FIRST_RETRY * (1 << min(attempts - 1, 10)))
