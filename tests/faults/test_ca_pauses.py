"""When the CA says that it is to be asked later, it is asked then: not before, and not years later.

Certificate managers that ignored it were locked out for weeks, and one that compared it with local time waited for
five hours in New York and not at all in Tokyo.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from certbroker.domain import operation as states
from tests.support import ca_faults as faults
from tests.support.acme_bench import ACMEBench
from tests.support.fault_proxy import FaultProxy

DAY = 86_400
OURS = states.FIRST_RETRY.total_seconds()


def date(**after: int) -> Callable[[], str]:
    return lambda: format_datetime(datetime.now(UTC) + timedelta(**after), usegmt=True)


# What the CA says, and for how many seconds it is left alone.
SAID: dict[str, tuple[Callable[[], str], float]] = {
    "seconds": (lambda: "600", 600),
    "a date": (date(seconds=600), 600),
    "a date in another zone": (lambda: date(hours=-5, seconds=600)().replace("GMT", "-0500"), 600),
    "nothing at all": (lambda: "0", OURS),
    "a negative number": (lambda: "-600", OURS),
    "a date that is past": (date(days=-3), OURS),
    "garbage": (lambda: "in a minute", OURS),
    "nothing": (lambda: "", OURS),
    "two values": (lambda: "60, 600", OURS),
    "a fraction": (lambda: "1.5", OURS),
    "three years": (lambda: str(3 * 365 * DAY), DAY),
    "a date in three years": (date(days=3 * 365), DAY),
    "the end of time": (lambda: "Fri, 31 Dec 9999 23:59:59 GMT", DAY),
    "a number that no integer holds": (lambda: "9" * 400, DAY),
}


@pytest.fixture(params=["America/New_York", "Asia/Tokyo"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The zone of this machine."""
    before = os.environ.get("TZ")
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize("said", SAID)
def test_a_busy_ca_is_left_alone_for_as_long_as_it_says_within_bounds(
    bench: ACMEBench, proxy: FaultProxy, said: str
) -> None:
    value, seconds = SAID[said]
    proxy.script("newOrder", faults.problem(429, "rateLimited", "too many certificates", retry_after=value()))
    operation = bench.ask(bench.issuer(proxy.directory_url))

    waiting = bench.until_failure(operation)

    assert pytest.approx(seconds, abs=3) == (waiting.act_at - bench.clock.now()).total_seconds()
    assert waiting.problem is not None
    assert ("RateLimited", "The CA limits our requests: too many certificates (rateLimited)") == (
        waiting.problem.code,
        waiting.problem.message,
    )
    bench.certificate(operation)
    assert 1 == proxy.reached("finalize")


@pytest.mark.parametrize(("request_", "status"), [("newNonce", 429), ("challenge", 503), ("certificate", 503)])
@pytest.mark.parametrize("said", ["seconds", "a date"])
def test_the_zone_of_this_machine_makes_no_difference(
    bench: ACMEBench, proxy: FaultProxy, zone: str, request_: str, status: int, said: str
) -> None:
    value, seconds = SAID[said]
    proxy.script(request_, faults.busy(status, value()))
    operation = bench.ask(bench.issuer(proxy.directory_url))

    waiting = bench.until_failure(operation)

    assert pytest.approx(seconds, abs=3) == (waiting.act_at - bench.clock.now()).total_seconds()


@pytest.mark.parametrize("said", SAID)
def test_a_ca_that_works_on_an_order_is_asked_again_when_it_says(
    bench: ACMEBench, proxy: FaultProxy, said: str
) -> None:
    value, seconds = SAID[said]
    operation = bench.ask(bench.issuer(proxy.directory_url))
    proxy.script("order", faults.asking_to_wait(value(), status="processing"))

    bench.until(lambda: proxy.count("order") == 1)
    pause = (bench.waiting(operation).act_at - bench.clock.now()).total_seconds()

    if seconds == OURS:
        assert 1.1 > pause
    else:
        assert pytest.approx(seconds, abs=3) == pause
    bench.certificate(operation)
    assert 1 == proxy.reached("newOrder")


def test_a_ca_that_is_always_busy_and_never_patient_is_asked_less_and_less(bench: ACMEBench, proxy: FaultProxy) -> None:
    """`Retry-After` is the earliest time, and no invitation to come every second."""
    proxy.script("newOrder", faults.busy(503, "0"), times=float("inf"))
    operation = bench.ask(bench.issuer(proxy.directory_url))
    begun = bench.clock.now()

    bench.until(lambda: bench.clock.now() - begun > timedelta(days=1))

    assert 35 > proxy.count("newOrder")
    assert bench.waiting(operation).problem is not None


def test_no_request_is_made_before_the_time(bench: ACMEBench, proxy: FaultProxy) -> None:
    proxy.script("finalize", faults.busy(503, "3600"))
    operation = bench.ask(bench.issuer(proxy.directory_url))
    waiting = bench.until_failure(operation)
    requests = len(proxy.log)

    bench.clock.moment = waiting.act_at - timedelta(seconds=1)
    early = bench.turn()
    bench.clock.moment = waiting.act_at
    due = bench.turn()

    assert (0, 1) == (early, due)
    assert requests < len(proxy.log)
