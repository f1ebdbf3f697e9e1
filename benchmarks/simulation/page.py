"""The page about a run: its picture, and its figures where the page has a place for them.

python -m benchmarks.simulation.page build/simulation.json docs/explanation/ten-years.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from benchmarks.simulation.picture import draw_picture, hours
from benchmarks.simulation.record import Record

_BEGIN: Final = "<!-- figures -->\n"
_END: Final = "<!-- end of figures -->\n"


def write_page(record: Record, page: Path) -> None:
    """Draw the picture beside the page, and put the figures into it."""
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for figures, which is between {_BEGIN.strip()} and {_END.strip()}")
    page.write_text(f"{before}{begin}{figures_table(record)}\n{end}{after}")
    page.with_suffix(".svg").write_text(draw_picture(record))


def figures_table(record: Record) -> str:
    """The figures of the run, as a table in Markdown."""
    figures = record["figures"]
    wrong = f"{figures['clock_jumps']} times, {figures['suspends']} times"
    struck = f"{figures['incident_certificates']} certificates, within {hours(figures['incident_replaced_hours'])}"
    rows = {
        "run by": f"`make simulate YEARS={figures['years']:g} CERTS={figures['certificates']}`",
        "orders": f"{figures['orders']:,}, where {figures['ideal_orders']:,} are ideal",
        "expired while their CA was up": figures["expired"],
        "expired because their CA was away for longer than they lived": figures["expired_in_outages"],
        "orders refused because of a limit": figures["limit_violations"],
        "ordered twice, or for something that was replaced already": figures["doubled_orders"],
        "validations that failed, and were made good": figures["failed_validations"],
        "outages": f"{figures['outages']}, {figures['outage_hours'] / 24:.0f} days in all",
        "replaced after the mass revocation": struck,
        "clock wrong by an hour, machine asleep for a day": wrong,
        "most orders in one hour": figures["peak_orders_per_hour"],
        "questions for renewal windows": f"{figures['questions']:,}",
        "certificates that are not well at the end": figures["unwell_at_the_end"],
        "CPU time, all of it": f"{figures['cpu_seconds'] / 60:.0f} minutes",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


if __name__ == "__main__":
    write_page(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
