"""dns-persist-01: a TXT record that stays, and names the CA and our account (draft-ietf-acme-dns-persist).

    _validation-persist.example.org. TXT "ca.example; accounturi=https://ca.example/acct/1; policy=wildcard"

The record is computed here, shown to a person, and looked at. It is never written by us: that is its point.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from certbroker.ports.dns import DNS, DNSUnanswered
from certbroker.ports.issuer import IssuerUnavailable
from certbroker.ports.issuer_abilities import StandingRecord
from issuers.acme.at_once import each
from issuers.acme.delegation import end_of_aliases
from issuers.acme.messages import Authorization, Challenge
from issuers.acme.problem import Nonsense, printable
from issuers.acme.settings import BY_DNS, DNS_PERSIST_01

PREFIX: Final = BY_DNS[DNS_PERSIST_01]

# A value of an RFC 8659 parameter: printable, without white space and semicolon.
_VALUE: Final = re.compile(r"[\x21-\x3a\x3c-\x7e]*", re.ASCII)
_SECONDS: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_LAST_SECOND: Final = 253_402_300_799
_SHOWN: Final = 3
# Somebody has to publish the record, so looking again soon is of little use after the first minutes.
_FIRST_PAUSE: Final = timedelta(seconds=2)
_LONGEST_PAUSE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The record that a CA will look for. `name` is without the `*.` of a wildcard."""

    name: str
    wildcard: bool
    issuers: tuple[str, ...]
    """Names of the CA, any of which may stand in the record."""
    account: str
    """URL of our account."""

    @property
    def owner(self) -> str:
        return PREFIX + self.name

    @property
    def value(self) -> str:
        return f"{self.issuers[0]}; accounturi={self.account}" + ("; policy=wildcard" if self.wildcard else "")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a record says besides the CA's name."""

    account: str
    wildcard: bool
    until: datetime | None


def parse(text: str) -> tuple[str, Parameters]:
    """The CA's name and what else a record says. Raises ValueError, saying what is wrong.

    As strict as CAs are: RFC 8659 section 4.2, with a parameter at most once, and those that are unknown ignored.
    """
    issuer, *parts = (part.strip(" \t") for part in text.split(";"))
    given: dict[str, str] = {}
    for part in parts:
        tag, equals, value = part.partition("=")
        tag, value = tag.strip(" \t").lower(), value.strip(" \t")
        if not equals or not tag:
            raise ValueError(f"has {printable(part)[:100]!r} where a parameter should be")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"has a value of {printable(tag)[:40]} with characters that are not allowed")
        if tag in given:
            raise ValueError(f"has the parameter {printable(tag)[:40]} twice")
        given[tag] = value
    if not given.get("accounturi"):
        raise ValueError("has no accounturi")
    until = given.get("persistuntil")
    if until is not None and not _SECONDS.fullmatch(until):
        raise ValueError("has a persistUntil that is not a number of seconds since 1970")
    moment = None if until is None else datetime.fromtimestamp(max(0, min(int(until), _LAST_SECOND)), UTC)
    return issuer, Parameters(given["accounturi"], given.get("policy", "").lower() == "wildcard", moment)


def examine(texts: Iterable[str], wanted: Wanted, now: datetime, warning: timedelta) -> StandingRecord:
    """How the TXT records at a name stand. The best of them counts, as it does for the CA."""
    complaints: list[str] = []
    good: list[Parameters] = []
    for text in texts:
        if text.partition(";")[0].strip(" \t") not in wanted.issuers:
            continue
        try:
            _, found = parse(text)
        except ValueError as error:
            complaints.append(f"The record for {wanted.issuers[0]} {error}.")
            continue
        if found.account != wanted.account:
            complaints.append(f"There is one for another account: {found.account[:200]}.")
        elif wanted.wildcard and not found.wildcard:
            complaints.append("The record lacks policy=wildcard.")
        elif found.until is not None and found.until <= now:
            complaints.append(f"Its persistUntil has passed, on {found.until:%Y-%m-%d %H:%M}Z.")
        else:
            good.append(found)
    if not good:
        detail = complaints[0] if complaints else "There is no such record."
        return StandingRecord(wanted.owner, wanted.value, "wrong" if complaints else "missing", detail)
    ends = [found.until for found in good if found.until is not None]
    if len(ends) < len(good):
        return StandingRecord(wanted.owner, wanted.value, "good", "The record is there, and does not end.")
    until = max(ends)
    detail = f"Its persistUntil is {until:%Y-%m-%d %H:%M}Z."
    if until - now > warning:
        return StandingRecord(wanted.owner, wanted.value, "good", detail, until)
    return StandingRecord(
        wanted.owner, wanted.value, "expiring", f"{detail} Publish it with a later one, or with none.", until
    )


def look(wanted: Sequence[Wanted], names: DNS, now: datetime, warning: timedelta) -> list[StandingRecord]:
    """How the records stand in DNS."""

    def one(each: Wanted) -> StandingRecord:
        try:
            return examine(names.txt(end_of_aliases(each.owner, names)), each, now, warning)
        except DNSUnanswered as error:
            return StandingRecord(each.owner, each.value, "unknown", str(error))
        except IssuerUnavailable as error:
            return StandingRecord(each.owner, each.value, "wrong", error.problem.message)

    return each(wanted, one)


def wanted_for(chosen: Iterable[tuple[Authorization, Challenge]], account: str) -> list[Wanted]:
    """The records for the challenges, one for a name and its wildcard. Raises Nonsense when a challenge is not ours."""
    found: dict[str, Wanted] = {}
    for authorization, challenge in chosen:
        name = authorization.identifier.value
        if not challenge.issuers:
            raise Nonsense(f"the dns-persist-01 challenge for {name} does not say which CA the record should name")
        # Whoever publishes a record for another account gives the names away.
        if challenge.account not in (None, account):
            raise Nonsense(f"the dns-persist-01 challenge for {name} is for another account than ours")
        wildcard = authorization.wildcard or (name in found and found[name].wildcard)
        found[name] = Wanted(name, wildcard, challenge.issuers, account)
    return list(found.values())


def not_ready(records: Iterable[StandingRecord]) -> list[StandingRecord]:
    """Those that the CA would not accept. What DNS did not tell is left to the CA."""
    return [record for record in records if record.status in ("missing", "wrong")]


def to_do(records: Sequence[StandingRecord]) -> str:
    """What a person has to publish, for the operation's status."""
    shown = [f"{record.zone_line} — {record.detail}" for record in records[:_SHOWN]]
    more = f" And {len(records) - _SHOWN} more." if len(records) > _SHOWN else ""
    which = "this DNS record" if len(records) == 1 else f"these {len(records)} DNS records"
    return f"Publish {which}, and leave it there: {' '.join(shown)}{more}"


def pause_for_a_person(since: datetime | None, now: datetime) -> timedelta:
    """How long to wait before looking again."""
    if since is None or since > now:
        return _FIRST_PAUSE
    return max(_FIRST_PAUSE, min(_LONGEST_PAUSE, (now - since) / 10))
