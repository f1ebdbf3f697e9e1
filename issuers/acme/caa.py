"""Whether CAA records let an account at a CA have a certificate (RFC 8659, with the parameters of RFC 8657).

The CA looks for itself when it issues, and its word counts. This tells an operator beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from certbroker.ports.dns import DNS, CAARecord, DNSUnanswered

_ISSUE: Final = "issue"
_ISSUE_WILD: Final = "issuewild"
# What every CA has to know; a critical property that it does not know forbids it to issue (RFC 8659 section 4.1).
_KNOWN: Final = frozenset({_ISSUE, _ISSUE_WILD, "iodef"})
_CRITICAL: Final = 128

_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
# RFC 8659 section 4.2, without the blanks around it. Two places for blanks that touch would make a record of blanks,
# of which it may have 64 KiB, cost their square.
_BLANKS: Final = " \t"
_VALUE: Final = re.compile(rf"((?:{_LABEL})(?:\.{_LABEL})*\.?)?[ \t]*(?:;(.*))?", re.ASCII | re.DOTALL)
_PARAMETER: Final = re.compile(rf"({_LABEL})[ \t]*=[ \t]*([\x21-\x3a\x3c-\x7e]*)", re.ASCII)
_MAX_LABELS: Final = 128


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who wants a certificate, and where."""

    identities: tuple[str, ...]
    """What names the CA in CAA records: `caaIdentities` of its directory."""
    account: str | None
    """The account's URL; None while there is no account."""
    method: str
    """How control over names is proved, such as `http-01`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the CA may issue; None when nobody can say. The sentence is for the operator."""

    allowed: bool | None
    sentence: str


def look_up(name: str, dns: DNS, applicant: Applicant) -> Verdict:
    """What the CAA records in the DNS mean for a name, which may begin with `*.`. Blocks on the network."""
    try:
        place, records = relevant(name, dns)
    except DNSUnanswered as error:
        return Verdict(False, f"No CA issues for {name} while its CAA records cannot be looked up. {error}")
    return judge(name, place, records, applicant)


def relevant(name: str, dns: DNS) -> tuple[str, tuple[CAARecord, ...]]:
    """Where up the tree the records are that count for the name, and what they are (RFC 8659 section 3).

    Raises DNSUnanswered.
    """
    labels = name.removeprefix("*.").rstrip(".").lower().split(".")[-_MAX_LABELS:]
    for start in range(len(labels)):
        place = ".".join(labels[start:])
        records = dns.caa(place)
        if records:
            return place, records
    return "", ()


def judge(name: str, place: str, records: Sequence[CAARecord], applicant: Applicant) -> Verdict:
    """What the records found at `place` mean for a name."""
    for record in records:
        if record.flags & _CRITICAL and record.tag.lower() not in _KNOWN:
            return Verdict(
                False,
                f"The CAA records at {place} have the critical property {record.tag[:40]!r}, which forbids every CA "
                f"that does not know it to issue for {name}: remove it, or its critical flag.",
            )
    kind, properties = _applicable(name, records)
    if not properties:
        return Verdict(True, f"No CAA record restricts who issues for {name}.")
    if not applicant.identities:
        return Verdict(
            None,
            f"CAA records at {place} restrict who issues for {name}, and this CA does not say which name stands for it "
            "in them: look that up in its documentation.",
        )
    own = {identity.lower().rstrip(".") for identity in applicant.identities}
    ours = [each for each in properties if each.issuer in own]
    wanted = f'CAA 0 {kind} "{applicant.identities[0]}"'
    if not ours:
        others = ", ".join(sorted({each.issuer for each in properties if each.issuer})) or "nobody"
        return Verdict(
            False, f"The CAA records at {place} let {others[:300]} issue for {name}; add there: {place}. {wanted}"
        )
    problems = [_unsatisfied(each, applicant) for each in ours]
    satisfied = next((each for each, problem in zip(ours, problems, strict=True) if problem is None), None)
    if satisfied is not None:
        return Verdict(True, f"The CAA records at {place} let {satisfied.issuer} issue for {name}.")
    return Verdict(
        False,
        f"The CAA records at {place} let {ours[0].issuer} issue for {name} only {problems[0]}: correct them, or add "
        f"there: {place}. {wanted}",
    )


@dataclass(frozen=True, slots=True)
class _Property:
    """The value of an `issue` or `issuewild` property; no issuer where it names none, or is malformed."""

    issuer: str
    parameters: tuple[tuple[str, str], ...] = ()

    def values(self, tag: str) -> list[str]:
        return [value for each, value in self.parameters if each == tag]


def _applicable(name: str, records: Collection[CAARecord]) -> tuple[str, list[_Property]]:
    """The properties that count: for a wildcard name those of its own kind, where there are any."""
    kinds = (_ISSUE_WILD, _ISSUE) if name.startswith("*.") else (_ISSUE,)
    for kind in kinds:
        found = [_parsed(record.value) for record in records if record.tag.lower() == kind]
        if found:
            return kind, found
    return kinds[-1], []


def _parsed(value: str) -> _Property:
    match = _VALUE.fullmatch(value.strip(_BLANKS))
    if match is None:
        return _Property("")
    parameters = []
    for part in (each.strip(_BLANKS) for each in (match[2] or "").split(";")):
        if not part:
            continue
        parameter = _PARAMETER.fullmatch(part)
        if parameter is None:
            return _Property("")
        parameters.append((parameter[1].lower(), parameter[2]))
    return _Property((match[1] or "").lower().rstrip("."), tuple(parameters))


def _unsatisfied(found: _Property, applicant: Applicant) -> str | None:
    """What stands in the way of a property that names our CA, as `only …`; None for nothing (RFC 8657)."""
    accounts = found.values("accounturi")
    if len(accounts) > 1:
        return "for several accounts in one record, which is for none"
    if accounts and accounts[0] != applicant.account:
        return f"for the account {accounts[0][:300]}, and ours is {applicant.account or 'not registered yet'}"
    methods = found.values("validationmethods")
    if methods and not all(applicant.method in value.split(",") for value in methods):
        return f"by {methods[0][:100] or 'no method'}, and the issuer's option is challenge={applicant.method}"
    return None
