"""A broker on a real database whose engine is alive, as far as its signs of life say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from certbroker.app import Core, unseal
from certbroker.config import build
from certbroker.domain.audit import Caller
from certbroker.domain.objects import Vault
from certbroker.foundation import lay_foundation
from certbroker.services.health.meters import Meters
from certbroker.services.health.pulse import Pulse
from certbroker.services.health.readiness import Readiness
from tests.support.clock import SteppedClock


class Stopwatch:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def core(tmp_path: Path, stopwatch: Stopwatch, clock: SteppedClock) -> Iterator[Core]:
    laid = lay_foundation(build({"data": {"directory": tmp_path}}))
    pulse = Pulse(stopwatch)
    meters, readiness = Meters(laid.store, pulse), Readiness(laid.store, tmp_path, pulse)
    core = unseal(replace(laid, clock=clock, meters=meters, readiness=readiness))
    pulse.start()
    yield core
    core.close()


@pytest.fixture
def caller() -> Caller:
    return Caller("operator", "Test")


@pytest.fixture
def vault(core: Core, caller: Caller) -> Vault:
    return core.broker.vaults.create(caller, "vault")
