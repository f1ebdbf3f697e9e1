"""What follows when another version of a certificate or of a key is in use."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from certbroker.domain.objects import Kind
from certbroker.domain.rotation import DEFAULT, next_due
from certbroker.store.rotations import Rotation
from certbroker.store.transaction import SQLTransaction

# Before the endpoints are looked at for the first time, so that a deployment that is quick is not found missing.
_FIRST_LOOK: Final = timedelta(seconds=5)


def follow(transaction: SQLTransaction, vault_id: int, name: str, now: datetime) -> None:
    """Have the version in use deployed now, and its endpoints looked at soon."""
    transaction.deployments.disturb(vault_id, name, now)
    transaction.endpoints.disturb(vault_id, name, now + _FIRST_LOOK)


def follow_key(transaction: SQLTransaction, vault_id: int, name: str, now: datetime) -> None:
    """Plan when the key is looked at next: for its rotation, or to tell people of its end."""
    stored = transaction.rotations.get(vault_id, name)
    current = transaction.objects.get(vault_id, Kind.KEY, name)
    due = None
    if current is not None and not current.managed:
        rotation = stored or Rotation(vault_id, name)
        due = next_due(rotation.policy or DEFAULT, current.attributes, rotation.told_of(current.version), now)
    if stored is not None or due is not None:
        transaction.rotations.put(stored or Rotation(vault_id, name), None if due is None else due.at)
