"""What is kept of a run: what a picture can be drawn from, and its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.simulation.tally import Tally
from benchmarks.simulation.world import World

Record = dict[str, Any]
N = TypeVar("N", int, float)


def write_record(path: Path, world: World, tally: Tally, figures: dict[str, object]) -> Record:
    """Write it as JSON, and return it. Weeks are counted from the start."""
    weeks = range((world.end - world.start).days // 7 + 1)
    record: Record = {
        "start": world.start.isoformat(),
        "end": world.end.isoformat(),
        "incident": world.incident.isoformat(),
        "outages": [
            [outage.ca, outage.span.start.isoformat(), outage.span.end.isoformat()] for outage in world.outages
        ],
        "jumps": [
            [jump.span.start.isoformat(), jump.span.end.isoformat(), jump.by.total_seconds()] for jump in world.jumps
        ],
        "suspends": [[span.start.isoformat(), span.end.isoformat()] for span in world.suspends],
        "certificates_by_week": _by_name(tally.certificates_by_week, weeks, 0),
        "most_used_by_week": _by_name(tally.most_used, weeks, 0.0),
        "health_by_week": [dict(tally.health_by_week.get(week, {})) for week in weeks],
        "orders_by_week": [tally.orders_by_week.get(week, 0) for week in weeks],
        "least_life_left_by_week": [
            round(tally.least_left[week], 4) if week in tally.least_left else None for week in weeks
        ],
        "figures": figures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record) + "\n")
    return record


def _by_name(counts: Mapping[tuple[int, str], N], weeks: range, none: N) -> dict[str, list[N]]:
    """A row of weeks for each name."""
    names = sorted({name for _, name in counts})
    return {name: [counts.get((week, name), none) for week in weeks] for name in names}
