"""Asking those who say whether certificates are revoked: CRLs, OCSP responders, and where issuers' certificates lie.

What is asked is shared by all certificates that depend on it. A source that cannot be asked keeps what it has said for
as long as that holds, and delays nobody else.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote, urljoin

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from msgspec.structs import replace

from certbroker.domain.backoff import doubled, fraction
from certbroker.domain.chain import issued
from certbroker.domain.crl import TOLERANCE, CRLFacts, Scope, refusal
from certbroker.domain.errors import BrokerError, Invalid
from certbroker.domain.events import Event, EventType, event_id
from certbroker.domain.objects import Kind
from certbroker.domain.ocsp import OCSPReply, Question, read_reply
from certbroker.domain.one_line import one_line
from certbroker.domain.revocation_sources import PATIENCE, HeldList, Holding, Named, Source, SourceKind, SourceStatus
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.egress import Egress, EgressFailed, EgressRefused, OutsideResponse
from certbroker.randomness import random_bytes
from certbroker.services.notification.outbox import publish
from certbroker.services.revocation.lists import RevocationLists
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

# Longer than a fetch with its redirects and its reading may take.
LEASE: Final = timedelta(minutes=30)

_FIRST_RETRY: Final = timedelta(minutes=1)
_LAST_RETRY: Final = timedelta(hours=6)
# Replies of OCSP are asked for again in the middle of their life, within these.
_SOONEST: Final = timedelta(minutes=1)
_LATEST: Final = timedelta(hours=12)

# RFC 6960 appendix A.1: a request that is short goes by GET, so that it can be answered from a cache.
_LONGEST_GET: Final = 255
_MOST_REDIRECTS: Final = 3
_MAX_REPLY: Final = 64 * 1024
_MAX_TOLD: Final = 300

_UNEXPECTED: Final = "An unexpected error happened; the log has the details."
_log = structlog.get_logger("certbroker.watch")


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How it is watched. `interval` is between two looks at a CRL; `timeout` is of one, in seconds."""

    enabled: bool = True
    interval: timedelta = timedelta(hours=1)
    max_bytes: int = 64 << 20
    timeout: float = 60.0
    ocsp: str = "fallback"
    replace: bool = True
    named: tuple[Named, ...] = ()


class RevocationSources:
    """Asks sources that are due."""

    def __init__(
        self, store: SQLiteStore, lists: RevocationLists, egress: Egress, clock: Clock, settings: WatchSettings
    ) -> None:
        self._store = store
        self._lists = lists
        self._egress = egress
        self._clock = clock
        self._settings = settings

    def claim(self, count: int) -> list[Source]:
        """Take what is due; nobody else asks it before the lease is over."""
        now = self._clock.now()
        if not self._store.glance().sources.has_due(now):
            return []
        return self._store.write(lambda transaction: transaction.sources.claim(now, now + LEASE, count))

    def ask(self, source_id: str) -> None:
        """Ask one because somebody wants to know now: what is stored then is no older than the call. Blocks."""
        until = self._clock.now() + LEASE
        for _ in range(2):
            taken = self._store.write(lambda transaction: transaction.sources.take(source_id, until))
            if taken is None or self.fetch(taken):
                return
        # Whoever was first the second time has begun after somebody was first the first time.

    def put_off(self, source: Source) -> None:
        """Leave it for later, because too many wait for its host."""
        until = self._clock.now() + _FIRST_RETRY
        self._store.write(lambda transaction: transaction.sources.hurry(source.id, until))

    def fetch(self, source: Source) -> bool:
        """Ask one that was claimed, and store what comes of it, unless somebody has stored something meanwhile.

        Raises nothing: a failure is stored too.
        """
        is_lost = self._whole(source.holding) != source.holding
        try:
            failpoint("watch.fetch.before")
            holding = self._asked(source)
            failpoint("watch.fetch.after-call")
        except (BrokerError, EgressFailed, EgressRefused) as error:
            return self._stored(source, self._failed(source, _words(error)), is_lost)
        except Exception:
            _log.exception("source of revocations could not be asked", url=source.url)
            return self._stored(source, self._failed(source, _UNEXPECTED), is_lost)
        return self._stored(source, self._succeeded(source, holding), is_lost)

    def _whole(self, holding: Holding) -> Holding:
        """What of it can be used: without its index a list says nothing, and without its list a delta."""
        base, delta = holding.base, holding.delta
        if base is not None and not self._lists.is_whole(base.file):
            return replace(holding, base=None, delta=None)
        if delta is not None and not self._lists.is_whole(delta.file):
            return replace(holding, delta=None)
        return holding

    def _asked(self, source: Source) -> Holding:
        match source.kind:
            case SourceKind.CRL:
                return self._lists_of(source)
            case SourceKind.OCSP:
                return replace(source.holding, reply=self._reply_of(source))
            case SourceKind.ISSUER:
                return replace(source.holding, certificate=self._issuer_of(source))

    def _lists_of(self, source: Source) -> Holding:
        """The list, and its delta where it names one. That a delta fails leaves the list as it is."""
        holding = source.holding
        base = self._list(source, source.url, holding.base, lambda new, held: refusal(new, held, self._clock.now()))
        if not base.facts.fresher:
            return replace(holding, base=base, delta=None, delta_problem="")
        delta = self._whole(replace(holding, base=base)).delta
        if not _fits(delta, base):
            delta = None
        problem = ""
        for url in base.facts.fresher:
            try:
                delta = self._list(
                    source,
                    urljoin(source.url, url),
                    delta,
                    lambda new, held: refusal(new, held, self._clock.now(), delta=True, base=base.facts),
                )
                problem = ""
                break
            except (BrokerError, EgressFailed, EgressRefused) as error:
                problem = f"The delta CRL at {url[:200]}: {_words(error)}"
        return replace(holding, base=base, delta=delta, delta_problem=problem)

    def _list(
        self,
        source: Source,
        url: str,
        held: HeldList | None,
        refused: Callable[[CRLFacts, CRLFacts | None], str | None],
    ) -> HeldList:
        """The list at a URL, taken in if it has changed. Raises Invalid, EgressFailed, EgressRefused."""
        now, headers = self._clock.now(), {}
        named = any(each.crl == source.url for each in self._settings.named)
        if held is not None and held.url == url and now < held.facts.fresh_until and self._lists.is_whole(held.file):
            known = {"if-none-match": held.etag, "if-modified-since": held.last_modified}
            headers = {name: value for name, value in known.items() if value}
        with self._lists.incoming() as file:
            answer = self._request(url, headers, lambda to, given: self._download(to, given, file))
            if answer.status == 304 and headers and held is not None:
                return held
            if answer.status != 200:
                raise Invalid(f"It answered with status {answer.status} instead of a CRL.")
            file.flush()
            facts, name = self._lists.take_in(Path(file.name), source.about, named=named)
        reason = refused(facts, held.facts if held is not None else None)
        if reason is not None:
            raise Invalid(reason)
        etag, modified = (answer.headers.get(header, "")[:200] for header in ("etag", "last-modified"))
        return HeldList(facts, name, url, etag, modified)

    def _download(self, url: str, headers: dict[str, str], file: IO[bytes]) -> OutsideResponse:
        file.seek(0)  # What came with a redirect before is overwritten.
        file.truncate()
        settings = self._settings
        return self._egress.request(
            "GET", url, headers=headers, max_bytes=settings.max_bytes, timeout=settings.timeout, into=file
        )

    def _reply_of(self, source: Source) -> OCSPReply:
        issuer = x509.load_der_x509_certificate(source.about)
        try:
            return self._ask(source, Question(issuer, int(source.serial, 16), random_bytes(32)))
        except Invalid as refused:
            # Responders that answer from a store of replies made before may refuse a nonce (RFC 5019 section 2.1.1).
            if "refuses to answer" not in refused.message:
                raise
            return self._ask(source, Question(issuer, int(source.serial, 16), b""))

    def _ask(self, source: Source, question: Question) -> OCSPReply:
        request = question.encoded()
        path = f"{source.url.rstrip('/')}/{quote(base64.b64encode(request), safe='')}"
        kind, short = {"content-type": "application/ocsp-request"}, len(path) <= _LONGEST_GET

        def send(url: str, headers: dict[str, str]) -> OutsideResponse:
            method, given, content = ("GET", headers, None) if short else ("POST", headers | kind, request)
            return self._egress.request(
                method, url, headers=given, content=content, max_bytes=_MAX_REPLY, timeout=self._settings.timeout
            )

        answer = self._request(path if short else source.url, {}, send)
        if answer.status != 200:
            raise Invalid(f"It answered with status {answer.status} instead of an OCSP reply.")
        return read_reply(answer.body, question, source.holding.reply, self._clock.now())

    def _issuer_of(self, source: Source) -> bytes:
        """The certificate at the URL that has issued the one that it is about, in DER."""

        def send(url: str, headers: dict[str, str]) -> OutsideResponse:
            return self._egress.request(
                "GET", url, headers=headers, max_bytes=_MAX_REPLY, timeout=self._settings.timeout
            )

        answer = self._request(source.url, {}, send)
        if answer.status != 200:
            raise Invalid(f"It answered with status {answer.status} instead of a certificate.")
        certificate = x509.load_der_x509_certificate(source.about)
        for issuer in _certificates(answer.body):
            if issued(issuer, certificate):
                return issuer.public_bytes(Encoding.DER)
        raise Invalid("What is there is not the certificate of the issuer.")

    def _request(
        self, url: str, headers: dict[str, str], send: Callable[[str, dict[str, str]], OutsideResponse]
    ) -> OutsideResponse:
        """Follows a few redirects. The egress policy is asked about each."""
        for _ in range(_MOST_REDIRECTS + 1):
            answer = send(url, headers)
            location = answer.headers.get("location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return answer
            url = urljoin(url, location)
        raise Invalid(f"It redirects more than {_MOST_REDIRECTS} times.")

    def _succeeded(self, source: Source, holding: Holding) -> Source:
        now = self._clock.now()
        holding = replace(holding, confirmed=now, failures=0, failing_since=None, told=False, problem="")
        if source.kind is SourceKind.ISSUER:
            pause = None  # Who has issued a certificate does not change.
        elif holding.reply is not None:
            left = holding.reply.fresh_until - now
            usual = left / 2 if holding.reply.next_update is not None else self._settings.interval
            pause = max(_SOONEST, min(usual, _LATEST))
        else:
            # Not all at the same time, and not before the next list can be there.
            pause = self._settings.interval * (0.9 + 0.1 * fraction(source.id, now.isoformat()))
            pause = max(_SOONEST, min((pause, *_until_the_next(holding, now))))
        act_at = None if pause is None else now + pause
        return replace(source, holding=holding, status=SourceStatus.FRESH, act_at=act_at)

    def _failed(self, source: Source, problem: str) -> Source:
        now, before = self._clock.now(), source.holding
        failures = before.failures + 1
        since = before.failing_since or now
        holding = replace(self._whole(before), failures=failures, failing_since=since, problem=problem[:500])
        until = holding.fresh_until
        holds = until is not None and now < until + TOLERANCE
        act_at = now + min(doubled(_FIRST_RETRY, _LAST_RETRY, failures), max(self._settings.interval, _FIRST_RETRY))
        if until is not None and holds:
            act_at = min(act_at, until + TOLERANCE)  # When it is told that nothing holds any more.
        status = SourceStatus.FAILING if holds or holding.certificate is not None else SourceStatus.STALE
        if status is SourceStatus.STALE and now >= since + PATIENCE:
            holding = replace(holding, told=True)
        return replace(source, holding=holding, status=status, act_at=act_at)

    def _stored(self, before: Source, after: Source, is_lost: bool) -> bool:
        """Store it, and have those gone through whom it may concern; False when somebody else was first.

        Where an index of what was held `is_lost`, that is everybody: who was judged meanwhile could not be.
        """

        def work(transaction: SQLTransaction) -> bool:
            if not transaction.sources.save(after, after.act_at):
                return False
            if is_lost or _differs(before, after):
                everybody = is_lost or _concerns_everybody(before, after)
                transaction.sources.begin_pass(after.id, everybody=everybody)
            if after.holding.told and not before.holding.told:
                publish(transaction, *_unknown(transaction, after, self._clock.now()))
            return True

        saved = self._store.write(work)
        failpoint("watch.fetch.recorded")
        if after.holding.problem and after.holding.problem != before.holding.problem:
            _log.warning("source of revocations fails", url=after.url, problem=after.holding.problem)
        return saved


def _unknown(transaction: SQLTransaction, source: Source, now: datetime) -> Iterator[Event]:
    """That nobody can know whether certificates are revoked, to each vault that has some.

    Each certificate asks an OCSP responder for itself: that it is away is told once for all of them.
    """
    kind, since = EventType.REVOCATION_UNKNOWN, source.holding.failing_since or now
    url = one_line(source.url, _MAX_TOLD)
    for vault, count in transaction.sources.vaults(source.id).items():
        how_many = "A certificate" if count == 1 else f"{count} certificates"
        if source.kind is SourceKind.OCSP:
            how_many = "At least one certificate"
        message = (
            f"{how_many} of this vault cannot be known to be good: {url} has said nothing that holds, and "
            f"could not be asked since {since:%Y-%m-%d %H:%M} UTC. {source.holding.problem}"
        )
        identity = event_id(kind, vault, Kind.CERTIFICATE, "", "", f"{source.url} {since:%Y-%m-%d}")
        yield Event(identity, kind, vault, Kind.CERTIFICATE, "", "", now, message=message, details={"source": url})


def _differs(before: Source, after: Source) -> bool:
    """Whether there may be somebody for whom it makes a difference."""
    return _concerns_everybody(before, after) or _files(before.holding) != _files(after.holding)


def _concerns_everybody(before: Source, after: Source) -> bool:
    """Whether it is not only about those whose entry in the list has changed."""
    old, new = before.holding, after.holding
    said = old.reply != new.reply or old.certificate != new.certificate
    return said or _usable(before) != _usable(after) or _scope(old) != _scope(new)


def _files(holding: Holding) -> tuple[str, str]:
    return holding.base.file if holding.base else "", holding.news.file if holding.news else ""


def _scope(holding: Holding) -> Scope | None:
    return holding.base.facts.scope if holding.base else None


def _until_the_next(holding: Holding, now: datetime) -> Iterator[timedelta]:
    """How long until there is to be another list, and another delta."""
    if holding.base is not None:
        yield holding.base.facts.fresh_until - now
    if holding.delta is not None:
        # The longer one has run out that none follows, the more seldom it is asked for: the list is believed meanwhile.
        yield abs(holding.delta.facts.fresh_until - now)


def _usable(source: Source) -> tuple[bool, bool]:
    return source.status in (SourceStatus.FRESH, SourceStatus.FAILING), source.status is SourceStatus.NEW


def _fits(delta: HeldList | None, base: HeldList) -> bool:
    """Whether a delta that is held can still be added to the list: it has what was revoked since."""
    if delta is None or delta.facts.base is None or base.facts.number is None:
        return False
    return delta.facts.base <= base.facts.number and delta.facts.scope == base.facts.scope


def _certificates(data: bytes) -> list[x509.Certificate]:
    """Certificates in DER, PEM or PKCS#7 (RFC 5280 section 4.2.2.1)."""
    readers: tuple[Callable[[bytes], list[x509.Certificate]], ...] = (
        lambda given: [x509.load_der_x509_certificate(given)],
        pkcs7.load_der_pkcs7_certificates,
        x509.load_pem_x509_certificates,
    )
    for read in readers:
        try:
            return read(data)
        except (ValueError, UnsupportedAlgorithm):
            continue
    raise Invalid("What is there is no certificate.")


def _words(error: Exception) -> str:
    return error.message if isinstance(error, BrokerError) else str(error)
