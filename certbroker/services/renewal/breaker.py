"""The breaker in the database: what it says of a renewal, and what is counted.

A certificate has one operation in progress at most, so nothing has to be reserved: what was issued is counted in the
transaction that ends the operation.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from certbroker.domain.breaker import breaker_bucket, breaker_limit, tripped
from certbroker.domain.budget import corrected, next_fit, taken
from certbroker.domain.objects import Kind
from certbroker.domain.operation import Problem
from certbroker.domain.records import Operation
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

_MONTH: Final = timedelta(days=30)


def stopped(store: SQLiteStore, operation: Operation, now: datetime) -> Problem | None:
    """Why the certificate is not renewed now; None when it may be, or when somebody has asked for it."""
    cause = operation.cause
    if cause is None:
        return None
    bucket = breaker_bucket(operation, cause.trigger)
    with store.read() as transaction:
        limit = breaker_limit(cause.trigger, _life(transaction, operation))
        found = transaction.budgets.level(bucket)
    level = corrected(limit, found, now)
    if level != found:
        store.write(lambda transaction: transaction.budgets.put(bucket, level))
    return tripped(operation, cause.trigger, cause.reason, limit, level, now)


def closes_at(transaction: SQLTransaction, operation: Operation, now: datetime) -> datetime:
    """When a renewal may be made again that was stopped; `now` when it may."""
    if operation.cause is None:
        return now
    trigger = operation.cause.trigger
    limit = breaker_limit(trigger, _life(transaction, operation))
    return next_fit(limit, transaction.budgets.level(breaker_bucket(operation, trigger)), now)


def count_renewal(transaction: SQLTransaction, operation: Operation, now: datetime) -> None:
    """A certificate was issued for a renewal, usable or not. Called before it is stored."""
    if operation.cause is None:
        return
    bucket = breaker_bucket(operation, operation.cause.trigger)
    limit = breaker_limit(operation.cause.trigger, _life(transaction, operation))
    transaction.budgets.put(bucket, taken(limit, transaction.budgets.level(bucket), now))


def _life(transaction: SQLTransaction, operation: Operation) -> timedelta:
    """How long the certificate that is renewed is valid for in all, or its successor where it is gone."""
    version = transaction.objects.get(operation.vault_id, Kind.CERTIFICATE, operation.name)
    if version is None or version.certificate is None:
        return _MONTH * operation.policy.validity_months
    return timedelta(seconds=version.certificate.not_after - version.certificate.not_before)
