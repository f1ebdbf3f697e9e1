"""Each request of an issuance goes wrong, before the CA acted and after: there is one certificate in the end.

What the trackers of other clients call "issued but not stored" (requests that were answered, and nobody heard it) and
"stuck pending".
"""

from __future__ import annotations

import pytest

from issuers.acme import transport
from tests.support import ca_faults as faults
from tests.support.acme_bench import ACMEBench
from tests.support.fault_proxy import Fault, FaultProxy

# Every request of an issuance, in its order.
REQUESTS = ["directory", "newNonce", "newAccount", "newOrder", "authz", "challenge", "order", "finalize", "certificate"]

FAULTS = {
    "busy": faults.busy(503),
    "limited": faults.problem(429, "rateLimited", "too many requests of this kind"),
    "internal": faults.problem(500, "serverInternal", "the database is away"),
    "firewall": faults.busy(403),
    "truncated": faults.truncate,
    "internal, having acted": faults.problem(500, "serverInternal", "the database is away", acted=True),
    "timeout, having acted": faults.busy(504, acted=True),
    "no nonce": faults.without_nonce,
    "foreign nonce": faults.with_nonce("of-another-ca"),
    "malformed nonce": faults.with_nonce("not a nonce"),
    "long nonce": faults.with_nonce("x" * 600),
}


def assert_issued_once(bench: ACMEBench, proxy: FaultProxy) -> None:
    """A new issuer's only operation ends with the only certificate, of the only order."""
    operation = bench.ask(bench.issuer(proxy.directory_url))
    leaf = bench.certificate(operation)[0]

    assert {f"{leaf.serial_number:x}"} == proxy.certificates()
    assert 1 == proxy.reached("finalize")
    assert 1 == proxy.reached("newOrder")
    assert 0 == bench.challenges()


@pytest.mark.parametrize("fault", [faults.lose_request, faults.lose_reply])
@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_or_its_reply_gets_lost(bench: ACMEBench, proxy: FaultProxy, request_: str, fault: Fault) -> None:
    proxy.script(request_, fault)

    assert_issued_once(bench, proxy)
    assert [] == proxy.unused()


@pytest.mark.parametrize("fault", [faults.lose_request, faults.lose_reply])
def test_each_gets_lost_three_times(bench: ACMEBench, proxy: FaultProxy, fault: Fault) -> None:
    for request in REQUESTS:
        proxy.script(request, fault, times=3)

    assert_issued_once(bench, proxy)


@pytest.mark.parametrize("fault", FAULTS)
def test_something_else_happens_to_each(bench: ACMEBench, proxy: FaultProxy, fault: str) -> None:
    for request in REQUESTS:
        proxy.script(request, FAULTS[fault])

    assert_issued_once(bench, proxy)
    assert [] == proxy.unused()


@pytest.mark.parametrize("acted", [False, True])
@pytest.mark.parametrize("request_", ["newOrder", "authz", "order", "finalize", "certificate"])
def test_a_page_that_says_not_found_costs_an_order_at_most(
    bench: ACMEBench, proxy: FaultProxy, request_: str, acted: bool
) -> None:
    """Pebble says no more than that of an order that it has lost, so it cannot be told from a load balancer's page."""
    proxy.script(request_, faults.busy(404, acted=acted))

    bench.certificate(bench.ask(bench.issuer(proxy.directory_url)))

    assert 1 == proxy.reached("finalize")
    assert 2 >= proxy.reached("newOrder")
    assert 0 == bench.challenges()


def test_an_order_that_cannot_be_finalized_at_all_is_made_again(bench: ACMEBench, proxy: FaultProxy) -> None:
    proxy.script("finalize", faults.problem(404, "malformed", "no such order"), times=2)

    bench.certificate(bench.ask(bench.issuer(proxy.directory_url)))

    assert (2, 1) == (proxy.reached("newOrder"), proxy.reached("finalize"))


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
@pytest.mark.parametrize("request_", ["order", "authz"])
def test_a_look_that_is_not_answered(bench: ACMEBench, proxy: FaultProxy, request_: str, nth: int) -> None:
    """Not only the first: a CA may be slow, and every look is another request."""
    proxy.script("order", faults.changed(status="pending"), times=2)
    proxy.script("order", faults.lose_reply, nth=nth)

    operation = bench.ask(bench.issuer(proxy.directory_url))
    bench.certificate(operation)

    assert 1 == proxy.reached("finalize")


@pytest.mark.parametrize("body", [faults.endless, faults.hundred_megabytes])
@pytest.mark.parametrize("request_", ["directory", "newOrder", "certificate"])
def test_a_body_without_end_is_not_read_to_its_end(
    bench: ACMEBench, proxy: FaultProxy, request_: str, body: Fault
) -> None:
    proxy.script(request_, body)
    operation = bench.ask(bench.issuer(proxy.directory_url))

    problem = bench.until_failure(operation).problem
    bench.certificate(operation)

    assert problem is not None
    assert "The answer is larger than 1048576 bytes." in problem.message
    assert 1 == proxy.reached("finalize")


@pytest.mark.parametrize("request_", ["directory", "newOrder", "certificate"])
def test_a_body_that_drips_is_not_waited_for(
    bench: ACMEBench, proxy: FaultProxy, request_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_TIMEOUT", 0.3)
    proxy.script(request_, faults.drip)
    operation = bench.ask(bench.issuer(proxy.directory_url))

    problem = bench.until_failure(operation).problem
    bench.certificate(operation)

    assert problem is not None
    assert "IssuerUnreachable" == problem.code
    assert 1 == proxy.reached("finalize")


def test_a_storm_of_refused_nonces(bench: ACMEBench, proxy: FaultProxy) -> None:
    for request in REQUESTS[2:]:
        proxy.script(request, faults.problem(400, "badNonce"), times=30)

    assert_issued_once(bench, proxy)


def test_a_ca_whose_nonces_are_always_wrong_is_asked_less_and_less(bench: ACMEBench, proxy: FaultProxy) -> None:
    for request in ("newNonce", "newAccount"):
        proxy.script(request, faults.with_nonce("of-another-ca"), times=float("inf"))
    operation = bench.ask(bench.issuer(proxy.directory_url))
    begun = bench.clock.now()

    bench.until(lambda: (bench.clock.now() - begun).total_seconds() > 3600)

    problem = bench.waiting(operation).problem
    assert problem is not None
    assert "rejected 20 nonces" in problem.message
    assert 12 * 20 >= proxy.count("newAccount")
