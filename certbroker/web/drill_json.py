"""Drills as JSON. Times are Unix seconds; what is not known is left out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from certbroker.domain.drill import AT_ONCE, Drill, Fate, Plan, Progress, Replacement
from certbroker.services.drills.drills import DrillReport, DrillWish

Vaults = Mapping[int, str]

_SHOWN: Final = 20


class DrillBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A drill to begin."""

    issuer: str
    perform: bool = False
    reason: str = ""
    new_key: bool = False
    batch: int = AT_ONCE

    def wish(self) -> DrillWish:
        return DrillWish(self.issuer, self.perform, self.reason, self.new_key, self.batch)


def report_json(report: DrillReport, vaults: Vaults) -> dict[str, Any]:
    """A drill and how far it is."""
    drill, progress = report.drill, report.progress
    found = drill_json(drill, vaults)
    found["certificates"] = {"total": progress.total} | {str(fate): progress.counts.get(fate, 0) for fate in Fate}
    if drill.planned is not None:
        found["estimate"] = _estimate(drill, progress)
        found["kinds"] = drill.plan.kinds
        found["standby"] = _standby(drill.plan, vaults)
    if progress.counts.get(Fate.REPLACED) and progress.last_replaced is not None and drill.planned is not None:
        seconds = max(0.001, (progress.last_replaced - drill.planned).total_seconds())
        found["seconds"] = round(seconds, 1)
        found["rate"] = round(progress.counts[Fate.REPLACED] / seconds, 3)
    if report.persons:
        found["needs_person"] = [replacement_json(each, vaults) for each in report.persons[:_SHOWN]]
    return found


def drill_json(drill: Drill, vaults: Vaults) -> dict[str, Any]:
    """A drill in a list."""
    return _present({
        "id": drill.id,
        "issuer": drill.issuer,
        "vault": None if drill.vault_id is None else vaults.get(drill.vault_id),
        "stage": str(drill.stage),
        "perform": drill.perform,
        "new_key": drill.new_key,
        "batch": drill.batch,
        "reason": drill.reason,
        "started": _seconds(drill.started),
        "planned": _seconds(drill.planned),
        "ended": _seconds(drill.ended),
    })  # fmt: skip


def replacement_json(each: Replacement, vaults: Vaults) -> dict[str, Any]:
    """A certificate in a drill."""
    return _present({
        "vault": vaults.get(each.vault_id),
        "name": each.name,
        "version": each.version,
        "state": str(each.fate),
        "reason": each.reason,
        "expected": _seconds(each.expected),
        "at": _seconds(each.at),
    })  # fmt: skip


def _estimate(drill: Drill, progress: Progress) -> dict[str, Any]:
    return _present({
        "seconds_each": drill.plan.each,
        "measured": drill.plan.measured,
        "finished": _seconds(progress.last),
        "after_24_hours": progress.after_short,
        "after_5_days": progress.after_long,
        "held_back_by": list(drill.plan.limits),
    })  # fmt: skip


def _standby(plan: Plan, vaults: Vaults) -> list[dict[str, Any]]:
    return [
        {
            "vault": vaults.get(each.vault_id),
            "issuer": each.issuer,
            "state": each.state,
            "certificates": each.certificates,
        }
        for each in plan.standby
    ]


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "")}
