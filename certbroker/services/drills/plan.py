"""The plan of a drill: what stands in the way of each replacement, and when it would be done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Final

from certbroker.domain import operation as states
from certbroker.domain.budget import Standing
from certbroker.domain.csr import names_for
from certbroker.domain.drill import Drill, Fate, Plan, Replacement, Standby
from certbroker.domain.errors import BrokerError
from certbroker.ports.governor import BudgetState, HasBudgets
from certbroker.ports.issuer import THREADS_PER_ISSUER, Issuer, IssuerKind
from certbroker.services.drills.forecast import Forecast
from certbroker.services.issuers.issuers import Issuers
from certbroker.services.renewal.looks import Look
from certbroker.store.transaction import SQLTransaction

# How long one certificate takes where nothing is known, and with how many that are known that is.
_USUAL: Final = timedelta(seconds=5)
_LOCAL: Final = timedelta(seconds=0.02)
_ENOUGH: Final = 5
_SAMPLES: Final = 500

# Of each sort, in the summary.
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class _Source:
    """An issuer that is to make new versions. `problem` says why it cannot."""

    kind: IssuerKind | None
    issuer: Issuer | None
    problem: str = ""


class Planner:
    """Looks at one certificate after the other. What it knows is in memory: a plan that is cut short begins anew."""

    def __init__(self, drill: Drill, issuers: Issuers, now: datetime) -> None:
        self.after = (-1, "")
        self._drill = drill
        self._issuers = issuers
        self._now = now
        self._forecast = Forecast(now)
        self._kinds: Counter[str] = Counter()
        self._standby: Counter[tuple[int, str]] = Counter()
        self._sources: dict[tuple[int, str], _Source] = {}
        self._samples: list[float] = []

    def see(self, transaction: SQLTransaction, look: Look) -> Replacement | None:
        """What is to be said of a certificate; None where it has no version yet."""
        version, policy, facts, care = look.version, look.policy, look.facts, look.care
        if version is None or policy is None or facts is None or version.certificate is None:
            return None
        vault = care.vault_id
        for standby in policy.standby_issuers:
            self._standby[vault, standby.lower()] += 1
        source = self._source(vault, policy.issuer)
        obstacle = _obstacle(look, source)
        if obstacle:
            self._kinds[obstacle[0]] += 1
            return Replacement(vault, care.name, version.version, Fate.PERSON, obstacle[1], at=self._now)
        self._sample(transaction, look)
        self._kinds.update(_kinds(look, self._drill.issuer))
        length = _LOCAL if source.kind is not None and source.kind.local else self._length()
        names = names_for(policy)
        issuer = source.issuer
        asked = [*names.dns_names, *names.ip_addresses]
        budgets: list[BudgetState] = issuer.budgets(asked) if isinstance(issuer, HasBudgets) else []
        queue = f"{vault} {policy.issuer.lower()}"
        done = self._forecast.place(queue, budgets, self._standing(look), length, THREADS_PER_ISSUER)
        rest = min(timedelta(hours=policy.activation_delay_hours), max(facts.not_after - done, timedelta(0)) / 2)
        reason = facts.setback.problem.message if facts.setback is not None else ""
        return Replacement(vault, care.name, version.version, Fate.READY, reason, done + rest, self._now)

    def plan(self, transaction: SQLTransaction) -> Plan:
        """What all of them come to."""
        standby = []
        for (vault, issuer), count in self._standby.most_common(_SHOWN):
            health = transaction.issuers.health(vault, issuer)
            state = "Missing" if health is None else str(health.state)
            source = self._source(vault, issuer)
            standby.append(Standby(vault, issuer, state if not source.problem else "Unusable", count))
        limits = tuple(f"{reason} ({count})" for reason, count in self._forecast.held_back.most_common(_SHOWN))
        return Plan(
            round(self._length().total_seconds(), 3), len(self._samples), dict(self._kinds), tuple(standby), limits
        )

    def _standing(self, look: Look) -> Standing:
        """What the order would be to its CA: it has suggested when to renew where orders may say what they replace."""
        if look.policy is None or look.policy.issuer.lower() != self._drill.issuer:
            return Standing.NEW
        return Standing.RENEWAL if look.care.lifecycle.suggestion is None else Standing.REPLACEMENT

    def _source(self, vault: int, issuer: str) -> _Source:
        key = (vault, issuer.lower())
        found = self._sources.get(key)
        if found is None:
            found = self._sources[key] = self._opened(vault, issuer)
        return found

    def _opened(self, vault: int, issuer: str) -> _Source:
        try:
            kind = self._issuers.kind(vault, issuer)
            return _Source(kind, None if kind.manual else self._issuers.open(vault, issuer))
        except BrokerError as error:
            return _Source(None, None, error.message)

    def _sample(self, transaction: SQLTransaction, look: Look) -> None:
        """How long the version in use took, from the wish to the certificate."""
        if len(self._samples) >= _SAMPLES or look.version is None:
            return
        made = transaction.operations.pending(look.care.vault_id, look.care.name)
        if made is not None and made.version == look.version.version and isinstance(made.state, states.Completed):
            self._samples.append(max(0.05, look.version.attributes.created - made.created.timestamp()))

    def _length(self) -> timedelta:
        return timedelta(seconds=median(self._samples)) if len(self._samples) >= _ENOUGH else _USUAL


def _obstacle(look: Look, source: _Source) -> tuple[str, str] | None:
    """Why no machine can replace it now, in a word and in a sentence."""
    facts, policy, care = look.facts, look.policy, look.care
    if facts is None or policy is None:
        return None
    if facts.manual:
        return "manual", "A person brings its certificates: create a new version and merge the answer."
    if not facts.enabled:
        return "disabled", "It is disabled: enable it first, or delete it where nobody needs it."
    if care.staged is not None:
        return "staged", "A newer version rests until it becomes the current one: run the drill again after that."
    if source.problem and not policy.standby_issuers:
        return "unusable", f"The issuer {policy.issuer} cannot be used, and there is no standby. {source.problem}"
    return None


def _kinds(look: Look, issuer: str) -> list[str]:
    """What is worth knowing of one that a machine can replace."""
    policy, facts = look.policy, look.facts
    if policy is None or facts is None:
        return []
    found = {
        "reuse_key": policy.reuse_key,
        "failing": facts.setback is not None,
        "in_progress": facts.in_progress,
        "rests": policy.activation_delay_hours > 0,
        "standby": bool(policy.standby_issuers),
        "other_issuer": policy.issuer.lower() != issuer,
    }
    return [kind for kind, holds in found.items() if holds]
