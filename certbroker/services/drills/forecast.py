"""When many orders that are made together would be through, by the budgets of their CA and the pace of their issuer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from certbroker.domain.budget import Bucket, Scope, Standing, described, moment
from certbroker.ports.governor import BudgetState

# What an order takes a place of, and others too. Of the budget for exactly its names nobody else wants one.
_SHARED: Final = (Scope.ACCOUNT, Scope.DOMAIN)
_MOST_REASONS: Final = 200


class Forecast:
    """Places one order after the other, each where it fits behind those before. Nothing is taken from the budgets.

    `held_back` counts orders by what they have to wait for.
    """

    def __init__(self, now: datetime) -> None:
        self.held_back: Counter[str] = Counter()
        self._now = now
        self._full_at: dict[Bucket, datetime] = {}
        self._queues: dict[str, timedelta] = {}

    def place(
        self, queue: str, budgets: Iterable[BudgetState], standing: Standing, length: timedelta, threads: int
    ) -> datetime:
        """When the next order of that standing would be done. The queue is that of its issuer, which takes so many at
        the same time, each for `length`.
        """
        ahead = self._queues.get(queue, timedelta(0))
        self._queues[queue] = ahead + length / threads
        begin = self._now + ahead
        counted = [budget for budget in budgets if standing not in budget.exempt and budget.limit is not None]
        fits = begin
        reason = ""
        for budget in budgets:
            if budget.held_until is not None and budget.held_until > fits:
                fits, reason = budget.held_until, f"The CA wants no {budget.what} before {moment(budget.held_until)}."
        for budget in counted:
            assert budget.limit is not None
            free = self._level(budget) + budget.limit.every - budget.limit.period
            if free > fits:
                fits, reason = free, f"It allows {described(budget.limit, budget.what)}."
        for budget in counted:
            if budget.limit is not None and budget.scope in _SHARED:
                self._full_at[budget.bucket] = max(self._level(budget), fits) + budget.limit.every
        if reason and (reason in self.held_back or len(self.held_back) < _MOST_REASONS):
            self.held_back[reason] += 1
        return fits + length

    def _level(self, budget: BudgetState) -> datetime:
        """When the bucket would be whole again, with what has been placed already."""
        known = self._full_at.get(budget.bucket)
        if known is not None or budget.limit is None:
            return known or self._now
        return self._now + (budget.limit.burst - (budget.left or 0)) * budget.limit.every
