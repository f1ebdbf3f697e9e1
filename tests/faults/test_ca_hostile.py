"""A CA that is hostile, or hangs, is contained: it leads us nowhere, it is seen, and nobody else waits for it.

The engine works here by itself, in real time.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from certbroker.domain import operation as states
from certbroker.domain.records import Operation
from certbroker.engine.scheduler import Engine
from certbroker.foundation import SystemClock
from issuers.acme import transport
from pebble.launcher import Pebble
from tests.support import ca_faults as faults
from tests.support.acme_bench import ACMEBench
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.wire import until

# More than one issuer may have worked on at once.
MANY = 15


@pytest.fixture(scope="module")
def live(
    tmp_path_factory: pytest.TempPathFactory, exact_pebble: Pebble, module_proxy: FaultProxy
) -> Iterator[ACMEBench]:
    trust = [module_proxy.ca_path, exact_pebble.ca_path]
    with ACMEBench(tmp_path_factory.mktemp("live"), exact_pebble.http_port, trust, SystemClock()) as bench:
        engine = Engine(bench.broker, bench.core.inbox)
        engine.start()
        yield bench
        engine.stop()


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs is given up after a second, so that the tests can end."""
    monkeypatch.setattr(transport, "_TIMEOUT", 1.0)


@pytest.fixture
def silent() -> Iterator[str]:
    """The directory of a CA that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=512)) as listening:
        yield f"https://127.0.0.1:{listening.getsockname()[1]}/dir"


def issued(bench: ACMEBench, operation: Operation) -> None:
    """Wait for its certificate."""
    until("a certificate", lambda: isinstance(bench.seen(operation).state, states.Completed) or None, 20)


def failing(bench: ACMEBench, operation: Operation) -> states.Problem:
    """Wait until it is seen that something is wrong, and what."""

    def problem() -> states.Problem | None:
        state = bench.seen(operation).state
        return state.problem if isinstance(state, states.AwaitingIssuer | states.Failed) else None

    return until("a problem", problem, 20)


# Where it goes wrong, how, and what people read about it.
HOSTILE: dict[str, tuple[str, Fault, str]] = {
    "a file": ("directory", faults.changed(newOrder="file:///etc/passwd"), "a URL leads to file:///etc/passwd"),
    "a private address": ("order", faults.changed(finalize="https://10.0.0.1/finalize"), "a URL leads to 10.0.0.1"),
    "cloud metadata": ("newOrder", faults.changed(authorizations=["http://169.254.169.254/"]), "169.254.169.254"),
    "a host that the options name": ("order", faults.changed(finalize="https://10.9.9.9/f"), "which is not public"),
    "a redirect to a private address": ("newOrder", faults.moved("https://10.0.0.1/"), "the status 302"),
    "a redirect to a file": ("newOrder", faults.moved("file:///etc/passwd"), "the status 302"),
    "a redirect to itself": ("newOrder", faults.moved("{self}"), "the status 302"),
    "a body without end": ("newOrder", faults.endless, "larger than"),
    "a hundred megabytes": ("directory", faults.hundred_megabytes, "larger than"),
    "a drip": ("newOrder", faults.drip, "cannot be reached"),
    "a cut answer": ("newOrder", faults.truncate, "cannot be reached"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_nothing_is_followed_the_reason_is_shown_and_others_go_on(
    live: ACMEBench, proxy: FaultProxy, exact_pebble: Pebble, what: str
) -> None:
    request, fault, said = HOSTILE[what]
    proxy.script(request, fault, times=float("inf"))
    hostile = live.issuer(proxy.directory_url, "hosts=10.9.9.9")
    healthy = live.issuer(exact_pebble.directory_url)

    stuck = [live.ask(hostile) for _ in range(3)]
    issued(live, live.ask(healthy))
    problems = [failing(live, operation) for operation in stuck]
    live.reset()

    assert [] == [problem.message for problem in problems if said not in problem.message]
    assert 0 == proxy.reached("finalize")


def test_a_certificate_for_another_name_is_refused_while_others_go_on(
    live: ACMEBench, proxy: FaultProxy, exact_pebble: Pebble
) -> None:
    proxy.script("certificate", faults.whole_chain(lambda leaf, issuers: [*issuers]), times=float("inf"))
    issuer = live.issuer(proxy.directory_url)

    refused = [live.ask(issuer) for _ in range(3)]
    issued(live, live.ask(live.issuer(exact_pebble.directory_url)))

    assert {"CertificateMismatch"} == {failing(live, operation).code for operation in refused}
    assert 3 == proxy.reached("finalize")


def test_a_hundred_times_more_than_an_issuer_may_have_at_once_are_no_queue_for_others(
    live: ACMEBench, exact_pebble: Pebble, silent: str
) -> None:
    """All of them are due before the one that can be had."""
    hanging = live.issuer(silent)
    stuck = [live.ask(hanging) for _ in range(400)]

    issued(live, live.ask(live.issuer(exact_pebble.directory_url)))
    untouched = [each for each in stuck if isinstance(live.seen(each).state, states.Prepared)]
    live.reset()

    assert 100 < len(untouched)


def test_six_issuers_that_hang_leave_threads_for_the_seventh(
    live: ACMEBench, exact_pebble: Pebble, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_TIMEOUT", 12.0)  # Longer than the seventh takes, also on a busy machine.
    stuck = [live.ask(issuer) for issuer in [live.issuer(silent) for _ in range(6)] for _ in range(MANY)]

    issued(live, live.ask(live.issuer(exact_pebble.directory_url)))
    failed = [each for each in stuck if getattr(live.seen(each).state, "failures", 0)]
    live.reset()

    assert [] == failed
