"""What is kept of a run: what a picture can be drawn from, and its figures."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.simulation.tally import Tally
from benchmarks.simulation.world import World


def write_record(path: Path, world: World, tally: Tally, figures: dict[str, object]) -> None:
    """Write it as JSON. Weeks are counted from the start."""
    weeks = range((world.end - world.start).days // 7 + 1)
    record = {
        "start": world.start.isoformat(),
        "end": world.end.isoformat(),
        "incident": world.incident.isoformat(),
        "outages": [
            [outage.ca, outage.span.start.isoformat(), outage.span.end.isoformat()] for outage in world.outages
        ],
        "orders_by_week": [tally.orders_by_week.get(week, 0) for week in weeks],
        "least_life_left_by_week": [
            round(tally.least_left[week], 4) if week in tally.least_left else None for week in weeks
        ],
        "figures": figures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
