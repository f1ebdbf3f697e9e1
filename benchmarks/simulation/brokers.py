"""Several brokers beside each other, each with some of the teams, in a process of its own.

They share nothing, because limits count by account and by registered domain, and both belong to one team.
"""

from __future__ import annotations

import gc
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.simulation.tally import Tally, together
from benchmarks.simulation.world import World
from benchmarks.simulation.years import Simulation

# How far each process has come: in shared memory, which can only be handed over when a process begins.
_days: Any = None
_orders: Any = None


def live(
    world: World, brokers: int, seed: int, tick: timedelta, ask_again: timedelta, progress: Callable[[int, int], None]
) -> Tally:
    """Live through the years; `progress` is told the days that all have behind them, and the orders so far."""
    context = multiprocessing.get_context("spawn")
    days, orders = context.Array("q", brokers), context.Array("q", brokers)
    with (
        tempfile.TemporaryDirectory(prefix="certbroker-simulation-") as directory,
        ProcessPoolExecutor(brokers, context, _begin, (days, orders)) as pool,
    ):
        running = [
            pool.submit(_live, number, world.part(number, brokers), Path(directory), seed, tick, ask_again)
            for number in range(brokers)
        ]
        while wait(running, timeout=0.5).not_done:
            progress(min(days[:]), sum(orders[:]))
        return together([each.result() for each in running])


def _begin(days: Any, orders: Any) -> None:
    global _days, _orders
    _days, _orders = days, orders
    # What the CAs remember lives as long as the process, and there is no garbage in circles to speak of.
    gc.set_threshold(100_000, 50, 1000)


def _live(number: int, world: World, directory: Path, seed: int, tick: timedelta, ask_again: timedelta) -> Tally:
    def progress(now: datetime, orders: int) -> None:
        _days[number], _orders[number] = (now - world.start).days, orders

    simulation = Simulation(world, directory / str(number), f"{seed} {number}", tick=tick, ask_again=ask_again)
    return simulation.run(progress)
