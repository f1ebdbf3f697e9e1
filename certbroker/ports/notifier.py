"""Notifiers: what tells people and programs of events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, runtime_checkable

from certbroker.domain.events import Event
from certbroker.ports.clock import Clock
from certbroker.ports.egress import Egress


@dataclass(frozen=True, slots=True)
class Notification:
    """One event as others see it. `vault_url` has scheme and host; `object_url` is the id of the version, or of the
    object where the event is about no version; the vault's where it is about none.
    """

    event: Event
    vault: str
    vault_url: str
    object_url: str


@dataclass(frozen=True, slots=True)
class NotifierSettings:
    """What a channel is configured with. The secrets are not to be shown, logged or put into an error."""

    channel: str
    settings: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class NotifierResources:
    """What a notifier may use. Requests to other servers go through `egress`, never past it.

    `origin` is the host name of this broker, for targets that want to know who asks.
    """

    egress: Egress
    clock: Clock
    origin: str


class NotDelivered(Exception):
    """It was not delivered, and trying later may help. The text says why, without secrets.

    `retry_after` is what the target asked for.
    """

    def __init__(self, reason: str, retry_after: timedelta | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Undeliverable(Exception):
    """The target will never take this notification. The text says why, without secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Notifier(Protocol):
    """Tells one target. Used by one thread at a time.

    The same notification comes again when it is not certain that it was delivered, so the target must be able to tell
    by the event's id.
    """

    def deliver(self, notification: Notification) -> str:
        """Deliver it, in 20 seconds at most, and return once the target has taken it; never retry.

        Returns what people should know of a delivery that succeeded, such as that one of several addresses was
        refused, or nothing. Raises NotDelivered, Undeliverable.
        """
        ...


@runtime_checkable
class Confirms(Protocol):
    """A notifier whose target is asked whether it wants to be told, before anything is delivered to it."""

    def confirm(self) -> None:
        """Ask, in 20 seconds at most. Raises NotDelivered when the target has not agreed."""
        ...


class NotifierKind(Protocol):
    """One sort of channel. Stateless; shared by all threads."""

    name: str
    """In lower case, as channels name it."""
    for_people: bool
    """Whether people read it: then only what somebody should look at is told, unless the channel asks for more."""

    def check(self, settings: NotifierSettings) -> None:
        """Raise Invalid, naming the setting, when nothing could be delivered with these. No outside calls."""
        ...

    def open(self, settings: NotifierSettings, resources: NotifierResources) -> Notifier:
        """A notifier for checked settings. Raises Invalid when they no longer hold."""
        ...
