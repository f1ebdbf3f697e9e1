"""Years of a site in minutes, against simulated CAs.

Progress goes to the standard error, one line of JSON to the standard output, a picture into `build/`. The exit code is
1 when a promise was not kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.simulation.brokers import live
from benchmarks.simulation.picture import draw_picture
from benchmarks.simulation.record import write_record
from benchmarks.simulation.tally import Tally, broken, figures
from benchmarks.simulation.world import World, draw
from benchmarks.simulation.years import ASK_AGAIN, TICK

# Where there is no terminal to draw a bar on, so many days are told at once.
_REPORT: Final = 91


def main() -> None:
    options = _options()
    world = draw(options.years, options.certs, options.seed)
    started = time.perf_counter()
    tally = _live(world, options)
    told = figures(world, tally, time.perf_counter() - started)
    record = write_record(options.into / "simulation.json", world, tally, told)
    (options.into / "simulation.svg").write_text(draw_picture(record))
    print(f"The years are drawn in {options.into / 'simulation.svg'}.", file=sys.stderr)
    missed = broken(world, tally)
    for sentence in missed:
        print(f"broken: {sentence}", file=sys.stderr)
    print(json.dumps(told))
    sys.exit(1 if missed else 0)


def _live(world: World, options: argparse.Namespace) -> Tally:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[orders]:>7} orders"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tick, ask_again = timedelta(minutes=options.tick), timedelta(hours=options.ask_again)
    with Progress(*columns, console=Console(stderr=True)) as bar:
        told = [0]
        task = bar.add_task(f"{world.start:%Y-%m-%d}", total=(world.end - world.start).days, orders=0)

        def progress(days: int, orders: int) -> None:
            date = world.start + timedelta(days=days)
            if not bar.console.is_terminal and days // _REPORT > told[0] // _REPORT:
                told[0] = days
                print(f"{date:%Y-%m-%d}: {orders} orders", file=sys.stderr, flush=True)
            bar.update(task, completed=days, orders=orders, description=f"{date:%Y-%m-%d}")

        return live(world, options.brokers, options.seed, tick, ask_again, progress)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--years", type=float, default=10)
    parser.add_argument("--certs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--brokers", type=int, default=2, help="the teams are divided among so many")
    parser.add_argument("--tick", type=float, default=TICK / timedelta(minutes=1), metavar="MINUTES")
    parser.add_argument("--ask-again", type=float, default=ASK_AGAIN / timedelta(hours=1), metavar="HOURS")
    parser.add_argument("--into", type=Path, default=Path("build"), help="a directory for the picture and its record")
    return parser.parse_args()


if __name__ == "__main__":
    main()
