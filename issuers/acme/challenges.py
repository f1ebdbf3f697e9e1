"""Answers to challenges: made, published, taken away again (RFC 8555 section 8)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from josepy.json_util import encode_b64jose

from certbroker.ports.issuer import ChallengeBoard, DNSPublisher, IssuerUnavailable
from issuers.acme.identifiers import Unorderable
from issuers.acme.messages import Authorization, Challenge
from issuers.acme.problem import Nonsense
from issuers.acme.settings import DNS_01, HTTP_01
from issuers.acme.signing import AccountKey

# Publishing waits for name servers, so the records of many names are published at once.
_AT_ONCE: Final = 8
# A bound for answers to authorizations without a time of expiry: no CA keeps one pending for longer.
_LONGEST: Final = timedelta(days=7)
_SHORTEST: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class HTTPAnswer:
    """What stands at /.well-known/acme-challenge/<token> (section 8.3)."""

    token: str
    key_authorization: str
    expires: datetime | None


@dataclass(frozen=True, slots=True)
class DNSAnswer:
    """The TXT record of section 8.4."""

    name: str
    value: str


ChallengeAnswer = HTTPAnswer | DNSAnswer


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
        return HTTPAnswer(challenge.token, key_authorization, authorization.expires)
    digest = encode_b64jose(hashlib.sha256(key_authorization.encode()).digest())
    return DNSAnswer(f"_acme-challenge.{authorization.identifier.value}", digest)


def journalled(answers: Iterable[ChallengeAnswer], earlier: Mapping[str, str] | None) -> str:
    """What has to be known to take the answers away again, as text for the journal.

    With what the `earlier` entry of the same step has: names that became valid since are not answered again, and their
    answers still stand.
    """
    known = json.loads((earlier or {}).get("answers", "[]"))
    found = [
        [HTTP_01, answer.token] if isinstance(answer, HTTPAnswer) else [DNS_01, answer.name, answer.value]
        for answer in answers
    ]
    return json.dumps(known + [entry for entry in found if entry not in known])


class Publisher:
    """Puts answers up where the CA looks, and takes them away. Every method is safe to repeat."""

    def __init__(self, board: ChallengeBoard, dns: DNSPublisher | None) -> None:
        self._board = board
        self._dns = dns

    def publish(self, answers: Iterable[ChallengeAnswer], now: datetime) -> None:
        """Return when all answers can be seen. Raises IssuerUnavailable."""
        records: list[DNSAnswer] = []
        for answer in answers:
            if isinstance(answer, HTTPAnswer):
                expires = min(max(answer.expires or now + _LONGEST, now + _SHORTEST), now + _LONGEST)
                self._board.put(answer.token, answer.key_authorization, expires)
            else:
                records.append(answer)
        if records:
            dns = self._publisher()
            _each(records, lambda record: dns.publish(record.name, record.value))

    def withdraw(self, entry: Mapping[str, str]) -> None:
        """Take away the answers that the journal's `entry` names. Raises IssuerUnavailable after trying them all."""
        records: list[DNSAnswer] = []
        for kind, *fields in json.loads(entry.get("answers", "[]")):
            if kind == HTTP_01:
                self._board.take_down(fields[0])
            else:
                records.append(DNSAnswer(*fields))
        if records and self._dns is not None:
            dns = self._dns
            _each(records, lambda record: dns.withdraw(record.name, record.value))

    def _publisher(self) -> DNSPublisher:
        if self._dns is None:
            raise Unorderable("The issuer's options say challenge=dns-01 without the name of a DNS publisher.")
        return self._dns


def _each(records: list[DNSAnswer], action: Callable[[DNSAnswer], None]) -> None:
    failure: IssuerUnavailable | None = None
    with ThreadPoolExecutor(min(_AT_ONCE, len(records)), "dns-01") as pool:
        for done in [pool.submit(action, record) for record in records]:
            try:
                done.result()
            except IssuerUnavailable as error:
                failure = failure or error
    if failure is not None:
        raise failure
