"""The governor: rate budgets at CAs, for all vaults and replicas together, in the database."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog
from msgspec.structs import replace

from certbroker.domain.backoff import fraction
from certbroker.domain.budget import (
    Bucket,
    Claim,
    Level,
    Limits,
    PlannedOrder,
    Refusal,
    Scope,
    Standing,
    Take,
    claims,
    corrected,
    failure_buckets,
    held,
    left,
    next_fit,
    refusal,
    set_of,
    taken,
    validated,
)
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.governor import BudgetState
from certbroker.services.issuers.registered_domains import registered_domain
from certbroker.services.renewal.clock_jumps import ClockJumps
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

# Longer than any operation lives: what is still reserved then belongs to one that was deleted.
_RESERVED_FOR: Final = timedelta(days=8)
_MOST_HOLDS: Final = 1000
_log = structlog.get_logger("certbroker.governor")


class Governor:
    """Implements `certbroker.ports.governor.Governor`. Each decision is one transaction, so nobody overspends."""

    def __init__(self, store: SQLiteStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._jumps = ClockJumps(clock)
        self._lock = threading.Lock()

    def admit(self, order: PlannedOrder, limits: Limits) -> Refusal | None:
        wanted = _claims(order, limits)
        now = self._now()
        failpoint("governor.admit.before")
        refused = self._store.write(lambda transaction: _admit(transaction, order, wanted, now))
        failpoint("governor.admit.after")
        if refused is not None:
            _log.debug("order held back", operation=order.operation_id, ca=order.ca, reason=refused.sentence)
        return refused

    def issued(self, order: PlannedOrder, limits: Limits) -> None:
        now = self._now()

        def work(transaction: SQLTransaction) -> None:
            reserved = transaction.budgets.reservations(order.operation_id, order.step, order.ca)
            for claim in _claims(order, limits):
                if claim.limit is not None and reserved.get(claim.bucket):
                    level = transaction.budgets.level(claim.bucket)
                    transaction.budgets.put(claim.bucket, taken(claim.limit, level, now))
            for name in order.names if reserved else ():
                in_a_row = failure_buckets(order, name)[1]
                level = transaction.budgets.level(in_a_row)
                if level.full_at > now:
                    transaction.budgets.put(in_a_row, replace(level, full_at=now))
            transaction.budgets.release(order.operation_id, order.step, order.ca)

        failpoint("governor.issued.before")
        self._store.write(work)
        failpoint("governor.issued.after")

    def failed(self, order: PlannedOrder, limits: Limits, names: Sequence[str]) -> None:
        now = self._now()

        def work(transaction: SQLTransaction) -> None:
            if not transaction.budgets.reservations(order.operation_id, order.step, order.ca):
                return
            for name in dict.fromkeys(map(validated, names)):
                for bucket, limit in zip(
                    failure_buckets(order, name), (limits.failures, limits.consecutive), strict=True
                ):
                    if limit is not None:
                        transaction.budgets.put(bucket, taken(limit, transaction.budgets.level(bucket), now))
            transaction.budgets.release(order.operation_id, order.step, order.ca)

        self._store.write(work)

    def ended(self, order: PlannedOrder) -> None:
        self._store.write(lambda transaction: transaction.budgets.release(order.operation_id, order.step, order.ca))

    def hold(self, order: PlannedOrder, scope: Scope, names: Sequence[str], until: datetime, reason: str) -> None:
        buckets = _held_buckets(order, scope, names)
        now = self._now()

        def work(transaction: SQLTransaction) -> None:
            for bucket in buckets:
                level = transaction.budgets.level(bucket)
                if until > level.held_until or not level.is_held(now):
                    transaction.budgets.put(bucket, replace(level, held_until=until, reason=reason))

        self._store.write(work)
        _log.warning("the CA asked for a pause", ca=order.ca, scope=scope.value, until=until.isoformat(), reason=reason)

    def pause(self, ca: str) -> Refusal | None:
        level = self._store.glance().budgets.level(Bucket(ca, Scope.CA, ""), counted=False)
        if not level.is_held(self._clock.now()):
            return None
        return Refusal(held("requests", level), level.held_until)

    def explain(self, ca: str, account: str | None, names: Sequence[str], limits: Limits) -> list[BudgetState]:
        now = self._clock.now()
        order = PlannedOrder("", "", ca, account or "", tuple(dict.fromkeys(name.lower() for name in names)))
        shown = _claims(order, limits)
        if not names:
            shown = tuple(claim for claim in shown if claim.bucket.scope is not Scope.NAMES)
        bound = {
            standing: {claim.bucket for claim in _claims(replace(order, standing=standing), limits) if _binds(claim)}
            for standing in Standing
        }
        with self._store.read() as transaction:
            return [
                _state(
                    claim,
                    transaction.budgets.level(claim.bucket),
                    now,
                    frozenset(standing for standing, buckets in bound.items() if claim.bucket not in buckets),
                )
                for claim in shown
            ]

    def holds(self) -> list[tuple[Bucket, Level]]:
        """What CAs want to be left alone with at the moment, for whoever watches the broker; at most a thousand."""
        now = self._clock.now()
        found = self._store.glance().budgets.held(now, _MOST_HOLDS)
        return [(bucket, level) for bucket, level in found if level.is_held(now)]

    def tidy(self) -> None:
        """Forget what is whole again."""
        now = self._now()
        if self._store.glance().budgets.has_expired(now):
            self._store.write(lambda transaction: transaction.budgets.expire(now))

    def _now(self) -> datetime:
        """The time, after everything that waits for a time has been moved along with a clock that was set.

        Nothing is given back for time that has not passed, and nobody waits for longer because the clock was put right.
        """
        with self._lock:
            now = self._clock.now()
            jump = self._jumps.since_last(now)
            if jump is not None:
                self._store.write(lambda transaction: transaction.budgets.shift(jump.expected, jump.by))
                _log.warning("the clock was set; rate budgets go along with it", seconds=jump.by.total_seconds())
        return now


def _admit(
    transaction: SQLTransaction, order: PlannedOrder, wanted: tuple[Claim, ...], now: datetime
) -> Refusal | None:
    budgets = transaction.budgets
    admitted = bool(budgets.reservations(order.operation_id, order.step, order.ca))
    if admitted:
        wanted = tuple(replace(claim, bound=False) for claim in wanted)
    levels: dict[Bucket, Level] = {}
    for claim in wanted:
        level = budgets.level(claim.bucket, counted=claim.limit is not None)
        if claim.limit is not None and corrected(claim.limit, level, now) != level:
            level = corrected(claim.limit, level, now)
            budgets.put(claim.bucket, level)
        levels[claim.bucket] = level
    refused = refusal(wanted, levels, now)
    if refused is not None:
        return replace(refused, retry_at=refused.retry_at + refused.spread * fraction(order.operation_id))
    if not admitted:
        for claim in wanted:
            if claim.take is Take.NOW and claim.limit is not None:
                budgets.put(claim.bucket, taken(claim.limit, levels[claim.bucket], now))
            if claim.take is not Take.NEVER:
                pending = claim.take is Take.WHEN_ISSUED and claim.limit is not None
                budgets.reserve(order.operation_id, order.step, claim.bucket, now + _RESERVED_FOR, pending=pending)
    return None


def _claims(order: PlannedOrder, limits: Limits) -> tuple[Claim, ...]:
    return claims(order, limits, {name: registered_domain(name) for name in order.names})


def _held_buckets(order: PlannedOrder, scope: Scope, names: Sequence[str]) -> list[Bucket]:
    match scope:
        case Scope.ACCOUNT:
            return [Bucket(order.ca, scope, order.account)]
        case Scope.NAMES:
            return [Bucket(order.ca, scope, set_of(order.names))]
        case Scope.DOMAIN:
            return [Bucket(order.ca, scope, domain) for domain in dict.fromkeys(map(registered_domain, names))]
        case Scope.NAME:
            return [failure_buckets(order, name)[0] for name in dict.fromkeys(map(validated, names))]
        case _:
            return [Bucket(order.ca, Scope.CA, "")]


def _binds(claim: Claim) -> bool:
    return claim.limit is not None and claim.bound


def _state(claim: Claim, level: Level, now: datetime, exempt: frozenset[Standing]) -> BudgetState:
    is_held = level.is_held(now)
    return BudgetState(
        claim.bucket.scope,
        claim.what,
        claim.limit,
        None if claim.limit is None else left(claim.limit, level, now),
        max(next_fit(claim.limit, level, now, claim.kept), level.held_until if is_held else now),
        level.held_until if is_held else None,
        level.reason if is_held else None,
        claim.bucket,
        exempt,
    )
