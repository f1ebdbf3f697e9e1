"""What ten thousand, a hundred thousand and a million certificates cost while next to nothing is due.

Each figure is that of the larger number, beside it that of ten thousand, and the ratio of the two: about 1 where the
number does not matter. Costs are CPU time, so that what else the machine does counts less.

A certificate takes 9 KB with what belongs to it, so this needs 10 GB where temporary files are, and minutes to fill
them.
"""

from __future__ import annotations

import shutil
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.broker import cpu_seconds, private_directory, resident_mb
from benchmarks.population import VAULT, Population
from benchmarks.row import Row
from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.engine.issue import IssueSweep
from certbroker.engine.notify import NotifySweep
from certbroker.engine.renew import RenewSweep
from certbroker.engine.revoke import RevokeSweep
from certbroker.services.health.metrics import Metrics
from tests.support.broker import DevBroker

Work = Callable[[], object]

_SIZES: Final = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}
_UNITS: Final = {
    "start": "s CPU",
    "rss": "MiB",
    "idle_tick": "µs CPU",
    "chores": "µs CPU",
    "status": "µs CPU",
    "scrape": "µs CPU",
    "claim_200": "ms CPU",
    "claim_200_operations": "ms CPU",
}
_DUE: Final = 200
_ROUNDS: Final = 5
_STARTS: Final = 3
_SETTLE: Final = 5.0  # Seconds until a process that has been started has come to rest.
_CERTIFICATES_TOLD: Final = 500  # As by default: with more than these a scrape counts them only.
_OPERATOR: Final = Caller("operator", "Benchmark")


def scale(scratch: Path) -> list[Row]:
    populations = {size: Population(private_directory(scratch, size), count) for size, count in _SIZES.items()}
    found = {size: _process(population.directory) for size, population in populations.items()}
    with ExitStack() as stack:
        cores = {size: stack.enter_context(population.opened()) for size, population in populations.items()}
        for name, of in (("idle_tick", _tick), ("chores", _chores), ("status", _status), ("scrape", _scrape)):
            costs = _least({size: of(core, stack) for size, core in cores.items()}, 200 if name == "idle_tick" else 20)
            for size, cost in costs.items():
                found[size][name] = 1e6 * cost
        # Only now: what is due after a claim is not idle.
        for size, core in cores.items():
            found[size]["claim_200"] = _claims_of_certificates(populations[size], core)
            found[size]["claim_200_operations"] = _claims_of_operations(populations[size], core)
    for population in populations.values():
        shutil.rmtree(population.directory)
    return _rows(found)


def _rows(found: Mapping[str, Mapping[str, float]]) -> list[Row]:
    base = found["10k"]
    return [
        Row(_title(name, size), figures[name], _UNITS[name], base[name], figures[name] / base[name])
        for name in _UNITS
        for size, figures in found.items()
        if size != "10k"
    ]


def _title(name: str, size: str) -> str:
    """Costs of claims are what somebody looks for by their own name."""
    return f"{name}_cpu_ms" if size == "1m" and name.startswith("claim") else f"{name}_{size}_vs_10k"


def _process(directory: Path) -> dict[str, float]:
    """Of a broker that has been started, has been asked how it is, and is idle."""
    starts, resident = [], 0.0
    for _ in range(_STARTS):
        with DevBroker(directory) as broker:
            starts.append(cpu_seconds(broker.process.pid))
            with urllib.request.urlopen(f"{broker.env['CERTBROKER_MONITORING_URL']}/metrics") as scrape:
                assert scrape.status == 200, scrape.status
            time.sleep(_SETTLE)
            resident = resident_mb(broker.process.pid)
    return {"start": median(starts), "rss": resident}


def _tick(core: Core, stack: ExitStack) -> Work:
    """What the engine does every second, when nothing is due."""
    broker, inbox = core.broker, core.inbox
    issue, notify = IssueSweep(broker.operations, inbox), NotifySweep(broker.deliveries, inbox)
    renew, revoke = RenewSweep(broker.renewals), RevokeSweep(broker.revocations)
    for each in (issue, notify, renew, revoke):
        stack.callback(each.stop)

    def tick() -> None:
        worked = renew.sweep() + revoke.sweep() + issue.sweep() + notify.sweep()
        assert not worked, "something is due"
        broker.operations.next_due()

    return tick


def _chores(core: Core, stack: ExitStack) -> Work:
    """What the engine does every minute or hour."""
    broker, keeping = core.broker, core.broker.housekeeping
    chores: tuple[Work, ...] = (
        *(keeping.beat, keeping.forget_old_operations, broker.deletions.purge_due, broker.governor.tidy),
        *(broker.operations.bring_forward, broker.secret_expiry.tell, broker.rotation.resume),
        *(broker.deliveries.prune, broker.digests.publish_due),
    )
    return lambda: [chore() for chore in chores]


def _status(core: Core, stack: ExitStack) -> Work:
    return core.broker.status.report


def _scrape(core: Core, stack: ExitStack) -> Work:
    broker = core.broker
    hours = iter(range(0, 10**9, 3600))  # So that nothing is told from memory.
    metrics = Metrics(
        broker.store, broker.clock, broker.meters, broker.readiness, _CERTIFICATES_TOLD, lambda: float(next(hours))
    )
    return lambda: metrics.render("")


def _least(works: Mapping[str, Work], times: int) -> dict[str, float]:
    """Seconds of CPU for one of each, at best; in turn, so that none has the machine at a better hour."""
    costs: dict[str, list[float]] = {size: [] for size in works}
    for _ in range(_ROUNDS):
        for size, work in works.items():
            work()
            before = time.process_time()
            for _ in range(times):
                work()
            costs[size].append((time.process_time() - before) / times)
    return {size: min(each) for size, each in costs.items()}


def _claims_of_certificates(population: Population, core: Core) -> float:
    """Milliseconds to select and claim those that are due for a look, scattered over all."""
    costs = []
    for _ in range(_ROUNDS):
        population.make_due(_DUE)
        before = time.process_time()
        claimed = core.broker.renewals.claim(_DUE)
        costs.append(time.process_time() - before)
        assert len(claimed) == _DUE, claimed
    return 1e3 * median(costs)


def _claims_of_operations(population: Population, core: Core) -> float:
    """Milliseconds to select and claim operations that are due, of certificates scattered over all."""
    broker, costs = core.broker, []
    vault = broker.vaults.find(VAULT)
    for turn in range(_ROUNDS):
        for name in population.names(_DUE, turn):
            broker.renewals.request(_OPERATOR, vault, name, "")
        before = time.process_time()
        claimed = broker.operations.claim(broker.operations.due(_DUE))
        costs.append(time.process_time() - before)
        assert len(claimed) == _DUE, claimed
    return 1e3 * median(costs)
