"""Judging one certificate with those of its issuers by what their sources have said."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509

from certbroker.domain.crl import ON_HOLD, REMOVED, TOLERANCE, Entry, not_covered, reason_name
from certbroker.domain.records import CertificateFacts
from certbroker.domain.revocation_sources import (
    Element,
    Source,
    SourceKind,
    SourceStatus,
    element_of,
    elements_of,
    source,
)
from certbroker.domain.revocation_status import Answer, Judged, Standing, Verdict, combined, kept
from certbroker.services.revocation.lists import RevocationLists
from certbroker.services.revocation.sources import WatchSettings
from certbroker.store.crl_index import Damaged
from certbroker.store.transaction import SQLTransaction

# A chain that is longer than what may be imported is a loop of certificates that name each other.
_LONGEST: Final = 16

_SETTLED: Final = (Standing.GOOD, Standing.REVOKED, Standing.ON_HOLD)


@dataclass(slots=True)
class Judgement:
    """A verdict, and what it depends on. `seen` is the generation of each source.

    `depends` says by source and serial number what is said there, as `Judging.listed` has it. The indexes of `damaged`
    sources cannot be used.
    """

    verdict: Verdict = field(default_factory=Verdict)
    seen: dict[str, int] = field(default_factory=dict)
    new: dict[str, Source] = field(default_factory=dict)
    depends: dict[tuple[str, str], int] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Question:
    """One certificate of a chain, whose issuer is known, and the judgement that it is a part of."""

    transaction: SQLTransaction
    element: Element
    issuer: bytes
    judgement: Judgement
    now: datetime


class Judging:
    """Judges certificates. Reads the database and indexes of CRLs; asks nobody."""

    def __init__(self, lists: RevocationLists, settings: WatchSettings) -> None:
        self._lists = lists
        self._settings = settings

    def judge(self, transaction: SQLTransaction, facts: CertificateFacts, before: Verdict, now: datetime) -> Judgement:
        """What is known of a certificate and its issuers. `before` is what was known at the last time."""
        judgement = Judgement()
        known = {each.sha256: each for each in before.judged}
        waiting = elements_of(facts.chain, facts.leaf, self._settings.named)
        judged: list[Judged] = []
        while waiting and len(judged) < _LONGEST:
            element = waiting.pop(0)
            found, issuer = self._element(transaction, element, judgement, now)
            sha256 = hashlib.sha256(element.der).hexdigest()
            answer = kept(known.get(sha256), found)
            subject = element.certificate.subject.rfc4514_string()[:200]
            judged.append(Judged(sha256, subject, element.serial, not judged, answer))
            if issuer is not None and issuer != element.issuer:
                # It was not in the chain, and may have an issuer itself.
                certificate = x509.load_der_x509_certificate(issuer)
                if certificate.subject != certificate.issuer:
                    waiting.append(element_of(issuer, certificate, None, self._settings.named))
        judgement.verdict = Verdict(tuple(judged))
        return judgement

    def listed(self, asked: Source, serial: int) -> int:
        """What a CRL says of that number: 0 where that is nothing, else more than the reason. Raises Damaged."""
        return _listed(self._entry(asked, serial)) if asked.kind is SourceKind.CRL else 0

    def _element(
        self, transaction: SQLTransaction, element: Element, judgement: Judgement, now: datetime
    ) -> tuple[Answer, bytes | None]:
        """What is known of one certificate, and who has issued it."""
        if not element.is_covered:
            problem = element.unsupported or "It names nobody who says whether it is revoked."
            return Answer(Standing.NOT_COVERED, problem=problem), element.issuer
        issuer = element.issuer
        if issuer is None:
            answers: list[Answer] = []
            for url in element.issuers:
                asked = self._known(transaction, source(SourceKind.ISSUER, url, element.der), judgement)
                judgement.depends[asked.id, element.serial] = 0
                issuer = asked.holding.certificate or issuer
                answers.append(_not_usable(asked))
            if issuer is None:
                unnamed = Answer(Standing.NOT_COVERED, problem="Its issuer's certificate is not here, nor named.")
                return combined(answers or [unnamed]), None
        question = _Question(transaction, element, issuer, judgement, now)
        found = [self._by_list(question, url) for url in element.lists]
        if self._wants_ocsp(found):
            found += [self._by_ocsp(question, url) for url in element.responders]
        return combined(found), issuer

    def _wants_ocsp(self, found: Iterable[Answer]) -> bool:
        """CRLs come first: whoever asks for them tells nobody which certificate he cares about."""
        if self._settings.ocsp != "fallback":
            return self._settings.ocsp == "always"
        standings = {answer.standing for answer in found}
        return not standings & {*_SETTLED, Standing.UNCHECKED}

    def _by_list(self, question: _Question, url: str) -> Answer:
        element, judgement = question.element, question.judgement
        asked = self._known(question.transaction, source(SourceKind.CRL, url, question.issuer), judgement)
        base = asked.holding.base
        key = asked.id, element.serial
        judgement.depends[key] = 0
        if base is None:
            return _not_usable(asked)
        try:
            entry = self._entry(asked, element.certificate.serial_number)
        except Damaged as damage:
            judgement.damaged.add(asked.id)
            return Answer(Standing.UNREACHABLE, url, problem=f"{damage} It is fetched again.")
        judgement.depends[key] = _listed(entry)
        outside = not_covered(base.facts.scope, element.points, is_authority=element.is_authority)
        if outside is not None:
            return Answer(Standing.NOT_COVERED, url, problem=outside)
        if entry is not None and entry.reason != REMOVED:
            standing = Standing.ON_HOLD if entry.reason == ON_HOLD else Standing.REVOKED
            return Answer(standing, url, entry.at, reason_name(entry.reason))
        if not _is_fresh(asked, question.now):
            return _not_usable(asked)
        if base.facts.scope.only_some_reasons:
            return Answer(Standing.UNKNOWN, url, problem="The CRL is about some reasons only.")
        return Answer(Standing.GOOD, url, (asked.holding.news or base).facts.this_update)

    def _by_ocsp(self, question: _Question, url: str) -> Answer:
        serial, judgement = question.element.serial, question.judgement
        wanted = source(SourceKind.OCSP, url, question.issuer, serial)
        asked = self._known(question.transaction, wanted, judgement)
        judgement.depends[asked.id, serial] = 0
        reply = asked.holding.reply
        if reply is None:
            return _not_usable(asked)
        if reply.status == "revoked":
            standing = Standing.ON_HOLD if reply.reason == reason_name(ON_HOLD) else Standing.REVOKED
            return Answer(standing, url, reply.revoked or reply.this_update, reply.reason)
        if not _is_fresh(asked, question.now):
            return _not_usable(asked)
        if reply.status == "unknown":
            return Answer(Standing.UNKNOWN, url, problem=f"The OCSP responder {url} does not know it.")
        return Answer(Standing.GOOD, url, reply.this_update)

    def _entry(self, asked: Source, serial: int) -> Entry | None:
        """What the delta says, and else the list that it belongs to. Raises Damaged."""
        holding = asked.holding
        if holding.base is None:
            return None
        entry = None if holding.news is None else self._lists.find(holding.news.file, serial)
        return entry or self._lists.find(holding.base.file, serial)

    def _known(self, transaction: SQLTransaction, wanted: Source, judgement: Judgement) -> Source:
        """The source as it is stored, or as a new one."""
        stored = transaction.sources.get(wanted.id)
        if stored is None:
            judgement.new[wanted.id] = wanted
        known = stored or wanted
        judgement.seen[wanted.id] = known.generation
        return known


def _listed(entry: Entry | None) -> int:
    return 0 if entry is None or entry.reason == REMOVED else entry.reason + 1


def _is_fresh(asked: Source, now: datetime) -> bool:
    until = asked.holding.fresh_until
    return until is not None and now < until + TOLERANCE


def _not_usable(asked: Source) -> Answer:
    holding = asked.holding
    if asked.status is SourceStatus.NEW:
        return Answer(Standing.UNCHECKED, asked.url, problem=f"{asked.url} has not been asked yet.")
    said = f"{asked.url} cannot be used. {holding.problem}".rstrip()
    return Answer(Standing.UNREACHABLE, asked.url, problem=said, since=holding.failing_since)
