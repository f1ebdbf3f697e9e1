"""The watcher outside hears from the broker while it is well, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from certbroker.app import Core
from certbroker.config import Configuration, ConfigurationError, build
from certbroker.egress import EgressPolicy, HTTPEgress
from certbroker.engine.scheduler import Engine
from certbroker.services.health.watcher import Watcher
from tests.monitoring.conftest import Stopwatch
from tests.support.receiver import Answer, Receiver

_SECRET = "0a4f2c6e-secret"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    folder = tmp_path / "receiver"
    folder.mkdir()
    with Receiver(folder, lambda request: Answer()) as receiver:
        yield receiver


@pytest.fixture
def egress(receiver: Receiver) -> Iterator[HTTPEgress]:
    networks = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    egress = HTTPEgress(EgressPolicy(allowed_networks=networks, trust=(str(receiver.trust),)))
    yield egress
    egress.close()


def watcher(core: Core, egress: HTTPEgress, url: str, *, failures: bool = False) -> Watcher:
    return Watcher(url, 30, egress, core.broker.readiness, core.broker.meters, failures=failures)


def pings(core: Core, outcome: str) -> float | None:
    return core.broker.meters.registry.get_sample_value("certbroker_pings_total", {"outcome": outcome})


def paths(receiver: Receiver) -> list[str]:
    return [request.path for request in receiver.requests]


def test_it_is_called_while_the_broker_is_ready(core: Core, receiver: Receiver, egress: HTTPEgress) -> None:
    watcher(core, egress, f"{receiver.url}/{_SECRET}").call()

    assert ["POST"] == [request.method for request in receiver.requests]
    assert 1 == pings(core, "ok")


@pytest.mark.parametrize("failures", [False, True])
def test_it_is_not_told_that_all_is_well_when_the_engine_stands_still(
    core: Core, receiver: Receiver, egress: HTTPEgress, stopwatch: Stopwatch, failures: bool
) -> None:
    stopwatch.seconds += 1000
    watcher(core, egress, f"{receiver.url}/{_SECRET}", failures=failures).call()

    assert ([f"/hook/{_SECRET}/fail"] if failures else []) == paths(receiver)


def test_a_watcher_that_is_away_or_refuses_troubles_nobody_and_is_counted(
    core: Core, receiver: Receiver, egress: HTTPEgress, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.answer = lambda request: Answer(500)
    mine = watcher(core, egress, f"{receiver.url}/{_SECRET}")
    mine.call()
    watcher(core, egress, f"https://localhost:1/{_SECRET}").call()
    strict = HTTPEgress(EgressPolicy())
    for url in (f"{receiver.url}/{_SECRET}", f"gopher://x/{_SECRET}"):
        watcher(core, strict, url).call()
    strict.close()
    printed = "".join(capsys.readouterr())

    assert 4 == pings(core, "failed")
    assert 4 == printed.count("the outside watcher could not be called")
    assert _SECRET not in printed
    assert _SECRET not in repr(mine)


def test_the_engine_calls_it(core: Core, receiver: Receiver, egress: HTTPEgress) -> None:
    mine = watcher(core, egress, f"{receiver.url}/{_SECRET}")
    mine.every = 0.1
    engine = Engine(core.broker, core.inbox, (), mine)
    engine.start()
    for _ in range(600):
        if receiver.requests:
            break
        engine._stopping.wait(0.05)
    engine.stop()

    assert [f"/hook/{_SECRET}"] == paths(receiver)[:1]


@pytest.mark.parametrize("url", [f"http://watcher.example/{_SECRET}", f"watcher.example/{_SECRET}"])
def test_a_url_without_tls_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"monitoring\.ping_url") as refused:
        build({"monitoring": {"ping_url": url}})

    assert _SECRET not in str(refused.value)


def test_the_url_is_in_no_text_of_the_configuration() -> None:
    configuration: Configuration = build({"monitoring": {"ping_url": f"https://watcher.example/{_SECRET}"}})

    assert _SECRET not in repr(configuration)
    assert _SECRET not in str(configuration.model_dump())
