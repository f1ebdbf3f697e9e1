"""Whose turn it is: a policy names issuers that stand in for the first when it is down, limited, or refuses."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from certbroker.domain.records import Operation, Turn

# So long an issuer may be down or limited before the next one is asked.
_PATIENCE: Final = timedelta(minutes=10)


def next_turn(operation: Operation, now: datetime) -> Turn | None:
    """The turn of the next issuer that has not refused, in the policy's order and around; None when there is none."""
    turn, count = operation.turn, len(operation.policy.issuers)
    order = [(turn.issuer + step) % count for step in range(1, count)]
    left = [issuer for issuer in order if issuer not in turn.refused]
    return Turn(left[0], now, turn.refused) if left else None


def is_too_long(operation: Operation, retry_at: datetime | None, now: datetime) -> bool:
    """Whether the issuer has been away, or will be, for longer than is waited for."""
    patience = (operation.turn.since or operation.created) + _PATIENCE
    return now >= patience or (retry_at is not None and retry_at >= patience)
