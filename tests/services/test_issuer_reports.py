"""People are told of an issuer that cannot be used before somebody corrects its settings."""

from __future__ import annotations

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.channels import Channel
from certbroker.domain.events import EventType
from certbroker.domain.objects import Vault
from certbroker.services.issuers.issuers import IssuerChanges
from tests.support.issuer_bench import Bench


def test_an_issuer_whose_settings_have_ceased_to_hold_is_told_of_once(core: Core, caller: Caller, vault: Vault) -> None:
    bench = Bench(core, caller, vault)
    channel = Channel(vault.id, "all", "test", events=(EventType.ISSUER_WARNING,))
    bench.store.write(lambda transaction: transaction.channels.add(channel))
    bench.ask(name="a")
    bench.ask(name="b")
    bench.issuers.update(caller, vault, "ca", IssuerChanges(enabled=False))
    bench.turn()

    waiting = bench.store.glance().outbox.batch(vault.id, "all", bench.clock.now(), 10)
    (event,) = (each.event for each in waiting)
    assert EventType.ISSUER_WARNING == event.type
    assert "ca" == event.name
    assert "enable it" in event.message
    told = core.broker.deliveries._notification(event)
    assert told.object_url.endswith("/certificates/issuers/ca")
