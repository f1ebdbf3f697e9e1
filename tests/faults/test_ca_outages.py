"""A CA that is away for days, a directory that changes, and clocks that are wrong: nothing is stuck or runs wild."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certbroker.domain import operation as states
from tests.support import ca_faults as faults
from tests.support.acme_bench import ACMEBench
from tests.support.fault_proxy import FaultProxy


@pytest.mark.parametrize("reached", ["nothing", "finalize"])
def test_a_ca_that_is_down_for_most_of_a_week_is_used_when_it_is_back(
    bench: ACMEBench, proxy: FaultProxy, reached: str
) -> None:
    """It goes away before, or after so much was done."""
    operation = bench.ask(bench.issuer(proxy.directory_url))
    if reached != "nothing":
        bench.until(lambda: proxy.reached(reached) == 1)
    proxy.stop()
    begun, attempts = bench.clock.now(), 0
    while bench.clock.now() - begun < timedelta(days=6, hours=22):
        bench.until(bench.turn)
        attempts += 1
    waiting = bench.waiting(operation)
    proxy.start()

    bench.certificate(operation)

    assert waiting.problem is not None
    assert "IssuerUnreachable" == waiting.problem.code
    assert waiting.problem.message.startswith("The CA cannot be reached: 127.0.0.1: ")
    assert "Connection refused" in waiting.problem.message
    assert 160 < attempts < 190
    assert 1 == proxy.reached("finalize")


def test_a_proxy_that_finds_nothing_while_its_ca_is_away_costs_no_second_certificate(
    bench: ACMEBench, proxy: FaultProxy
) -> None:
    """It says so of everything, also of the order whose certificate the CA has made meanwhile."""
    proxy.script("finalize", faults.changed(status="processing", certificate=None))
    operation = bench.ask(bench.issuer(proxy.directory_url))
    bench.until(lambda: proxy.reached("finalize") == 1)
    for endpoint in ("directory", "newNonce", "newOrder", "order", "account", "finalize", "certificate"):
        proxy.script(endpoint, faults.busy(404), times=float("inf"))
    begun = bench.clock.now()
    while bench.clock.now() - begun < timedelta(hours=6):
        bench.until(bench.turn)
    waiting, orders = bench.waiting(operation), proxy.reached("newOrder")
    proxy.reset()

    leaf = bench.certificate(operation)[0]

    assert waiting.problem is not None
    assert "HTTP status 404 without a problem document" in waiting.problem.message
    assert (1, 0, 0) == (orders, proxy.count("newOrder"), proxy.count("finalize"))
    assert {f"{leaf.serial_number:x}"} == proxy.certificates()


def test_a_ca_that_is_down_for_longer_ends_the_operation_with_the_reason(bench: ACMEBench, proxy: FaultProxy) -> None:
    proxy.stop()
    operation = bench.ask(bench.issuer(proxy.directory_url))

    problem = bench.problem(operation)

    assert timedelta(0) <= bench.clock.now() - operation.deadline < states.LAST_RETRY
    assert "DeadlinePassed" == problem.code
    assert "was not issued within 7 days" in problem.message
    assert "Connection refused" in (problem.detail or "")
    assert bench.broker.operations.next_due() is None


def test_an_operation_that_ended_leaves_no_answers_behind(bench: ACMEBench, proxy: FaultProxy) -> None:
    proxy.script("order", faults.changed(status="pending"), times=float("inf"))
    operation = bench.ask(bench.issuer(proxy.directory_url))
    bench.until(lambda: proxy.count("order") > 2)
    before = bench.challenges()

    proxy.stop()
    bench.clock.moment = operation.deadline
    bench.problem(operation)

    assert (1, 0) == (before, bench.challenges())


@pytest.mark.parametrize("field", ["newOrder", "newNonce", "newAccount"])
def test_a_directory_that_was_wrong_once_is_not_believed_for_an_hour(
    bench: ACMEBench, proxy: FaultProxy, field: str
) -> None:
    proxy.script("directory", faults.changed(**{field: "https://10.0.0.1/elsewhere"}))
    operation = bench.ask(bench.issuer(proxy.directory_url))
    begun = bench.clock.now()

    bench.certificate(operation)

    assert timedelta(minutes=1) > bench.clock.now() - begun


def test_a_directory_whose_urls_are_gone_is_read_again(bench: ACMEBench, proxy: FaultProxy) -> None:
    proxy.script("directory", faults.changed(newOrder=f"{proxy.url}/v1/order"))
    operation = bench.ask(bench.issuer(proxy.directory_url))
    begun = bench.clock.now()

    bench.certificate(operation)

    assert timedelta(minutes=1) > bench.clock.now() - begun


@pytest.mark.parametrize("days", [-400, -2, 2, 400])
@pytest.mark.parametrize("request_", ["newOrder", "finalize"])
def test_a_clock_that_differs_from_that_of_the_ca_by_days_costs_nothing(
    bench: ACMEBench, proxy: FaultProxy, request_: str, days: int
) -> None:
    """Ours jumps, or the CA's was wrong all the time: its dates are compared with its own."""
    bench.clock.forward(timedelta(days=days))
    proxy.script(request_, faults.busy(503, "60"))
    proxy.script("certificate", faults.unlimited)

    bench.certificate(bench.ask(bench.issuer(proxy.directory_url)))

    assert (1, 1) == (proxy.reached("newOrder"), proxy.reached("finalize"))


def test_a_clock_that_was_a_year_ahead_and_is_set_back_leaves_nothing_waiting_for_a_year(
    bench: ACMEBench, proxy: FaultProxy
) -> None:
    """What was planned and leased by the wrong clock is found by the housekeeping."""
    bench.clock.forward(timedelta(days=365))
    proxy.script("newOrder", faults.busy(503, "60"))
    waiting = bench.ask(bench.issuer(proxy.directory_url))
    bench.until_failure(waiting)
    leased = bench.ask(bench.issuer(proxy.directory_url))
    bench.broker.operations.claim(bench.broker.operations.due(10))

    bench.clock.moment = datetime.now(UTC)
    before = len(bench.broker.operations.due(10))
    found = bench.broker.operations.bring_forward()
    due = len(bench.broker.operations.due(10))

    assert (0, 2, 2) == (before, found, due)
    assert 0 == bench.broker.operations.bring_forward()
    for operation in (waiting, leased):
        bench.certificate(operation)
