"""`idle_rss_mb` and `start_ready_s`: what a broker costs that has nothing to do."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import uvloop

from benchmarks.broker import private_directory, resident_mb, target
from benchmarks.row import Row
from benchmarks.self_signed import create
from tests.support.broker import DevBroker

_CERTIFICATES = 1000
_STARTS = 5


def footprint(scratch: Path) -> list[Row]:
    directory = private_directory(scratch, "idle")
    with DevBroker(directory) as broker:
        ours = target(broker)
        uvloop.run(create(ours, [f"idle-{n}" for n in range(_CERTIFICATES)], 32))
        time.sleep(5)  # Until the last of them is stored and the process has come to rest.
        after_work = resident_mb(broker.process.pid)
    starts = []
    for _ in range(_STARTS):
        started = time.perf_counter()
        with DevBroker(directory):
            starts.append(time.perf_counter() - started)
    return [Row("idle_rss_mb", after_work, "MiB"), Row("start_ready_s", median(starts), "s")]
