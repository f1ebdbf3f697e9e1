"""Telling others what has happened, in the transaction in which it happens."""

from __future__ import annotations

from certbroker.domain.events import Event, version_created
from certbroker.domain.records import Version
from certbroker.store.outbox import wants
from certbroker.store.transaction import SQLTransaction


def publish(transaction: SQLTransaction, *events: Event) -> None:
    """Have each event delivered to the channels of its vault that want it; where none does, nothing is written.

    It is delivered if, and only if, the transaction is committed. The same event published again is not told again.
    The engine finds it at its next look; whoever wants it told at once wakes the engine after the commit. `at` of an
    event is the present: deliveries are tried for some days from then on.
    """
    listeners: dict[int, list[tuple[str, str]]] = {}
    for event in events:
        if event.vault_id not in listeners:
            listeners[event.vault_id] = transaction.outbox.listeners(event.vault_id)
        for channel, wanted in listeners[event.vault_id]:
            if wants(wanted, event):
                transaction.outbox.add(channel, event, event.at)


def publish_versions(transaction: SQLTransaction, vault_id: int, *versions: Version) -> None:
    """The same for versions that have been made. Nothing is even composed where nobody listens, which is most often."""
    if transaction.outbox.listeners(vault_id):
        publish(transaction, *(version_created(vault_id, version) for version in versions))
