"""What only some issuers can do beside issuing. Who asks looks with `isinstance` whether an issuer can."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol, TypeGuard, runtime_checkable

from certbroker.domain.checkup import Checked
from certbroker.domain.keys import PrivateKey
from certbroker.ports.egress import Egress
from certbroker.ports.issuer import IssuanceRequest, Issuer, IssuerSettings, Journal


@runtime_checkable
class AnswersAtOnce(Protocol):
    """An issuer on this machine that may not need longer than a millisecond."""

    def is_quick(self) -> bool:
        """Whether `advance` answers a request with a P-256 key at once. Raises Invalid as `advance` does."""
        ...


def answers_at_once(issuer: Issuer) -> bool:
    """Whether it does now. Raises Invalid where it could not be asked."""
    return issubclass(type(issuer), AnswersAtOnce) and issuer.is_quick()  # type: ignore[attr-defined]  # just seen


@dataclass(frozen=True, slots=True)
class RenewalWindow:
    """When the issuer wants a certificate renewed (RFC 9773 section 4.2), and when to ask again.

    `start` is before `end` and before the certificate's expiry. Both may have passed: then it wants that now.
    """

    start: datetime
    end: datetime
    explanation: str | None
    """A URL of a page that tells people why."""
    ask_again: timedelta


@runtime_checkable
class SuggestsRenewal(Protocol):
    """An issuer that knows when its certificates should be renewed."""

    def renewal_window(self, certificate: bytes) -> RenewalWindow | None:
        """The window for an end-entity certificate in DER; None when the issuer says nothing about this one.

        Blocks on the network and never retries. The moment within the window is for the caller to pick, once, and to
        keep with the certificate. Raises IssuerUnavailable, with `retry_at` where asking sooner would change nothing.
        """
        ...


def suggests_renewal(issuer: Issuer) -> TypeGuard[SuggestsRenewal]:
    """Whether it is one. Of an instance Python finds that out anew each time, of a class once."""
    return issubclass(type(issuer), SuggestsRenewal)


@runtime_checkable
class Revokes(Protocol):
    """An issuer that can revoke what it issued."""

    def revoke(self, certificate: bytes, reason: int, key: PrivateKey | None = None) -> None:
        """Revoke the certificate in DER for an RFC 5280 reason code.

        `key` is the certificate's own, where it is at hand: it shows that we may do this where our account does not.
        Safe to repeat: one that is revoked already is a success. Raises Invalid when the issuer refuses,
        IssuerUnavailable when trying later may help.
        """
        ...


@dataclass(frozen=True, slots=True)
class AccountDescription:
    """A CA and our account there, for a person who checks an issuer's configuration."""

    directory: str
    """URL of the CA's directory."""
    account: str | None
    """The account's URL; None when it is not registered yet."""
    status: str | None
    """`valid`, `deactivated` or `revoked` (RFC 8555 section 7.1.2); `lost` when the CA does not know it any more."""
    thumbprint: str | None
    """Of the account's key (RFC 7638)."""
    key: str
    """Kind of the account's key, such as P-256."""
    contacts: tuple[str, ...]
    """Mail addresses as they are configured."""
    external_account: str | None
    """Key identifier of the external account binding, if one is configured."""
    external_account_required: bool
    terms_of_service: str | None
    website: str | None
    caa_identities: tuple[str, ...]
    """What names the CA in CAA records (RFC 8659)."""
    profiles: Mapping[str, str] | None
    """Names and descriptions; None when the CA has no profiles."""
    renewal_info: bool
    """Whether the CA suggests when to renew."""


@runtime_checkable
class HasAccount(Protocol):
    """An issuer with an account at its CA. All methods block on the network and never retry."""

    def account(self) -> AccountDescription:
        """What the CA says of itself and of the account; registers nothing. Raises IssuerUnavailable."""
        ...

    def roll_over(self) -> None:
        """Exchange the account's key. Safe to repeat: what was interrupted is brought to its end.

        Requests under way go on with the new key. Raises Invalid when there is no account, or the CA refuses;
        IssuerUnavailable when it is not known whether the key was exchanged: the account works with either.
        """
        ...

    def deactivate(self) -> None:
        """Deactivate the account for good; the next request makes another one, with another key.

        Safe to repeat: no account is a success. Raises Invalid when the CA refuses; IssuerUnavailable when it is not
        known whether that took place, in which case the next request finishes it.
        """
        ...


@dataclass(frozen=True, slots=True)
class StandingRecord:
    """A TXT record by which a name is proved for as long as it is there, and how it stands in DNS."""

    name: str
    """Where it has to be, absolute, without the final dot."""
    value: str
    """What it has to say. More parameters, such as persistUntil, may follow."""
    status: Literal["good", "expiring", "missing", "wrong", "unknown"]
    """`unknown` when no DNS server could say."""
    detail: str
    """The status for people, with what to do about it."""
    until: datetime | None = None
    """When the record that is there ends, if it does."""

    @property
    def zone_line(self) -> str:
        """The record as a zone file has it, in strings of at most 255 characters (RFC 1035 section 3.3)."""
        strings = [f'"{self.value[start : start + 255]}"' for start in range(0, len(self.value), 255)]
        return f"{self.name}. IN TXT {' '.join(strings)}"


@runtime_checkable
class ProvesByRecord(Protocol):
    """An issuer that names can be proved to by a standing record."""

    def standing_record(self, name: str) -> StandingRecord:
        """The record for a DNS name, which may begin with `*.`. Makes the account at the CA where there is none.

        Raises Invalid when the CA knows no such records, IssuerUnavailable.
        """
        ...


@runtime_checkable
class ExaminesNames(Protocol):
    """An issuer that can tell beforehand whether it could prove control over a name."""

    def examine(self, name: str, reach: Egress) -> Iterable[Checked]:
        """Look at what the CA will look at, and order nothing. Blocks on the network, bounded in time.

        `reach` may speak plain HTTP to any public address. Raises IssuerUnavailable.
        """
        ...


@runtime_checkable
class LooksAtItself(Protocol):
    """An issuer that needs nobody outside, and can tell how what it needs here is."""

    def checkup(self, what: str) -> Iterable[Checked]:
        """Look, and change nothing; `what` names the issuer in what is found. Raises Invalid where it cannot issue."""
        ...


@runtime_checkable
class Rehearses(Protocol):
    """A kind of issuer whose CAs have environments for tests."""

    def rehearsal(self, settings: IssuerSettings, directory: str | None) -> IssuerSettings:
        """The same settings for the CA's staging environment, or for the one named, without the credentials.

        Raises Invalid when none is known, or when it is the one that issues in earnest.
        """
        ...


@runtime_checkable
class Abandons(Protocol):
    """An issuer that has something to clean up when a request ends without a certificate."""

    def abandon(self, request: IssuanceRequest, journal: Journal) -> None:
        """Withdraw challenge answers and the like. Safe to repeat; raises IssuerUnavailable."""
        ...
