"""`kill -9` on the way of a notification: all arrive, and what arrives twice has the same id twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.broker import DevBroker
from tests.support.failpoints import NOTIFY
from tests.support.receiver import Receiver
from tests.support.wire import Wire, until
from tests.support.zygote import Zygote


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with Receiver(tmp_path_factory.mktemp("receiver")) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver, zygote: Zygote) -> Iterator[DevBroker]:
    folder = tmp_path_factory.mktemp("notify")
    with DevBroker(folder / "broker", trust=[receiver.trust], launch=zygote.launch) as broker:
        Wire(broker).ok("PUT", "/channels/hook", {"kind": "webhook", "settings": {"url": receiver.url}})
        yield broker


@pytest.mark.parametrize(("point", "count", "most"), NOTIFY)
def test_nothing_is_lost_and_nothing_arrives_more_often_than_it_must(
    broker: DevBroker, receiver: Receiver, point: str, count: int, most: int
) -> None:
    wire = Wire(broker)
    wire.token()
    base = f"{point}-{count}".replace(".", "-")
    _restart(broker, {"CERTBROKER_FAILPOINT": f"{point}:{count}:kill"})
    acknowledged = []
    for number in range(200):
        reply = wire.try_to("PUT", f"/secrets/{base}-{number}", {"value": "x"})
        if reply is None:
            break
        assert reply.is_success, reply.text
        acknowledged.append(reply.json()["id"].partition("/secrets/")[2])
    until("the broker died", broker.process.poll)
    _restart(broker, {})

    assert acknowledged
    until("all are told", lambda: set(acknowledged) <= _told(receiver).keys() or None)
    until("nothing waits", lambda: wire.ok("GET", "/channels/hook")["waiting"] == 0 or None)
    counts = [count for version, count in _told(receiver).items() if version.startswith(f"{base}-")]
    assert max(counts) <= most
    assert sum(counts) < len(counts) + most
    pairs = {(each.event["data"]["Id"], each.event["id"]) for each in receiver.events}
    assert len(pairs) == len({url for url, _ in pairs}) == len({key for _, key in pairs})


def _told(receiver: Receiver) -> Counter[str]:
    return Counter(each.event["data"]["Id"].partition("/secrets/")[2] for each in receiver.events)


def _restart(broker: DevBroker, environment: dict[str, str]) -> None:
    broker.kill_if_running()
    broker.environment = environment
    broker.start()
