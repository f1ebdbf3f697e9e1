"""What happens is told to the channels that want it, once, if it really has happened."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.channels import Channel
from certbroker.domain.events import Event, EventType, event_id
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.services.notification.outbox import publish
from certbroker.store.transaction import SQLTransaction

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_CALLER = Caller("somebody", "Test")


def _channel(core: Core, vault: Vault, name: str, *events: str, enabled: bool = True) -> None:
    channel = Channel(vault.id, name, "test", events=events or ("*",), enabled=enabled)
    core.broker.store.write(lambda transaction: transaction.channels.add(channel))


def _event(vault: Vault, step: str = "") -> Event:
    return Event(
        event_id(EventType.CERTIFICATE_EXPIRED, vault.id, Kind.CERTIFICATE, "c", "1", step),
        EventType.CERTIFICATE_EXPIRED,
        vault.id,
        Kind.CERTIFICATE,
        "c",
        "1",
        _NOW,
    )


def _waiting(core: Core) -> list[tuple[str, str]]:
    cursor = core.broker.store.glance().outbox._cursor
    cursor.execute("SELECT channel, event FROM outbox WHERE act_at IS NOT NULL ORDER BY rowid")
    return [(channel, event.split('"type":"')[1].split('"')[0]) for channel, event in cursor.fetchall()]


def test_each_channel_is_told_what_it_wants(core: Core, vault: Vault) -> None:
    _channel(core, vault, "all")
    _channel(core, vault, "some", EventType.CERTIFICATE_NEAR_EXPIRY, EventType.CERTIFICATE_EXPIRED)
    _channel(core, vault, "other", EventType.CERTIFICATE_NEAR_EXPIRY)
    _channel(core, vault, "off", enabled=False)
    _channel(core, core.broker.vaults.create(_CALLER, "v-two"), "foreign")
    core.broker.store.write(lambda transaction: publish(transaction, _event(vault)))

    assert [("all", EventType.CERTIFICATE_EXPIRED), ("some", EventType.CERTIFICATE_EXPIRED)] == _waiting(core)


def test_the_same_event_is_told_once_and_another_step_again(core: Core, vault: Vault) -> None:
    _channel(core, vault, "all")
    for _ in range(2):
        core.broker.store.write(lambda transaction: publish(transaction, _event(vault), _event(vault)))
    core.broker.store.write(lambda transaction: publish(transaction, _event(vault, step="90%")))

    assert 2 == len(_waiting(core))


def test_what_was_undone_is_not_told(core: Core, vault: Vault) -> None:
    _channel(core, vault, "all")

    def work(transaction: SQLTransaction) -> None:
        publish(transaction, _event(vault))
        raise ValueError

    with pytest.raises(ValueError):
        core.broker.store.write(work)

    assert [] == _waiting(core)


def test_a_secret_that_is_set_is_told(core: Core, vault: Vault) -> None:
    _channel(core, vault, "all")
    core.broker.secrets.set(_CALLER, vault, "s", "value", Changes())

    assert [("all", EventType.SECRET_NEW_VERSION)] == _waiting(core)
