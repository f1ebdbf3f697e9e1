"""A vault with channels whose targets do what a test tells them, and an engine that is moved by hand."""

from __future__ import annotations

from collections.abc import Callable

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.channels import Channel, Lane
from certbroker.domain.errors import Invalid
from certbroker.domain.events import Event, EventType, event_id
from certbroker.domain.objects import Kind, Vault
from certbroker.ports.notifier import (
    NotDelivered,
    Notification,
    NotifierResources,
    NotifierSettings,
)
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.notification.channels import ChannelChanges, Channels
from certbroker.services.notification.deliveries import Deliveries
from certbroker.services.notification.outbox import publish
from certbroker.store.outbox import Delivery
from tests.support.clock import SteppedClock

Step = Callable[[Notification], str]


class ScriptedNotifier:
    """Does the next of its steps each time; without any it delivers."""

    name = "scripted"
    for_people = False

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.told: list[Notification] = []
        self.opened: list[NotifierSettings] = []
        self.confirmations: list[Exception | None] = []
        self.confirmed = 0

    def check(self, settings: NotifierSettings) -> None:
        if "bad" in settings.settings:
            raise Invalid("settings.bad is bad.")

    def open(self, settings: NotifierSettings, resources: NotifierResources) -> ScriptedNotifier:
        self.check(settings)
        self.opened.append(settings)
        return self

    def confirm(self) -> None:
        self.confirmed += 1
        failure = self.confirmations.pop(0) if self.confirmations else None
        if failure is not None:
            raise failure

    def deliver(self, notification: Notification) -> str:
        note = self.steps.pop(0)(notification) if self.steps else ""
        self.told.append(notification)
        return note


def raising(error: Exception) -> Step:
    def step(notification: Notification) -> str:
        raise error

    return step


AWAY = NotDelivered("It is away.")


class DeliveryBench:
    """One vault, and an engine that is moved by hand."""

    def __init__(self, core: Core, caller: Caller, vault: Vault) -> None:
        self.core, self.caller, self.vault = core, caller, vault
        self.clock, self.notifier, self.mailer = SteppedClock(), ScriptedNotifier(), ScriptedNotifier()
        self.store = core.broker.store
        kinds = {"scripted": self.notifier, "mail": self.mailer}
        self.channels = Channels(self.store, core.seal, self.clock, kinds, Inbox())
        resources = NotifierResources(core.egress, self.clock, "login.example")
        self.deliveries = Deliveries(
            self.store, core.seal, kinds, resources, lambda name: f"https://{name}.vault.example"
        )

    def channel(self, name: str = "ops", **changes: object) -> None:
        wanted = {"kind": "scripted"} | changes
        self.channels.set(self.caller, self.vault, name, ChannelChanges(**wanted))  # type: ignore[arg-type]

    def event(self, step: str = "", type_: EventType = EventType.ISSUER_WARNING, version: str = "") -> Event:
        key = event_id(type_, self.vault.id, Kind.SECRET, "c", version, step)
        return Event(key, type_, self.vault.id, Kind.SECRET, "c", version, self.clock.now(), step=step)

    def publish(self, *events: Event) -> None:
        self.store.write(lambda transaction: publish(transaction, *events))

    def claim(self) -> list[Channel]:
        return self.deliveries.claim([due for lane in Lane for due in self.deliveries.due(lane, 10)])

    def turn(self) -> int:
        """One sweep; how many channels it had to work on."""
        claimed = self.claim()
        for channel in claimed:
            self.deliveries.work(channel)
        return len(claimed)

    def delivery(self, event: Event, name: str = "ops") -> Delivery:
        return self.channels.delivery(self.vault, name, event.id)

    def health(self, name: str = "ops") -> tuple[bool, str]:
        health = self.channels.get(self.vault, name).channel.health
        return health.failing_since is None, health.reason
