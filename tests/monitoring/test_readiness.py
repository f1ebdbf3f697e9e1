"""Whether the broker is ready is judged by what it has done, and every reason against it is told."""

from __future__ import annotations

import shutil
import sqlite3
from collections import namedtuple

import pytest

from certbroker.app import Core
from certbroker.engine.scheduler import Engine
from certbroker.services.health.pulse import SILENCE, Part
from tests.monitoring.conftest import Stopwatch

_Usage = namedtuple("_Usage", "total used free")


def test_a_broker_whose_engine_works_is_ready(core: Core) -> None:
    assert [] == core.broker.readiness.reasons()


def test_an_engine_that_stands_still_is_told_part_by_part(core: Core, stopwatch: Stopwatch) -> None:
    stopwatch.seconds += SILENCE[Part.BEAT] + 1
    core.broker.meters.pulse.beat(Part.ISSUE)

    assert [
        "The engine has not looked after certificates for 121 seconds.",
        "The engine has not seen to revocations for 121 seconds.",
        "The engine has not gone on with drills for 121 seconds.",
        "The engine has not seen to what private CAs publish for 121 seconds.",
        "The engine has not gone on with discovery for 121 seconds.",
        "The engine has not watched for revocations for 121 seconds.",
        "The engine has not delivered events for 121 seconds.",
        "The engine has not looked at endpoints for 121 seconds.",
        "The engine has not deployed certificates for 121 seconds.",
        "The engine has not looked after keys for 121 seconds.",
        "The database has not been written for 121 seconds.",
    ] == core.broker.readiness.reasons()


def test_a_short_silence_is_nothing(core: Core, stopwatch: Stopwatch) -> None:
    stopwatch.seconds += min(SILENCE.values())

    assert [] == core.broker.readiness.reasons()


def test_a_sweep_that_fails_is_no_sign_of_life_and_its_error_is_the_reason(core: Core, stopwatch: Stopwatch) -> None:
    for _ in range(7):
        stopwatch.seconds += 10
        for part in set(Part) - {Part.RENEW, Part.BEAT}:
            core.broker.meters.pulse.beat(part)
        with pytest.raises(sqlite3.OperationalError), core.broker.meters.sweeping(Part.RENEW):
            raise sqlite3.OperationalError("disk I/O error")

    assert [
        "The engine has not looked after certificates for 70 seconds: OperationalError: disk I/O error."
    ] == core.broker.readiness.reasons()


def test_it_is_ready_again_once_the_sweep_succeeds(core: Core, stopwatch: Stopwatch) -> None:
    stopwatch.seconds += 1000
    for part in Part:
        with core.broker.meters.sweeping(part):
            pass

    assert [] == core.broker.readiness.reasons()


def test_an_engine_that_never_started_is_not_ready(core: Core) -> None:
    fresh = type(core.broker.meters.pulse)()
    readiness = type(core.broker.readiness)(core.broker.store, core.broker.readiness.directory, fresh)
    readiness.sealed = None

    assert ["The engine has not started."] == readiness.reasons()
    assert not fresh.is_fresh


def test_a_sealed_broker_says_why_it_is_sealed(core: Core) -> None:
    core.broker.readiness.sealed = "The file seal.key does not exist."

    assert ["The broker is sealed. The file seal.key does not exist."] == core.broker.readiness.reasons()


def test_a_full_disk_is_told_before_the_first_write_fails(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(1 << 40, 1 << 40, 12 << 20))

    assert ["The disk of the data directory is full: 12 MB are left, 64 are needed."] == core.broker.readiness.reasons()


def test_the_engine_itself_gives_all_signs_of_life(core: Core, stopwatch: Stopwatch) -> None:
    engine = Engine(core.broker, core.inbox)
    engine.start()
    stopwatch.seconds += 1000
    try:
        for _ in range(600):
            if core.broker.meters.pulse.is_fresh:
                break
            engine._beat()
            engine._stopping.wait(0.05)
    finally:
        engine.stop()

    assert core.broker.meters.pulse.is_fresh


def test_a_database_that_takes_nothing_is_no_sign_of_life(core: Core, stopwatch: Stopwatch) -> None:
    engine = Engine(core.broker, core.inbox)
    stopwatch.seconds += SILENCE[Part.BEAT] + 1
    core.broker.store._writer._connection.execute("PRAGMA query_only = ON")
    engine._beat()
    reasons = core.broker.readiness.reasons()
    core.broker.store._writer._connection.execute("PRAGMA query_only = OFF")

    assert "OperationalError: attempt to write a readonly database" in reasons[-1]
