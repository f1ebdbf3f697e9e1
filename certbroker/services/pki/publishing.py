"""Publishing what private CAs say about their certificates: CRLs and OCSP replies, signed before anybody asks.

A CA that has something to publish is claimed by lease and worked on alone, so that one whose key is away delays no
other. What is published goes on being served meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog
from msgspec.structs import replace

from certbroker.domain.authority import Authority
from certbroker.domain.backoff import doubled
from certbroker.domain.errors import BrokerError
from certbroker.domain.publication import (
    LONGEST_WAIT,
    DueReply,
    PublishingProblem,
    RevocationList,
    StatusReply,
    renewed_at,
)
from certbroker.failpoints import failpoint
from certbroker.ports.authority import Signer
from certbroker.ports.clock import Clock
from certbroker.services.pki.signers import Signers
from certbroker.store.database import SQLiteStore
from certbroker.store.published_files import PublishedFiles
from certbroker.store.transaction import SQLTransaction
from issuers.private_ca import crl, ocsp
from issuers.private_ca.crl import Frame
from issuers.private_ca.ocsp import Standing
from issuers.private_ca.prepare import holds_from, holds_until
from issuers.private_ca.urls import publication_urls

# Longer than a list of many millions takes, or an HSM that answers at all.
LEASE: Final = timedelta(minutes=15)

_FIRST_RETRY: Final = timedelta(minutes=1)
_REPLIES: Final = 200
_TURN_SECONDS: Final = 20.0

# Between two batches of a long list, so that whoever serves requests has the interpreter in between.
_BREATH_SECONDS: Final = 0.001

_UNEXPECTED: Final = "An unexpected error happened; the log has the details."
_log = structlog.get_logger("certbroker.publishing")


@dataclass(frozen=True, slots=True)
class Turn:
    """A CA that has been claimed, with its lease."""

    authority: str
    fence: int
    until: datetime


class Publishing:
    """Makes what is published. A CRL holds for `crl_life` where its CA has no time of its own."""

    def __init__(
        self,
        store: SQLiteStore,
        signers: Signers,
        clock: Clock,
        files: PublishedFiles,
        crl_life: timedelta,
    ) -> None:
        self._store = store
        self._signers = signers
        self._clock = clock
        self._files = files
        self._usual_crl_life = crl_life

    def claim(self, count: int, busy: frozenset[str]) -> list[Turn]:
        """Take CAs that have something to publish, but for those that are being worked on. Nothing where this broker
        has no place to publish.
        """
        if self._signers.url is None or count <= 0:
            return []
        now = self._clock.now()
        latest = now + LONGEST_WAIT + LEASE
        due = self._store.glance().publications.due(now, latest, count + len(busy))
        wanted = [each for each in due if each not in busy][:count]
        if not wanted:
            return []

        def work(transaction: SQLTransaction) -> list[Turn]:
            until = now + LEASE
            taken = ((each, transaction.publications.claim(each, now, latest, until)) for each in wanted)
            return [Turn(each, fence, until) for each, fence in taken if fence is not None]

        return self._store.write(work)

    def go_on(self, turn: Turn) -> None:
        """Publish what is due of a CA. Raises nothing: a CA that cannot is tried again, less and less often."""
        try:
            later = self._publish(turn.authority)
        except Exception as error:
            self._put_off(turn, error)
            return

        def work(transaction: SQLTransaction) -> None:
            transaction.publications.drop_problem(turn.authority)
            transaction.publications.finish(turn.authority, turn.fence, turn.until, later)

        self._store.write(work)

    def tidy(self) -> None:
        """Forget what CAs have published that are gone, and remove the files of lists that have been replaced."""
        now = self._clock.now()
        self._store.write(lambda transaction: transaction.publications.forget_orphans(now))
        self._files.tidy(self._store.glance().publications.published())

    def _publish(self, authority_id: str) -> datetime:
        """Publish what is due, and return when to look again."""
        now = self._clock.now()
        found = self._store.glance().authorities.get(authority_id)
        if found is None or found.not_after <= now.timestamp():
            # Nobody trusts it any more. That may be the fault of a clock, so it is looked at nevertheless.
            return now + LONGEST_WAIT
        signer = self._signers.open(found)
        _check(signer)
        lists = self._store.write(lambda transaction: _lists(transaction, found, now))
        divided = len(lists) > 1 or self._has_twin(found)
        made = [self._list(signer, each, _places(signer, each.shard) if divided else [], now) for each in lists]
        more = self._replies(signer)
        following = self._store.glance().publications.next_reply(authority_id)
        now = self._clock.now()
        if more:
            return now
        return min(now + LONGEST_WAIT, *(each.act_at for each in made), *([following] if following else []))

    def _list(self, signer: Signer, last: RevocationList, places: list[str], now: datetime) -> RevocationList:
        """The newest list of a shard: the last one, or another one where that is due.

        `places` are the URLs that it is for; there are none for one that has everything that the CA's key has revoked.
        """
        authority = signer.authority
        life = self._crl_life(authority)
        whole = last.sha256 is not None and self._files.path(last.sha256).exists()
        if whole and last.partial == bool(places) and not last.is_due(now, life):
            return replace(last, act_at=max(last.act_at, now + last.pause))
        number = self._store.write(lambda transaction: transaction.publications.next_number(authority.id))
        failpoint("publishing.numbered")
        made = self._sign(signer, replace(last, number=number), places, now)
        failpoint("publishing.stored")
        self._store.write(lambda transaction: transaction.publications.put_list(made))
        failpoint("publishing.published")
        _log.info("CRL published", ca=authority.name, shard=made.shard, number=made.number, bytes=made.size)
        return made

    def _sign(self, signer: Signer, wanted: RevocationList, places: list[str], now: datetime) -> RevocationList:
        authority = signer.authority
        last = wanted.this_update
        this_update = holds_from(signer, now)
        next_update = holds_until(signer, now + self._crl_life(authority))
        # RFC 5280 section 3.3: a certificate that has expired leaves the list once it has been on one afterwards.
        since = this_update if last is None else min(last, this_update)
        frame = Frame(signer.certificate, signer.key, wanted.number, this_update, next_update, places)
        with self._store.read() as transaction:
            entries = transaction.publications.entries(authority.id, wanted.shard, int(since.timestamp()))
            content = crl.build(frame, _with_breaks(entries))
        failpoint("publishing.signed")
        return replace(
            wanted,
            sha256=self._files.put(content),
            size=len(content),
            this_update=this_update,
            next_update=next_update,
            partial=bool(places),
            act_at=renewed_at(authority.id, now, next_update),
        )

    def _crl_life(self, authority: Authority) -> timedelta:
        hours = authority.settings.crl_hours
        return self._usual_crl_life if hours is None else timedelta(hours=hours)

    def _has_twin(self, authority: Authority) -> bool:
        """Whether another generation publishes as an issuer of the same name with the same key."""
        generations = self._store.glance().authorities.generations(authority.vault_id, authority.name)
        return any(
            each.id != authority.id
            and each.crl_act_at is not None
            and (each.subject, each.key_sha256) == (authority.subject, authority.key_sha256)
            for each in generations
        )

    def _replies(self, signer: Signer) -> bool:
        """Sign OCSP replies that are due, for a while; whether there are more."""
        authority = signer.authority
        end = time.monotonic() + _TURN_SECONDS
        while True:
            now = self._clock.now()
            latest = now + signer.ocsp_life
            due = self._store.glance().publications.due_replies(authority.id, now, latest, _REPLIES)
            signed = [(each, _reply(signer, each, now)) for each in due]
            failpoint("publishing.signed")
            if due:
                self._store.write(partial(_put_replies, authority.id, signed, now + signer.ocsp_life / 2))
                failpoint("publishing.published")
            if len(due) < _REPLIES:
                return False
            if time.monotonic() > end:
                return True

    def _put_off(self, turn: Turn, error: Exception) -> None:
        """Note what is wrong, and try again later."""
        problem = error.message if isinstance(error, BrokerError) else _UNEXPECTED
        now = self._clock.now()
        known = self._store.glance().publications.problem(turn.authority)
        failures = 1 if known is None else known.failures + 1
        # Once for each cause: what goes on being wrong is in the status and the metrics.
        if known is None or known.problem != problem:
            _log.warning("a CA could not publish", authority=turn.authority, problem=problem, exc_info=error)

        def work(transaction: SQLTransaction) -> None:
            transaction.publications.put_problem(PublishingProblem(turn.authority, now, failures, problem))
            later = now + doubled(_FIRST_RETRY, LONGEST_WAIT, failures)
            transaction.publications.finish(turn.authority, turn.fence, turn.until, later)

        self._store.write(work)


def _lists(transaction: SQLTransaction, authority: Authority, now: datetime) -> list[RevocationList]:
    """The lists that a CA has, after making sure of one for each of its shards."""
    publications = transaction.publications
    for shard in range(authority.settings.shards):
        publications.add_list(authority.id, shard, now)
    lists = publications.lists(authority.id)
    if any(each.this_update is not None and each.this_update > now for each in lists):
        publications.forget_future(authority.id, now)
    return lists


def _reply(signer: Signer, due: DueReply, now: datetime) -> StatusReply | None:
    """Replies about a certificate; None when it has expired, for then nobody asks about it any more."""
    if due.not_after is None or due.not_after <= now.timestamp():
        return None
    revoked = None if due.revoked is None else datetime.fromtimestamp(due.revoked, UTC)
    return ocsp.replies(signer, Standing(int(due.serial, 16), revoked, due.reason), now)


def _put_replies(
    authority: str,
    signed: Sequence[tuple[DueReply, StatusReply | None]],
    later: datetime,
    transaction: SQLTransaction,
) -> None:
    for due, reply in signed:
        if reply is not None:
            transaction.publications.put_reply(authority, due, reply)
        elif due.not_after is None:
            transaction.publications.drop_reply(authority, due.serial)
        else:
            # It goes with its entry in the ledger: a clock may have been wrong.
            transaction.publications.plan_reply(authority, due, later)


def _check(signer: Signer) -> None:
    """Raise BrokerError where what the key signs would be no CRL of this CA."""
    if signer.key.public_key() != signer.certificate.public_key():
        raise BrokerError(f"The key of the CA {signer.authority.name} is not the one in its certificate.")


def _places(signer: Signer, shard: int) -> list[str]:
    """Where certificates of a shard say that their list is."""
    assert signer.url is not None
    place = publication_urls(signer.url, signer.authority.id, shard).crl
    # What was issued before the CA had several lists names the one without a number.
    return [publication_urls(signer.url, signer.authority.id).crl, place] if shard == 0 else [place]


def _with_breaks(batches: Iterator[list[tuple[str, int, int | None]]]) -> Iterator[list[tuple[str, int, int | None]]]:
    for batch in batches:
        yield batch
        time.sleep(_BREATH_SECONDS)
