"""Channels of a vault: configured, tried, and what they could not deliver."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from certbroker.domain.audit import Caller, record
from certbroker.domain.channels import CONTACTS, EVERYTHING, MOST_CHANNELS, Channel
from certbroker.domain.errors import Conflict, Invalid, NotFound
from certbroker.domain.events import FOR_PEOPLE, Event, EventType, event_id
from certbroker.domain.objects import Kind, Page, Vault, check_name
from certbroker.ports.clock import Clock
from certbroker.ports.notifier import NotifierKind, NotifierSettings
from certbroker.ports.seal import Seal
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.objects.listings import decode, page
from certbroker.services.objects.naming import new_version
from certbroker.store.database import SQLiteStore
from certbroker.store.outbox import Delivery
from certbroker.store.transaction import SQLTransaction

_MAX_SETTINGS: Final = 20
_MAX_CHARS: Final = 4096

# A test that nobody waits for any more is not worth three days of trying.
_TEST_PATIENCE: Final = timedelta(hours=1)

_BY_SHORT_NAME: Final = {each.rpartition(".")[2].lower(): each for each in EventType} | {
    each.lower(): each for each in EventType
}


@dataclass(frozen=True, slots=True)
class ChannelChanges:
    """What a caller sets on a channel; None keeps what is there, or takes the default where there is nothing."""

    kind: str | None = None
    settings: Mapping[str, str] | None = None
    secrets: Mapping[str, str] | None = field(default=None, repr=False)
    events: tuple[str, ...] | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel, and how many events wait for it or could not be delivered."""

    channel: Channel
    waiting: int
    dead: int


class Channels:
    """Configures channels. Secrets go in and never come out."""

    def __init__(
        self, store: SQLiteStore, seal: Seal, clock: Clock, kinds: Mapping[str, NotifierKind], inbox: Inbox
    ) -> None:
        self._store = store
        self._seal = seal
        self._clock = clock
        self._kinds = kinds
        self._inbox = inbox

    def set(self, caller: Caller, vault: Vault, name: str, wanted: ChannelChanges) -> ChannelView:
        """Make a channel, or replace all that is configured of it. Raises Invalid, Conflict."""
        check_name(name)
        _refuse_contacts(name)
        if not wanted.kind:
            raise Invalid(f"kind is missing: name one of {', '.join(sorted(self._kinds))}.")
        kind = self._kind(wanted.kind)
        secrets = _checked(wanted.secrets, "secrets")
        fresh = Channel(
            vault.id,
            name,
            kind.name,
            _checked(wanted.settings, "settings"),
            tuple(sorted(secrets)),
            _events(wanted.events, kind),
            wanted.enabled is not False,
        )
        kind.check(NotifierSettings(name, fresh.settings, secrets))
        now = self._clock.now()
        seconds = int(now.timestamp())
        if secrets:
            fresh = replace(fresh, sealed=self._seal.close(fresh.identity, json.dumps(secrets).encode()))

        def work(transaction: SQLTransaction) -> ChannelView:
            old = transaction.channels.get(vault.id, name)
            channel = replace(fresh, created=seconds, updated=seconds)
            if old is None:
                if transaction.channels.count(vault.id) >= MOST_CHANNELS:
                    raise Conflict(f"The vault has {MOST_CHANNELS} channels already: delete one that is not needed.")
                transaction.channels.add(channel)
            else:
                # How it went with other settings says nothing about these.
                channel = replace(channel, name=old.name, created=old.created)
                _put(transaction, channel, now)
            transaction.audit(record(caller, now, f"/channels/{name}"))
            return _view(transaction, channel)

        view = self._store.write(work)
        self._inbox.wake()
        return view

    def update(self, caller: Caller, vault: Vault, name: str, wanted: ChannelChanges) -> ChannelView:
        """Change which events a channel is told, or whether it is enabled. Raises NotFound, Invalid."""
        _refuse_contacts(name)
        if wanted.kind is not None or wanted.settings is not None or wanted.secrets is not None:
            raise Invalid("Of a channel only events and enabled can be changed alone; set it anew to change the rest.")
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> ChannelView:
            old = _found(transaction, vault, name)
            channel = replace(
                old,
                events=old.events if wanted.events is None else _events(wanted.events, self._kind(old.kind)),
                enabled=old.enabled if wanted.enabled is None else wanted.enabled,
                updated=int(now.timestamp()),
            )
            _put(transaction, channel, now)
            transaction.audit(record(caller, now, f"/channels/{name}"))
            return _view(transaction, channel)

        view = self._store.write(work)
        self._inbox.wake()
        return view

    def get(self, vault: Vault, name: str) -> ChannelView:
        """A channel without its secrets. Raises NotFound."""
        with self._store.read() as transaction:
            return _view(transaction, _found(transaction, vault, name))

    def listing(self, vault: Vault, after: str, size: int) -> Page[ChannelView]:
        with self._store.read() as transaction:
            channels = transaction.channels.listing(vault.id, decode(after), size + 1)
            views = [_view(transaction, channel) for channel in channels]
        return page(views, size, lambda view: view.channel.name.lower())

    def delete(self, caller: Caller, vault: Vault, name: str) -> ChannelView:
        """Delete a channel with all that waits for it, and return what it was. Raises NotFound."""
        _refuse_contacts(name)
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> ChannelView:
            view = _view(transaction, _found(transaction, vault, name))
            transaction.channels.remove(vault.id, name)
            transaction.outbox.remove(vault.id, name.lower())
            transaction.audit(record(caller, now, f"/channels/{name}"))
            return view

        return self._store.write(work)

    def test(self, caller: Caller, vault: Vault, name: str) -> Delivery:
        """Send a test to the channel, before all that waits and at once. Raises NotFound, and Conflict if disabled."""
        now = self._clock.now()
        key = new_version()

        def work(transaction: SQLTransaction) -> Delivery:
            channel = _found(transaction, vault, name)
            if not channel.enabled:
                raise Conflict(_disabled(channel))
            event = Event(
                event_id(EventType.CHANNEL_TEST, vault.id, Kind.CERTIFICATE, name, key),
                EventType.CHANNEL_TEST,
                vault.id,
                Kind.CERTIFICATE,
                "",
                "",
                now,
                message=f"This is a test of the channel {channel.name}. Nothing has happened.",
                details={"Channel": channel.name},
            )
            transaction.outbox.add(name.lower(), event, now, first=True, patience=_TEST_PATIENCE)
            transaction.channels.hurry(vault.id, name, now)
            transaction.audit(record(caller, now, f"/channels/{name}/test", status=202))
            return _delivery(transaction, vault, name, event.id)

        delivery = self._store.write(work)
        self._inbox.wake()
        return delivery

    def delivery(self, vault: Vault, name: str, event: str) -> Delivery:
        """How far the delivery of an event has come. Raises NotFound."""
        return _delivery(self._store.glance(), vault, name, event)

    def dead_letters(self, vault: Vault, name: str, after: str, size: int) -> Page[Delivery]:
        """What could not be delivered to the channel. Raises NotFound."""
        with self._store.read() as transaction:
            _found(transaction, vault, name)
            rows = transaction.outbox.dead(vault.id, name.lower(), decode(after), size + 1)
        return page(rows, size, lambda delivery: delivery.event.id)

    def retry(self, caller: Caller, vault: Vault, name: str, event: str | None) -> int:
        """Have what could not be delivered, one or all of it, tried again; return how many. Raises NotFound."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> int:
            _found(transaction, vault, name)
            retried = transaction.outbox.retry(vault.id, name.lower(), event, now)
            if event is not None and not retried:
                raise NotFound("dead letter", f"Dead letter not found: {name} has none of the id {event[:64]}.")
            if retried:
                transaction.channels.hurry(vault.id, name, now)
            transaction.audit(record(caller, now, f"/channels/{name}/dead-letters"))
            return retried

        retried = self._store.write(work)
        self._inbox.wake()
        return retried

    def _kind(self, name: str) -> NotifierKind:
        kind = self._kinds.get(name.lower())
        if kind is None:
            raise Invalid(f"kind {name[:64]!r} is not one of those that there are: {', '.join(sorted(self._kinds))}.")
        return kind


def _put(transaction: SQLTransaction, channel: Channel, now: datetime) -> None:
    """Store the channel, and have what waits for it delivered now if it is enabled."""
    waits = transaction.outbox.next_due(channel.vault_id, channel.name.lower()) is not None
    transaction.channels.put(channel, now if waits and channel.enabled else None)


def _found(transaction: SQLTransaction, vault: Vault, name: str) -> Channel:
    channel = transaction.channels.get(vault.id, name)
    if channel is None:
        raise NotFound("channel", f"Channel not found: there is no channel named {name[:64]} in this key vault.")
    return channel


def _view(transaction: SQLTransaction, channel: Channel) -> ChannelView:
    return ChannelView(channel, *transaction.outbox.counts(channel.vault_id, channel.name.lower()))


def _delivery(transaction: SQLTransaction, vault: Vault, name: str, event: str) -> Delivery:
    delivery = transaction.outbox.get(vault.id, name.lower(), event)
    if delivery is None:
        raise NotFound("delivery", f"Delivery not found: {name[:64]} has none of an event of the id {event[:64]}.")
    return delivery


def _refuse_contacts(name: str) -> None:
    if name.lower() == CONTACTS:
        raise Invalid("The channel contacts follows the contacts of the vault: set or delete those instead.")


def _disabled(channel: Channel) -> str:
    if channel.kind == CONTACTS:
        return "Contacts are told by mail, and the broker's configuration has no [mail] section."
    return f"The channel {channel.name} is disabled: enable it first."


def _checked(values: Mapping[str, str] | None, field: str) -> dict[str, str]:
    """The values, few and short enough to be kept. Raises Invalid."""
    found = dict(values or {})
    if len(found) > _MAX_SETTINGS:
        raise Invalid(f"{field} has more than {_MAX_SETTINGS} entries.")
    for name, value in found.items():
        if len(name) > 64 or len(value) > _MAX_CHARS:
            raise Invalid(f"{field}.{name[:64]} is longer than {_MAX_CHARS} characters.")
    return found


def _events(wanted: tuple[str, ...] | None, kind: NotifierKind) -> tuple[str, ...]:
    """The types that are meant, which may be given without what is before their last dot. Raises Invalid."""
    if wanted is None:
        return tuple(sorted(FOR_PEOPLE)) if kind.for_people else (EVERYTHING,)
    if not wanted:
        raise Invalid("events is empty: name some, or * for all.")
    if EVERYTHING in wanted:
        return (EVERYTHING,)
    unknown = [each for each in wanted if each.lower() not in _BY_SHORT_NAME]
    if unknown:
        known = ", ".join(each.rpartition(".")[2] for each in EventType)
        raise Invalid(f"events has {unknown[0][:64]!r}, which is not one of: {known}; or * for all.")
    return tuple(sorted({_BY_SHORT_NAME[each.lower()].value for each in wanted}))
