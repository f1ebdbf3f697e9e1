"""Watching whether certificates are revoked: what is judged when, and what comes of it.

A check of a certificate gathers what its sources have said, and never asks them itself. It ends in one transaction:
the verdict, what it depends on, and, where it is bad, what is done about that. When a source has something new, those
who depend on it are gone through in batches, and only those for whom it makes a difference are checked again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from msgspec.structs import replace

from certbroker.domain.audit import Caller, record
from certbroker.domain.backoff import fraction
from certbroker.domain.objects import Kind, Vault
from certbroker.domain.records import Version
from certbroker.domain.revocation_sources import Source, SourceStatus, source_settings
from certbroker.domain.revocation_status import Watched
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.objects.naming import live
from certbroker.services.revocation.findings import RevocationFindings
from certbroker.services.revocation.judging import Judgement, Judging
from certbroker.services.revocation.lists import RevocationLists
from certbroker.services.revocation.sources import RevocationSources, WatchSettings
from certbroker.store.crl_index import Damaged
from certbroker.store.database import SQLiteStore
from certbroker.store.revocation_sources import Dependent, Pass
from certbroker.store.transaction import SQLTransaction
from certbroker.store.watches import Watch

LEASE: Final = timedelta(minutes=5)

# Everything is checked again within this time, whatever happens: for what nobody has foreseen.
_AGAIN: Final = timedelta(days=7)
_RENAMED: Final = timedelta(minutes=10)
_AT_MOST_EACH: Final = timedelta(minutes=1)
_NAMED: Final = "revocation.named"

# How often a check that somebody waits for is made, while news keep arriving.
_ATTEMPTS: Final = 5

_BATCH: Final = 500
_PASSES: Final = 8
_TIDIED: Final = 1000
_log = structlog.get_logger("certbroker.watch")


@dataclass(frozen=True, slots=True)
class WatchView:
    """What is known of a certificate, and the sources that it is known from. `watched` is None before the first."""

    watched: Watched | None
    sources: tuple[Source, ...]
    act_at: datetime | None = None


class Watching:
    """Judges certificates, and goes through those whom news concern."""

    def __init__(
        self,
        store: SQLiteStore,
        lists: RevocationLists,
        sources: RevocationSources,
        findings: RevocationFindings,
        clock: Clock,
        inbox: Inbox,
        settings: WatchSettings,
    ) -> None:
        self.sources = sources
        self.settings = settings
        self._store = store
        self._lists = lists
        self._findings = findings
        self._clock = clock
        self._inbox = inbox
        self._judging = Judging(lists, settings)

    def start(self) -> None:
        """Check everything again soon if the operator names other sources than at the last start."""
        now, named = self._clock.now(), source_settings(self.settings.named, self.settings.ocsp)
        self._lists.clear()

        def work(transaction: SQLTransaction) -> None:
            if (transaction.vaults.setting(_NAMED) or source_settings((), "fallback")) != named:
                transaction.watches.call_back(now, _RENAMED)
                transaction.vaults.put_setting(_NAMED, named)

        self._store.write(work)

    def claim(self, count: int) -> list[Watch]:
        """Take what is to be checked; nobody else does before the lease is over."""
        now = self._clock.now()
        due = self._store.glance().watches.next_due()
        if due is None or due > now:
            return []
        return self._store.write(lambda transaction: transaction.watches.claim(now, now + LEASE, count))

    def check(self, watches: list[Watch]) -> bool:
        """Judge certificates that were claimed by what is known now.

        False where something has changed meanwhile for one of them, which is due again therefore.
        """
        now = self._clock.now()
        with self._store.read() as transaction:
            works = [self._work(transaction, watch, now) for watch in watches]
        failpoint("watch.check.before")
        outcomes = self._store.write_all(works)
        failpoint("watch.check.after")
        for watch, outcome in zip(watches, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                # It is due again when its lease is over.
                _log.error("certificate could not be checked", certificate=watch.name, exc_info=outcome)
        if True in outcomes:
            self._inbox.wake()
        return None not in outcomes

    def check_now(self, caller: Caller, vault: Vault, name: str) -> WatchView:
        """Ask all sources of a certificate, and judge it by their answers. Blocks. Raises NotFound."""
        with self._store.read() as transaction:
            head = live(transaction, vault.id, Kind.CERTIFICATE, name)
        now = self._clock.now()
        self._store.audit(record(caller, now, f"/certificates/{head.name}/revocation/check"))
        self._check_one(vault.id, name)
        asked: set[str] = set()
        # What one source says may show the way to another: an issuer's certificate to its CRL.
        while ids := {each for each, _ in self._store.glance().sources.of(vault.id, name.lower())} - asked:
            for source_id in sorted(ids):
                self.sources.ask(source_id)
            asked |= ids
            self._check_one(vault.id, name)
        return self.view(vault, name)

    def view(self, vault: Vault, name: str) -> WatchView:
        """What is known of a certificate. Raises NotFound."""
        with self._store.read() as transaction:
            live(transaction, vault.id, Kind.CERTIFICATE, name)
            watch = transaction.watches.get(vault.id, name)
            ids = dict.fromkeys(source_id for source_id, _ in transaction.sources.of(vault.id, name.lower()))
            stored = [transaction.sources.get(each) for each in ids]
            version = transaction.objects.get(vault.id, Kind.CERTIFICATE, name)
        sources = tuple(each for each in stored if each is not None)
        # What is known of another version says nothing of this one.
        if watch is None or version is None or watch.watched.version != version.version:
            return WatchView(None, sources)
        return WatchView(watch.watched, sources, watch.act_at)

    def listing(self, count: int) -> list[Source]:
        """The CRLs, and whatever else is asked and does not answer."""
        with self._store.read() as transaction:
            found = transaction.sources.lists(count)
            for status in (SourceStatus.STALE, SourceStatus.FAILING):
                found += transaction.sources.unwell(status, count)
        return list({each.id: each for each in found}.values())[:count]

    def go_through(self) -> int:
        """Go on with the walks over those who depend on what is new. Returns how many were looked at."""
        walks = self._store.glance().sources.passing(_PASSES)
        return sum(self._go_through(walk) for walk in walks)

    def tidy(self) -> None:
        """Forget sources that nothing depends on any more, and remove indexes that nobody holds."""
        after = ""
        while True:
            unused, after = self._store.glance().sources.unused(after, _TIDIED)
            for source_id in unused:
                self._store.write(partial(_forget, source_id=source_id))
            if not after:
                break
        self._lists.keep(self._store.glance().sources.files(), self._clock.now())

    def _check_one(self, vault_id: int, name: str) -> None:
        now = self._clock.now()

        def take(transaction: SQLTransaction) -> Watch | None:
            transaction.watches.disturb(vault_id, name, now + LEASE)
            return transaction.watches.take(vault_id, name, now + LEASE)

        for _ in range(_ATTEMPTS):
            watch = self._store.write(take)
            if watch is None or self.check([watch]):
                return

    def _work(
        self, transaction: SQLTransaction, watch: Watch, now: datetime
    ) -> Callable[[SQLTransaction], bool | None]:
        """What is to be written about a certificate. It returns what `_conclude` does."""
        version = transaction.objects.get(watch.vault_id, Kind.CERTIFICATE, watch.name)
        if version is None or version.certificate is None:
            return lambda writing: _unwatch(writing, watch)
        if not version.attributes.enabled or version.certificate.not_after <= now.timestamp():
            # Nobody accepts it, and CAs take what has expired off their lists.
            return lambda writing: self._let_go(writing, watch)
        judgement = self._judging.judge(transaction, version.certificate, watch.watched.verdict, now)
        return lambda writing: self._conclude(writing, watch, version, judgement, now)

    def _let_go(self, transaction: SQLTransaction, watch: Watch) -> bool | None:
        if not transaction.watches.save(replace(watch, watched=Watched()), None):
            return None
        transaction.sources.leave_all(watch.vault_id, watch.name)
        return False

    def _conclude(
        self, transaction: SQLTransaction, watch: Watch, version: Version, judgement: Judgement, now: datetime
    ) -> bool | None:
        """What a check comes to, in one transaction; whether the certificate was found revoked by it.

        None where something has changed meanwhile, and nothing was written.
        """
        current = transaction.objects.head(watch.vault_id, Kind.CERTIFICATE, watch.name)
        if current is None or current.current != version.version or not _is_unchanged(transaction, judgement):
            transaction.watches.disturb(watch.vault_id, watch.name, now)
            return None
        before = (
            watch.watched
            if watch.watched.version == version.version
            else Watched(replaced_for=watch.watched.replaced_for)
        )
        watched = Watched(version.version, judgement.verdict, now, before.replaced_for)
        pause = _AGAIN * (0.5 + 0.5 * fraction(str(watch.vault_id), watch.name, now.isoformat()))
        if not transaction.watches.save(replace(watch, watched=watched), now + pause):
            return None
        self._depend(transaction, watch, judgement, now)
        replaced = self._findings.act(transaction, watch.vault_id, version, before, watched, now)
        if replaced is None:
            return False
        if replaced != watched.replaced_for:
            watched = replace(watched, replaced_for=replaced)
            transaction.watches.save(replace(watch, watched=watched), now + pause)
        return True

    def _depend(self, transaction: SQLTransaction, watch: Watch, judgement: Judgement, now: datetime) -> None:
        """Store what the certificate depends on, where that has changed."""
        before = transaction.sources.of(watch.vault_id, watch.name)
        for (source_id, serial), listed in judgement.depends.items():
            if before.get((source_id, serial)) != listed:
                new = judgement.new.get(source_id)
                if new is not None:
                    transaction.sources.add(new, now)
                transaction.sources.depend(source_id, Dependent(watch.vault_id, watch.name, serial, listed))
        for source_id, serial in before.keys() - judgement.depends.keys():
            transaction.sources.leave(watch.vault_id, watch.name, source_id, serial)
        for source_id in judgement.damaged:
            _fetch_again(transaction, source_id, now)

    def _go_through(self, walk: Pass) -> int:
        """One batch: whose entry has changed is checked again."""
        with self._store.read() as transaction:
            stored = transaction.sources.get(walk.source_id)
            dependents = transaction.sources.on(walk.source_id, walk.position, _BATCH)
        if stored is None:
            return 0
        changed: list[Dependent] = []
        for each in dependents:
            try:
                listed = self._judging.listed(stored, int(each.serial, 16))
            except Damaged:
                changed.append(each)  # The check has it fetched again.
                continue
            if walk.everybody or listed != each.listed:
                changed.append(replace(each, listed=listed))
        now, last = self._clock.now(), dependents[-1] if len(dependents) == _BATCH else None

        def work(transaction: SQLTransaction) -> None:
            if not transaction.sources.passed(walk, stored.generation, last):
                return  # There is something newer, which is gone through from the start.
            for each in changed:
                transaction.watches.disturb(each.vault_id, each.name, now)

        failpoint("watch.pass.before")
        self._store.write(work)
        failpoint("watch.pass.after")
        return len(dependents)


def _unwatch(transaction: SQLTransaction, watch: Watch) -> bool:
    """The certificate is deleted, or has no version yet. A look at it brings the watch back."""
    transaction.watches.remove(watch.vault_id, watch.name)
    transaction.sources.leave_all(watch.vault_id, watch.name)
    return False


def _fetch_again(transaction: SQLTransaction, source_id: str, now: datetime) -> None:
    """Have a list fetched whose index is lost: at once, unless it has just been, because the disk keeps none."""
    stored = transaction.sources.get(source_id)
    confirmed = None if stored is None else stored.holding.confirmed
    is_new = confirmed is not None and abs(now - confirmed) < _AT_MOST_EACH
    transaction.sources.hurry(source_id, now + _AT_MOST_EACH if is_new else now)


def _forget(transaction: SQLTransaction, *, source_id: str) -> None:
    if not transaction.sources.on(source_id, (0, "", ""), 1):
        transaction.sources.remove(source_id)


def _is_unchanged(transaction: SQLTransaction, judgement: Judgement) -> bool:
    """Whether the sources still say what the verdict is made of."""
    for source_id, seen in judgement.seen.items():
        stored = transaction.sources.get(source_id)
        # Another check may have added it meanwhile; it has said nothing yet either way.
        if (0 if stored is None else stored.generation) != seen:
            return False
    return True
