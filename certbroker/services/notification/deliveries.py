"""Delivering events: what the engine does with a channel that has something to deliver."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

import structlog
from msgspec.structs import replace

from certbroker.domain.channels import CONTACTS, MOST_CHANNELS, Channel, Lane, Outcome, pause
from certbroker.domain.errors import BrokerError, LeaseLost
from certbroker.domain.events import WARNINGS, Event, EventType
from certbroker.domain.objects import object_path
from certbroker.domain.one_line import one_line
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.notifier import (
    Confirms,
    NotDelivered,
    Notification,
    Notifier,
    NotifierKind,
    NotifierResources,
    NotifierSettings,
    Undeliverable,
)
from certbroker.ports.seal import Seal
from certbroker.randomness import random_bytes
from certbroker.store.channels import DueChannel
from certbroker.store.database import SQLiteStore
from certbroker.store.outbox import Waiting
from certbroker.store.transaction import SQLTransaction

# Several times as long as one delivery may take; it is extended after each.
LEASE: Final = timedelta(seconds=180)

# What a channel gets done before the next has its turn, at most.
_BATCH: Final = 50
_TURN: Final = timedelta(seconds=30)

_MAX_REASON: Final = 500
_UNEXPECTED: Final = "An unexpected error happened; the log has the details."
_log = structlog.get_logger("certbroker.notify")


class Deliveries:
    """Claims channels that have something to deliver, and delivers it. One worker at a time has a channel.

    `vault_url` gives the URL of a vault by its name.
    """

    def __init__(
        self,
        store: SQLiteStore,
        seal: Seal,
        kinds: Mapping[str, NotifierKind],
        resources: NotifierResources,
        vault_url: Callable[[str], str],
    ) -> None:
        self._store = store
        self._seal = seal
        self._kinds = kinds
        self._resources = resources
        self._clock: Clock = resources.clock
        self._vault_url = vault_url

    def due(self, lane: Lane, count: int) -> list[DueChannel]:
        """So many of the channels of a lane that could be claimed now."""
        return self._store.glance().channels.due(self._clock.now(), lane, count)

    def claim(self, due: list[DueChannel]) -> list[Channel]:
        """Claim those of the channels that are still due and that nobody else has claimed meanwhile."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> list[Channel]:
            claimed = []
            for each in due:
                channel = transaction.channels.claim(each, now, LEASE)
                if channel is not None:
                    transaction.outbox.expire(each.vault_id, each.name, now)
                    claimed.append(channel)
            return claimed

        if not due:
            return []
        claimed = self._store.write(work)
        failpoint("notify.claim")
        return claimed

    def work(self, channel: Channel, go_on: Callable[[], bool] = lambda: True) -> None:
        """Deliver to a claimed channel what is due, for as long as `go_on` says, and give it back. Raises nothing."""
        try:
            self._work(channel, go_on)
        except LeaseLost:
            _log.info("channel was changed, deleted or taken over", channel=channel.name, vault=channel.vault_id)
        except Exception:
            # The lease runs out, and somebody looks at the channel again.
            _log.exception("channel failed unexpectedly", channel=channel.name, vault=channel.vault_id)

    def prune(self) -> int:
        """Forget deliveries that ended long ago, and give up what waits in disabled channels; return how many went."""
        now = self._clock.now()
        vaults = self._store.glance().channels.vaults()
        # They share commits; that one fails is no reason to leave the others.
        outcomes = self._store.write_all([_pruning(vault_id, now) for vault_id in vaults])
        for vault_id, outcome in zip(vaults, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                _log.error("old deliveries could not be forgotten", vault=vault_id, exc_info=outcome)
        return sum(outcome for outcome in outcomes if isinstance(outcome, int))

    def _work(self, channel: Channel, go_on: Callable[[], bool]) -> None:
        began = self._clock.now()
        batch = self._store.glance().outbox.batch(channel.vault_id, channel.name.lower(), began, _BATCH)
        notifier: Notifier | None = None
        requested = None
        for waiting in batch:
            if self._clock.now() >= began + _TURN or not go_on():
                break
            stale = self._stale(waiting.event)
            if stale:
                self._settle(channel, waiting.event, Outcome.DROPPED, stale, tried=False)
                continue
            try:
                if notifier is None:
                    notifier, channel = self._open(channel)
                channel = self._deliver(channel, notifier, waiting.event)
            except NotDelivered as failure:
                # The rest is not tried: most likely it would fail as well, and take as long.
                channel = self._failed(channel, failure.reason)
                self._postpone(channel, waiting, failure)
                requested = failure.retry_after
                break
        self._release(channel, requested)

    def _open(self, channel: Channel) -> tuple[Notifier, Channel]:
        """The notifier of the channel, whose target has agreed. Raises NotDelivered."""
        try:
            kind = self._kinds.get("mail" if channel.kind == CONTACTS else channel.kind)
            if kind is None:
                raise NotDelivered(f"Nothing is installed here for channels of the kind {channel.kind}.")
            notifier = kind.open(self._settings(channel), self._resources)
            if isinstance(notifier, Confirms) and not channel.health.confirmed:
                notifier.confirm()
                channel = replace(channel, health=replace(channel.health, confirmed=True))
        except (NotDelivered, LeaseLost):
            raise
        except BrokerError as refusal:
            raise NotDelivered(refusal.message) from None
        except Exception:
            _log.exception("notifier failed unexpectedly", channel=channel.name, kind=channel.kind)
            raise NotDelivered(_UNEXPECTED) from None
        return notifier, channel

    def _settings(self, channel: Channel) -> NotifierSettings:
        if channel.kind == CONTACTS:
            contacts = self._store.glance().issuers.contacts(channel.vault_id) or ()
            return NotifierSettings(channel.name, {"to": ", ".join(contact.email for contact in contacts)})
        secrets = {} if channel.sealed is None else json.loads(self._seal.open(channel.identity, channel.sealed))
        return NotifierSettings(channel.name, channel.settings, secrets)

    def _deliver(self, channel: Channel, notifier: Notifier, event: Event) -> Channel:
        """Deliver one event, and store what came of it. Raises NotDelivered, LeaseLost."""
        notification = self._notification(event)
        failpoint("notify.deliver.before")
        try:
            note = one_line(notifier.deliver(notification), _MAX_REASON)
        except Undeliverable as refusal:
            reason = one_line(refusal.reason, _MAX_REASON)
            _log.warning("notification refused", channel=channel.name, vault=channel.vault_id, reason=reason)
            channel = replace(channel, health=channel.health.refused(self._clock.now(), reason))
            return self._settle(channel, event, Outcome.DEAD, reason)
        except NotDelivered:
            raise
        except Exception:
            _log.exception("notifier failed unexpectedly", channel=channel.name, kind=channel.kind)
            raise NotDelivered(_UNEXPECTED) from None
        failpoint("notify.deliver.after-call")
        if channel.health.failing_since is not None:
            _log.info("channel works again", channel=channel.name, vault=channel.vault_id)
        channel = replace(channel, health=channel.health.succeeded(self._clock.now(), note))
        return self._settle(channel, event, Outcome.DELIVERED, note)

    def _notification(self, event: Event) -> Notification:
        vault = self._store.glance().vaults.get(event.vault_id)
        if vault is None:
            raise AssertionError("vaults are never removed")
        url = self._vault_url(vault.name)
        path = object_path(event.kind, event.name, event.version) if event.name else ""
        if event.type is EventType.ISSUER_WARNING:
            path = f"/certificates/issuers/{event.name}"
        return Notification(event, vault.name, url, url + path)

    def _stale(self, event: Event) -> str:
        """Why there is nothing to tell any more; empty while there is."""
        if event.type not in WARNINGS or not event.version:
            return ""
        head = self._store.glance().objects.head(event.vault_id, event.kind, event.name)
        if head is None or head.deletion is not None:
            return f"The {event.kind} has been deleted."
        if head.current != event.version:
            return f"Superseded: the version {head.current} is in use."
        return ""

    def _settle(self, channel: Channel, event: Event, outcome: Outcome, problem: str, *, tried: bool = True) -> Channel:
        now = self._clock.now()

        def write(transaction: SQLTransaction) -> None:
            transaction.channels.keep(channel, now + LEASE)
            transaction.outbox.settle(
                channel.vault_id, channel.name.lower(), event.id, outcome, now, problem, tried=tried
            )

        failpoint("notify.settle.before")
        self._store.write(write)
        failpoint("notify.settle.after")
        return channel

    def _postpone(self, channel: Channel, waiting: Waiting, failure: NotDelivered) -> None:
        now = self._clock.now()
        until = now + pause(waiting.attempts + 1, failure.retry_after, _spread())
        name, event = channel.name.lower(), waiting.event.id

        def write(transaction: SQLTransaction) -> None:
            transaction.channels.keep(channel, now + LEASE)
            transaction.outbox.postpone(channel.vault_id, name, event, until, one_line(failure.reason, _MAX_REASON))

        self._store.write(write)

    def _failed(self, channel: Channel, reason: str) -> Channel:
        reason = one_line(reason, _MAX_REASON)
        if channel.health.failing_since is None:
            _log.warning("channel fails", channel=channel.name, vault=channel.vault_id, reason=reason)
        return replace(channel, health=channel.health.failed(self._clock.now(), reason))

    def _release(self, channel: Channel, requested: timedelta | None) -> None:
        """Give the channel back: it is due again when something is to be delivered, and its pause is over."""
        now = self._clock.now()
        failures = channel.health.failures
        rest = now + pause(failures, requested, _spread()) if failures else now

        def write(transaction: SQLTransaction) -> None:
            following = transaction.outbox.next_due(channel.vault_id, channel.name.lower())
            transaction.channels.release(channel, None if following is None else max(following, rest))

        self._store.write(write)


def _pruning(vault_id: int, now: datetime) -> Callable[[SQLTransaction], int]:
    def work(transaction: SQLTransaction) -> int:
        for channel in transaction.channels.listing(vault_id, "", MOST_CHANNELS + 1):
            transaction.outbox.expire(vault_id, channel.name.lower(), now)
        return transaction.outbox.prune(vault_id, now)

    return work


def _spread() -> float:
    return random_bytes(1)[0] / 255
