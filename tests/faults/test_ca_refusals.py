"""What a CA says no to, and what it changes its mind about: said once, in its words, and nothing is ordered twice.

The dead-lock of `replaces`, reused authorizations that are stale, and CAA that fails at the last step.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from certbroker.domain import operation as states
from certbroker.services.issuance.journal import LEASE
from tests.support import ca_faults as faults
from tests.support.acme_bench import EXTERNAL_ACCOUNT, ACMEBench
from tests.support.fault_proxy import FaultProxy

# Type, status, and a part of the advice that people get.
LASTING = [
    ("alreadyReplaced", 409, "create the certificate again"),
    ("malformed", 400, "create the certificate again"),
    ("userActionRequired", 403, "https://ca.example/terms"),
    ("rejectedIdentifier", 400, "Remove the name"),
    ("caa", 403, "CAA records"),
    ("dns", 400, "DNS records of the name"),
    ("badCSR", 400, "key type"),
]


@pytest.mark.parametrize(("kind", "status", "advice"), LASTING)
@pytest.mark.parametrize("request_", ["newOrder", "finalize"])
def test_a_refusal_ends_the_operation_with_the_words_of_the_ca_and_advice(
    bench: ACMEBench, proxy: FaultProxy, request_: str, kind: str, status: int, advice: str
) -> None:
    named = [(kind, "one.example.org", "the first is wrong"), (kind, "two.example.org", "so is the second")]
    proxy.script(
        request_, faults.problem(status, kind, "no\nway", subproblems=named, instance="https://ca.example/terms")
    )

    problem = bench.problem(bench.ask(bench.issuer(proxy.directory_url), "one.example.org", "two.example.org"))

    assert ("IssuerRefused", kind) == (problem.code, problem.detail)
    assert f"The CA refused: no way ({kind}" in problem.message
    assert "one.example.org: the first is wrong" in problem.message
    assert f"two.example.org: so is the second ({kind})" in problem.message
    assert advice in problem.message
    assert 1 == proxy.count(request_)
    assert 0 == bench.challenges()


@pytest.mark.parametrize("spoil", [ACMEBench.disable, ACMEBench.lose])
def test_an_issuer_that_is_disabled_or_gone_while_the_ca_validates_leaves_nothing_behind(
    bench: ACMEBench, proxy: FaultProxy, spoil: Callable[[ACMEBench, str], None]
) -> None:
    proxy.script("challenge", faults.busy())
    issuer = bench.issuer(proxy.directory_url)
    operation = bench.ask(issuer)
    bench.until_failure(operation)
    before = (bench.challenges(), bench.reservations() > 0)
    spoil(bench, issuer)

    assert (1, True) == before
    assert "IssuerSettingsInvalid" == bench.problem(operation).code
    assert (0, 0) == (bench.challenges(), bench.reservations())


@pytest.mark.parametrize("request_", ["newOrder", "finalize"])
def test_an_account_that_the_ca_no_longer_accepts_is_a_refusal(
    bench: ACMEBench, proxy: FaultProxy, request_: str
) -> None:
    unauthorized = faults.problem(403, "unauthorized", "the account is deactivated")
    proxy.script(request_, unauthorized)
    proxy.script("newOrder", unauthorized, nth=1 if request_ == "newOrder" else 2, times=10)

    problem = bench.problem(bench.ask(bench.issuer(proxy.directory_url)))

    assert "IssuerRefused" == problem.code
    assert "the account is deactivated" in problem.message
    assert 0 == proxy.reached("finalize")


def test_an_authorization_that_was_used_again_and_ended_before_the_order_was_finalized_costs_an_order(
    bench: ACMEBench, proxy: FaultProxy
) -> None:
    """CAs reuse authorizations for hours to months, and check them once more at the end."""
    said = "authorizations for these identifiers not found or expired: n.example.org"
    proxy.script("finalize", faults.problem(403, "unauthorized", said))

    bench.certificate(bench.ask(bench.issuer(proxy.directory_url)))

    assert (2, 1) == (proxy.reached("newOrder"), proxy.reached("finalize"))


def test_a_ca_that_finalizes_nothing_gets_five_orders_in_some_minutes_and_no_more(
    bench: ACMEBench, proxy: FaultProxy
) -> None:
    proxy.script("finalize", faults.problem(403, "unauthorized", "expired again"), times=float("inf"))
    begun = bench.clock.now()

    problem = bench.problem(bench.ask(bench.issuer(proxy.directory_url)))

    assert "5 orders came to nothing" in problem.message
    assert "expired again" in problem.message
    assert 5 == proxy.reached("newOrder")
    assert 240 <= (bench.clock.now() - begun).total_seconds()


@pytest.mark.parametrize("status", ["expired", "deactivated", "revoked"])
def test_an_authorization_that_ended_costs_an_order(bench: ACMEBench, proxy: FaultProxy, status: str) -> None:
    proxy.script("authz", faults.changed(status=status))

    bench.certificate(bench.ask(bench.issuer(proxy.directory_url)))

    assert (2, 1) == (proxy.reached("newOrder"), proxy.reached("finalize"))
    assert 0 == bench.challenges()


def test_an_order_that_turned_invalid_inside_the_ca_is_made_again(bench: ACMEBench, proxy: FaultProxy) -> None:
    error = {"type": "urn:ietf:params:acme:error:serverInternal", "detail": "the signer is away"}
    proxy.script("order", faults.changed(status="invalid", error=error))

    bench.certificate(bench.ask(bench.issuer(proxy.directory_url)))

    assert (2, 1) == (proxy.reached("newOrder"), proxy.reached("finalize"))


def test_an_order_that_turned_invalid_for_a_name_is_not_made_again(bench: ACMEBench, proxy: FaultProxy) -> None:
    """CAA may be looked at as late as that, and one name of a hundred spoils the order."""
    error = {
        "type": "urn:ietf:params:acme:error:caa",
        "detail": "rechecking CAA for 1 of 96 names",
        "subproblems": [
            {
                "type": "urn:ietf:params:acme:error:caa",
                "detail": "SERVFAIL looking up CAA",
                "identifier": {"type": "dns", "value": "n77.example.org"},
            }
        ],
    }
    proxy.script("order", faults.changed(status="invalid", error=error))

    problem = bench.problem(bench.ask(bench.issuer(proxy.directory_url)))

    assert "n77.example.org: SERVFAIL looking up CAA (caa)" in problem.message
    assert "Allow this CA in the CAA records" in problem.message
    assert 1 == proxy.reached("newOrder")


def test_an_order_that_stays_pending_after_its_names_are_valid_ends_with_the_deadline(
    bench: ACMEBench, proxy: FaultProxy
) -> None:
    proxy.script("order", faults.changed(status="pending"), times=float("inf"))
    operation = bench.ask(bench.issuer(proxy.directory_url))
    bench.until(lambda: proxy.count("order") > 30)

    assert bench.waiting(operation).detail
    bench.clock.moment = operation.deadline
    assert "DeadlinePassed" == bench.problem(operation).code


def test_a_name_that_fails_leaves_the_others_alone(bench: ACMEBench, proxy: FaultProxy) -> None:
    issuer = bench.issuer(proxy.directory_url)
    proxy.script("newOrder", faults.problem(400, "rejectedIdentifier"), nth=2)
    proxy.script("newOrder", faults.busy(500), nth=4)
    proxy.script("authz", faults.changed(challenges=[{"type": "http-01"}]), nth=3)

    operations = [bench.ask(issuer) for _ in range(6)]
    bench.until(lambda: all(states.is_finished(bench.seen(each).state) for each in operations))

    ended = [type(bench.seen(each).state) for each in operations]
    assert (5, 1) == (ended.count(states.Completed), ended.count(states.Failed))
    assert 5 == proxy.reached("finalize")


def test_a_worker_that_lost_its_lease_during_a_call_does_nothing_more(bench: ACMEBench, proxy: FaultProxy) -> None:
    """The finalize of a worker that hangs is answered when somebody else has finished."""
    hold = faults.Hold()
    proxy.script("finalize", hold)
    operation = bench.ask(bench.issuer(proxy.directory_url))
    hanging = threading.Thread(target=bench.until, args=(hold.arrived.is_set,))
    hanging.start()
    assert hold.arrived.wait(20)

    bench.clock.forward(2 * LEASE)
    leaf = bench.certificate(operation)[0]
    hold.release()
    hanging.join()

    assert leaf == bench.certificate(operation)[0]
    assert 1 == proxy.count("finalize")


def test_nothing_secret_is_said_or_kept_in_the_clear_whatever_fails(
    bench: ACMEBench, proxy: FaultProxy, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for request in ("newAccount", "newOrder", "authz", "challenge", "order", "finalize", "certificate"):
        proxy.script(request, faults.problem(500, "serverInternal", "words of the CA"))
        proxy.script(request, faults.truncate)
    bench.certificate(bench.ask(bench.issuer(proxy.directory_url)))
    output = capfd.readouterr()

    said = bench.texts() + caplog.text + output.out + output.err
    assert "newOrder" in said or "order" in said
    assert "PRIVATE KEY" not in said
    assert EXTERNAL_ACCOUNT[1] not in said
