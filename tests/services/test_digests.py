"""The weekly overview: once a week, of what is worth a look, to those who want it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.channels import Channel
from certbroker.domain.events import EventType
from certbroker.domain.objects import Attributes, Kind, Vault
from certbroker.domain.records import CertificateFacts, Version
from certbroker.services.notification.digests import Digests
from certbroker.store.outbox import Waiting
from certbroker.store.transaction import SQLTransaction
from tests.support.clock import SteppedClock

_MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def clock() -> SteppedClock:
    clock = SteppedClock()
    clock.moment = _MONDAY
    return clock


def _add(core: Core, vault: Vault, name: str, version: str, days: int) -> None:
    end = int((_MONDAY + timedelta(days=days)).timestamp())
    facts = CertificateFacts((b"",), "", "", "", 0, end, exportable=True)
    added = Version(Kind.CERTIFICATE, name, version * 32, Attributes(0, 0, True, 0, end), certificate=facts)

    def work(transaction: SQLTransaction) -> None:
        transaction.objects.add(vault.id, added)
        transaction.lifecycles.made(vault.id, name, None, _MONDAY)

    core.broker.store.write(work)


def _channel(core: Core, vault: Vault, *events: str) -> None:
    channel = Channel(vault.id, "all", "test", events=events or ("*",))
    core.broker.store.write(lambda transaction: transaction.channels.add(channel))


def _told(core: Core, vault: Vault, clock: SteppedClock) -> list[Waiting]:
    return core.broker.store.glance().outbox.batch(vault.id, "all", clock.now(), 10)


def test_it_tells_what_expires_and_what_is_replaced(core: Core, vault: Vault, clock: SteppedClock) -> None:
    _channel(core, vault)
    _add(core, vault, "Soon", "a", 20)
    _add(core, vault, "later", "a", 60)
    _add(core, vault, "over", "a", -1)
    _add(core, vault, "renewed", "a", 10)
    _add(core, vault, "renewed", "b", 90)
    Digests(core.broker.store, clock, weekly=True).publish_due()

    (waiting,) = _told(core, vault, clock)
    assert EventType.VAULT_DIGEST is waiting.event.type
    assert {
        "expiring": "Soon: 2026-03-22",
        "replaced": "renewed: 2026-03-12, the version aaaaaaaa is already replaced by bbbbbbbb",
    } == waiting.event.details
    assert "1 expire" in waiting.event.message


def test_it_comes_once_a_week_however_often_it_is_asked_for(core: Core, vault: Vault, clock: SteppedClock) -> None:
    _channel(core, vault)
    _add(core, vault, "soon", "a", 30)
    digests = Digests(core.broker.store, clock, weekly=True)
    for _ in range(3):
        digests.publish_due()
        clock.forward(timedelta(days=2))
    assert 1 == len(_told(core, vault, clock))
    # As after a crash before the last line.
    core.broker.store.write(lambda transaction: transaction.vaults.put_setting("digest", "before"))
    digests.publish_due()
    assert 1 == len(_told(core, vault, clock))
    clock.forward(timedelta(days=1))
    digests.publish_due()

    assert 2 == len(_told(core, vault, clock))


def test_there_is_none_where_nobody_wants_it_or_nothing_is_to_be_told(
    core: Core, caller: Caller, vault: Vault, clock: SteppedClock
) -> None:
    _channel(core, vault, EventType.CERTIFICATE_EXPIRED)
    _add(core, vault, "soon", "a", 30)
    quiet = core.broker.vaults.create(caller, "quiet")
    _channel(core, quiet)
    Digests(core.broker.store, clock, weekly=True).publish_due()
    assert [] == _told(core, vault, clock) + _told(core, quiet, clock)
    _add(core, quiet, "soon", "a", 30)
    clock.forward(timedelta(weeks=1))
    Digests(core.broker.store, clock, weekly=False).publish_due()

    assert [] == _told(core, quiet, clock)
