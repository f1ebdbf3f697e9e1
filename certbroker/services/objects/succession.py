"""What follows when another version of a certificate is in use."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from certbroker.store.transaction import SQLTransaction

# Before the endpoints are looked at for the first time, so that a deployment that is quick is not found missing.
_FIRST_LOOK: Final = timedelta(seconds=5)


def follow(transaction: SQLTransaction, vault_id: int, name: str, now: datetime) -> None:
    """Have the version in use deployed now, and its endpoints looked at soon."""
    transaction.deployments.disturb(vault_id, name, now)
    transaction.endpoints.disturb(vault_id, name, now + _FIRST_LOOK)
