"""Answers to challenges: made, published, taken away again (RFC 8555 section 8)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, get_args

from josepy.json_util import encode_b64jose

from certbroker import background
from certbroker.domain.operation import Problem
from certbroker.ports.dns import DNS
from certbroker.ports.issuer import BoardKind, ChallengeBoard, DNSPublisher, IssuerUnavailable
from issuers.acme.at_once import each
from issuers.acme.delegation import end_of_aliases
from issuers.acme.identifiers import Unorderable
from issuers.acme.messages import Authorization, Challenge
from issuers.acme.problem import Nonsense
from issuers.acme.settings import BY_DNS, DNS_01, HTTP_01, TLS_ALPN_01
from issuers.acme.signing import AccountKey

# A bound for answers to authorizations without a time of expiry: no CA keeps one pending for longer.
_LONGEST: Final = timedelta(days=7)
_SHORTEST: Final = timedelta(hours=1)
_BOARD_KINDS: Final[dict[str, BoardKind]] = {kind: kind for kind in get_args(BoardKind)}


@dataclass(frozen=True, slots=True)
class BoardAnswer:
    """What our own listeners show: for http-01 at /.well-known/acme-challenge/<token> (section 8.3), for tls-alpn-01 in
    a certificate for the name or address (RFC 8737 section 3).
    """

    kind: BoardKind
    place: str
    key_authorization: str
    expires: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class DNSAnswer:
    """The TXT record of section 8.4."""

    name: str
    value: str


ChallengeAnswer = BoardAnswer | DNSAnswer


def choose(authorization: Authorization, kind: str) -> Challenge:
    """The challenge of that kind; Unorderable when the CA does not offer it for this name."""
    offered = [challenge.kind for challenge in authorization.challenges]
    for challenge in authorization.challenges:
        if challenge.kind == kind:
            return challenge
    raise Unorderable(
        f"The CA offers {', '.join(offered) or 'no challenge'} for {authorization.name}, and the issuer's options "
        f"say challenge={kind}: change the option, or remove the name from the policy."
    )


def answer_to(authorization: Authorization, challenge: Challenge, key: AccountKey) -> ChallengeAnswer:
    """What the CA will look for."""
    if challenge.token is None:
        raise Nonsense(f"the {challenge.kind} challenge for {authorization.name} has no token")
    key_authorization = key.key_authorization(challenge.token)
    if challenge.kind == HTTP_01:
        return BoardAnswer(HTTP_01, challenge.token, key_authorization, authorization.expires)
    if challenge.kind == TLS_ALPN_01:
        return BoardAnswer(TLS_ALPN_01, authorization.identifier.value, key_authorization, authorization.expires)
    digest = encode_b64jose(hashlib.sha256(key_authorization.encode()).digest())
    return DNSAnswer(BY_DNS[DNS_01] + authorization.identifier.value, digest)


def journalled(answers: Iterable[ChallengeAnswer], earlier: Mapping[str, str] | None) -> str:
    """What has to be known to take the answers away again, as text for the journal.

    With what the `earlier` entry of the same step has: names that became valid since are not answered again, and their
    answers still stand.
    """
    known = _read(earlier)
    return json.dumps([_written(answer) for answer in [*known, *(new for new in answers if new not in known)]])


class Publisher:
    """Puts answers up where the CA looks, and takes them away. Every method is safe to repeat."""

    def __init__(self, board: ChallengeBoard, dns: DNSPublisher | None, names: DNS) -> None:
        self._board = board
        self._dns = dns
        self._names = names

    def located(self, answers: Sequence[ChallengeAnswer]) -> list[ChallengeAnswer]:
        """The answers, with DNS records at the names that CNAME records lead to. Raises IssuerUnavailable."""
        names = list(dict.fromkeys(answer.name for answer in answers if isinstance(answer, DNSAnswer)))
        ends = dict(zip(names, each(names, lambda name: end_of_aliases(name, self._names)), strict=True))
        return [
            replace(answer, name=ends[answer.name]) if isinstance(answer, DNSAnswer) else answer for answer in answers
        ]

    def publish(self, answers: Sequence[ChallengeAnswer], earlier: Mapping[str, str] | None, now: datetime) -> None:
        """Return when all answers can be seen. `earlier` is what the journal had of them. Raises IssuerUnavailable."""
        wanted = {(answer.kind, answer.place): answer for answer in answers if isinstance(answer, BoardAnswer)}
        for old in _read(earlier):
            # The account has another key since: its answer would be in our own way.
            if isinstance(old, BoardAnswer) and wanted.get((old.kind, old.place), old) != old:
                self._board.take_down(old.kind, old.place, old.key_authorization)
        # In the order of the names, so that two orders for the same names never wait for each other.
        for _, answer in sorted(wanted.items()):
            self._put(answer, now)
        records = [answer for answer in answers if isinstance(answer, DNSAnswer)]
        if records:
            dns = self._publisher()
            with background.waiting():
                each(records, lambda record: dns.publish(record.name, record.value))

    def withdraw(self, entry: Mapping[str, str]) -> None:
        """Take away the answers that the journal's `entry` names. Raises IssuerUnavailable after trying them all."""
        records: list[DNSAnswer] = []
        for answer in _read(entry):
            if isinstance(answer, BoardAnswer):
                self._board.take_down(answer.kind, answer.place, answer.key_authorization)
            else:
                records.append(answer)
        if self._dns is not None:
            dns = self._dns
            with background.waiting():
                each(records, lambda record: dns.withdraw(record.name, record.value))

    def _put(self, answer: BoardAnswer, now: datetime) -> None:
        expires = min(max(answer.expires or now + _LONGEST, now + _SHORTEST), now + _LONGEST)
        if not self._board.put(answer.kind, answer.place, answer.key_authorization, expires):
            message = (
                f"Another order is being validated for {answer.place} by {answer.kind}, and a CA sees one answer at a "
                "time. This one follows when that has ended."
            )
            raise IssuerUnavailable(Problem("ChallengePlaceTaken", message))

    def _publisher(self) -> DNSPublisher:
        if self._dns is None:
            raise Unorderable("The issuer's options say challenge=dns-01 without the name of a DNS publisher.")
        return self._dns


def _written(answer: ChallengeAnswer) -> list[str]:
    match answer:
        case BoardAnswer(kind, place, key_authorization):
            return [kind, place, key_authorization]
        case DNSAnswer(name, value):
            return [DNS_01, name, value]


def _read(entry: Mapping[str, str] | None) -> list[ChallengeAnswer]:
    """The answers in an entry of the journal."""
    found: list[list[str]] = json.loads((entry or {}).get("answers", "[]"))
    return [
        DNSAnswer(place, value) if kind == DNS_01 else BoardAnswer(_BOARD_KINDS[kind], place, value)
        for kind, place, value in found
    ]
