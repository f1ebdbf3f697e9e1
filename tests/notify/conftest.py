"""An event to tell, and what a notifier may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest
from msgspec.structs import replace

from certbroker.domain.events import Event, EventType
from certbroker.domain.objects import Kind
from certbroker.egress import EgressPolicy, HTTPEgress
from certbroker.ports.notifier import Notification, NotifierResources
from tests.support.clock import SteppedClock

_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
_EVENT = Event(
    "e" * 32,
    EventType.CERTIFICATE_NEAR_EXPIRY,
    1,
    Kind.CERTIFICATE,
    "web",
    "0" * 32,
    _AT,
    not_before=int(_AT.timestamp()) - 80 * 86400,
    not_after=int(_AT.timestamp()) + 10 * 86400,
    step="80%",
)


@pytest.fixture
def tell() -> Callable[..., Notification]:
    """A notification about an event that differs from the usual one in these ways."""

    def tell(*, vault: str = "team", **changes: Any) -> Notification:
        event = replace(_EVENT, **changes)
        url = f"https://{vault}.vault.example"
        return Notification(event, vault, url, f"{url}/certificates/{event.name}/{event.version}")

    return tell


@pytest.fixture
def resources() -> Iterator[Callable[..., NotifierResources]]:
    """What reaches this machine, and trusts these files."""
    opened: list[HTTPEgress] = []

    def resources(*trust: object) -> NotifierResources:
        networks = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
        opened.append(HTTPEgress(EgressPolicy(networks, trust=tuple(str(each) for each in trust))))
        return NotifierResources(opened[-1], SteppedClock(), "login.vault.example")

    yield resources
    for each in opened:
        each.close()
