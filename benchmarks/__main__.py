"""Run the benchmarks, print a table, and write `build/bench.json`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.acme import acme
from benchmarks.footprint import footprint
from benchmarks.mass_revocation import mass_revocation
from benchmarks.private_ca import private_ca
from benchmarks.publication import crl_1m, ocsp_reply
from benchmarks.reads import read_secret
from benchmarks.revocation import revocation
from benchmarks.row import Row
from benchmarks.scale import scale
from benchmarks.self_signed import self_signed
from benchmarks.writes import write_secret

SCENARIOS: dict[str, Callable[[Path], Row | list[Row]]] = {
    "read_secret": read_secret,
    "write_secret": write_secret,
    "self_signed": self_signed,
    "private_ca": private_ca,
    "acme": acme,
    "ocsp_reply": ocsp_reply,
    "crl_1m": crl_1m,
    "footprint": footprint,
    "scale": scale,
    "mass_revocation": mass_revocation,
    "revocation": revocation,
}


def main() -> None:
    chosen = sys.argv[1:] or list(SCENARIOS)
    unknown = sorted(set(chosen) - set(SCENARIOS))
    if unknown:
        sys.exit(f"No such benchmark: {unknown[0]}. There are: {', '.join(SCENARIOS)}.")
    console = Console()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="certbroker-bench-") as scratch:
        for name in chosen:
            with console.status(f"{name} …"):
                found = SCENARIOS[name](Path(scratch))
            rows += [found] if isinstance(found, Row) else found
    console.print(_table(rows))
    output = Path("build/bench.json")
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    console.print(f"Written to {output}.")


def _table(rows: list[Row]) -> Table:
    table = Table(title=f"certbroker on {os.cpu_count()} cores, load generator on the same machine")
    for column in ("name", "value", "unit", "baseline", "ratio"):
        table.add_column(column, justify="left" if column in ("name", "unit") else "right")
    for row in rows:
        table.add_row(row.name, _figure(row.value), row.unit, _figure(row.baseline), _figure(row.ratio))
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    main()
