"""What systemd is told of a real broker, and when its watchdog is fed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certbroker.services.health.pulse import SILENCE, Part, Pulse
from certbroker.supervision import Supervision
from tests.support.serving import Installation

_SECONDS = 60


class NotifySocket:
    """What systemd listens on."""

    def __init__(self, path: Path | str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(_SECONDS)

    def next(self) -> list[str]:
        return self._socket.recv(4096).decode().splitlines()

    def until(self, line: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while line not in self.next():
            assert time.monotonic() < deadline, line

    def waiting(self) -> list[list[str]]:
        """What has come already."""
        self._socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.next())
        except BlockingIOError:
            return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[NotifySocket]:
    listening = NotifySocket(tmp_path / "notify")
    yield listening
    listening.close()


def test_systemd_is_told_of_the_start_the_life_and_the_end(tmp_path: Path, notified: NotifySocket) -> None:
    place = Installation(tmp_path / "broker")
    with place.serve(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="600000") as broker:
        notified.until("READY=1")
        broker.wait("ok")
        for _ in range(3):
            notified.until("WATCHDOG=1")
        broker.process.send_signal(signal.SIGTERM)
        notified.until("STOPPING=1")

        assert 0 == broker.stop()


def test_a_sealed_broker_has_started_and_lives(tmp_path: Path, notified: NotifySocket) -> None:
    place = Installation(tmp_path / "broker")
    with place.serve() as broker:
        broker.wait("ok")
        broker.stop()
    (place.data / "seal.key").unlink()

    with place.serve(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="600000") as broker:
        broker.wait("sealed")
        messages = [notified.next(), notified.next()]

        assert ["READY=1", "STATUS=Sealed"] in messages
        notified.until("WATCHDOG=1")


def test_the_watchdog_starves_when_the_engine_hangs_and_not_when_it_fails() -> None:
    seconds = [0.0]
    pulse = Pulse(lambda: seconds[0])
    before = pulse.is_moving
    pulse.start()
    for _ in range(100):
        seconds[0] += 10
        for part in set(Part) - {Part.BEAT}:
            pulse.beat(part)
        pulse.stumble(Part.BEAT, "disk full")
    failing = pulse.is_moving, pulse.is_fresh
    for _ in range(100):
        seconds[0] += 10
        for part in set(Part) - {Part.RENEW}:
            pulse.beat(part)
        if seconds[0] - 1000 > SILENCE[Part.RENEW]:
            break

    assert before
    assert (True, False) == failing
    assert not pulse.is_moving


def test_nobody_is_fed_who_waits_for_another_process_or_does_not_wait(tmp_path: Path, notified: NotifySocket) -> None:
    address = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    for more in ({}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getpid() + 1)}):
        asyncio.run(Supervision(address | more).feed(lambda: True))

    assert [] == notified.waiting()


def test_a_dead_engine_is_not_covered_up(tmp_path: Path, notified: NotifySocket) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000"}

    async def feed() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Supervision(environment).feed(lambda: False), 0.1)

    asyncio.run(feed())

    assert [] == notified.waiting()


def test_a_name_in_the_abstract_namespace_is_understood() -> None:
    name = f"certbroker-test-{os.getpid()}"
    listening = NotifySocket(f"\0{name}")
    Supervision({"NOTIFY_SOCKET": f"@{name}"}).started("Working")

    assert ["READY=1", "STATUS=Working"] == listening.next()
    listening.close()


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    Supervision({}).started("Working")
    Supervision({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).stopping()


def test_the_unit_waits_for_longer_than_a_part_may_be_silent() -> None:
    unit = (Path(__file__).resolve().parents[2] / "config" / "certbroker.service").read_text()
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))

    assert "notify" == settings["Type"]
    assert int(settings["WatchdogSec"]) > max(SILENCE.values())
