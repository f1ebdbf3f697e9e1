"""A CT monitor is asked as it wants to be, and whatever it answers ends nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.objects import Vault
from certbroker.ports.egress import EgressFailed, OutsideResponse
from certbroker.services.discovery.discoveries import INVENTORY, ct
from tests.support.discovery_bench import HOUR, MONITOR, Site, managed, said
from tests.support.issuer_bench import Bench


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    return Bench(core, caller, vault)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (said(b"<html>Bad gateway"), "not JSON"),
        (said({"error": "x"}), "not a list"),
        (said(b"[" * 100_000), "not JSON"),
        (said([], 302, location=MONITOR), "status 302"),
        (said([], 500), "status 500"),
        (EgressFailed("The answer is larger than 16777216 bytes."), "larger"),
    ],
)
def test_what_a_monitor_answers_wrongly_is_told_and_stops_nothing(
    bench: Bench, answer: OutsideResponse | Exception, problem: str
) -> None:
    managed(bench, "www.example.com", "shop.example.org")
    site = Site(bench)
    site.tasks.work(INVENTORY)
    site.monitor.answers = [answer]
    site.tasks.work(ct(MONITOR))
    said_so = site.problem(ct(MONITOR))
    bench.clock.moment += timedelta(seconds=6)
    site.tasks.work(ct(MONITOR))

    assert problem in said_so
    assert 4 == len(site.monitor.asked)
    assert "" == site.problem(ct(MONITOR))


def test_a_monitor_that_wants_to_be_left_alone_is(bench: Bench) -> None:
    managed(bench, "www.example.com")
    site = Site(bench)
    site.tasks.work(INVENTORY)
    site.monitor.answers = [said([], 429, retry_after="7200")]
    site.tasks.work(ct(MONITOR))
    bench.clock.moment += 2 * HOUR - timedelta(seconds=1)
    site.tasks.work(ct(MONITOR))

    assert 1 == len(site.monitor.asked)
    assert "left alone" in site.problem(ct(MONITOR))
    bench.clock.moment += timedelta(seconds=2)
    site.tasks.work(ct(MONITOR))
    assert 3 == len(site.monitor.asked)


@pytest.mark.parametrize("status", [429, 503])
def test_a_monitor_that_says_for_how_long_is_left_alone_however_often_it_says_so(bench: Bench, status: int) -> None:
    managed(bench, "www.example.com")
    site = Site(bench)
    site.tasks.work(INVENTORY)
    site.monitor.answers = [said([], status, retry_after="7200")] * 5
    for _ in range(5):
        site.tasks.work(ct(MONITOR))
        bench.clock.moment += 2 * HOUR + timedelta(seconds=1)

    assert [f"{MONITOR}?q=example.com&output=json&exclude=expired"] * 5 == site.monitor.asked


def test_a_domain_that_a_monitor_is_always_overloaded_by_does_not_keep_the_next_ones_from_their_turn(
    bench: Bench,
) -> None:
    managed(bench, "www.example.com", "shop.example.org")
    site = Site(bench)
    site.tasks.work(INVENTORY)
    site.monitor.answers = [said([]), said([], 503)] * 3
    problems, waits = [], []
    for _ in range(4):
        site.again().work(ct(MONITOR))
        task = next(each for each in site.discoveries.report().tasks if each.id == ct(MONITOR))
        problems.append("status 503" in task.problem)
        waits.append(task.act_at - bench.clock.now())
        bench.clock.moment = task.act_at

    assert [True, True, True, False] == problems
    assert [timedelta(minutes=10)] * 2 + [timedelta(seconds=5)] * 2 == waits
    assert [
        f"{MONITOR}?q={query}&output=json&exclude=expired"
        for query in ["example.com", "%25.example.com"] * 3 + ["example.org", "%25.example.org"]
    ] == site.monitor.asked


def test_a_monitor_that_is_overloaded_for_a_while_is_asked_for_the_same_domain_again(bench: Bench) -> None:
    managed(bench, "www.example.com")
    site = Site(bench)
    site.tasks.work(INVENTORY)
    site.monitor.answers = [said([], 503), said([], 503), said([site.entry("ab" * 16, "evil.example.com")])]
    for _ in range(3):
        site.tasks.work(ct(MONITOR))
        bench.clock.moment += timedelta(minutes=10)

    assert ["ab" * 16] == list(site.standings())
    assert "" == site.problem(ct(MONITOR))
