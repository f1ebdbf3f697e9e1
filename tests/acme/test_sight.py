"""An order that is not shown after it was finalized is waited for while it may be there, and made again when not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from certbroker.ports.issuer import CertificateIssued, IssuerUnavailable, Reply, StillWaiting
from issuers.acme.pauses import stamp
from pebble.launcher import Pebble
from tests.support.acme_ports import MemoryJournal, Surroundings, drive, issued, persevere, request_for
from tests.support.clock import SteppedClock
from tests.support.scripted_ca import Exchange, Fault, ScriptedCA

pytestmark = pytest.mark.xdist_group("acme-sight")

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

Start = Callable[..., Pebble]
Surround = Callable[[Pebble], Surroundings]


def no_page(exchange: Exchange) -> None:
    """What Traefik says of everything while the CA behind it is being restarted."""
    exchange.send(404, b"404 page not found\n", "text/plain; charset=utf-8")


def nothing(exchange: Exchange) -> None:
    """What Pebble says of an order that it has lost."""
    exchange.send(404)


def no_order(exchange: Exchange) -> None:
    exchange.problem(404, "malformed", "no such order")


def of_another_account(exchange: Exchange) -> None:
    """The CA forgot the order, and its number is another's now."""
    exchange.problem(403, "unauthorized", "the order is not yours")


def maintenance(exchange: Exchange) -> None:
    exchange.send(200, b'{"status": "down for maintenance"}')


class Finalized:
    """A request whose order was finalized, and is then not shown as a test says."""

    def __init__(self, scripted: ScriptedCA, ca: Surroundings) -> None:
        self.clock = SteppedClock()
        ca.clock = self.clock
        self.said: dict[str, Fault] = {}
        """What is said for each route, instead of what the CA says."""
        self.unavailable: list[IssuerUnavailable] = []
        self._scripted = scripted
        self._ca = ca
        self._request = request_for("www.example.org")
        self._journal = MemoryJournal()
        scripted.fault("finalize", lambda exchange: exchange.proceed(status="processing", certificate=None))
        while ("recorded", "finalize") not in self._journal.writes:
            self.go_on()
        for route in ("order", "account", "nonce", "new-order"):
            scripted.fault(route, self._answer(route), times=100_000)

    def go_on(self) -> Reply | None:
        """Advance once, with a fresh issuer as after a restart; then it is time for the next."""
        try:
            reply = self._ca.issuer().advance(self._request, self._journal)
        except IssuerUnavailable as error:
            self.unavailable.append(error)
            self.clock.forward(10 * MINUTE)
            return None
        self.clock.forward(reply.pause if isinstance(reply, StillWaiting) else timedelta(0))
        return reply

    def pass_time(self, time: timedelta) -> None:
        """Nothing comes of it for so long."""
        until = self.clock.now() + time
        while self.clock.now() < until:
            assert isinstance(self.go_on(), StillWaiting | None)

    def end(self) -> str:
        """The serial number of the certificate that it ends with."""
        while not isinstance(reply := self.go_on(), CertificateIssued):
            pass
        return f"{issued(reply)[0].serial_number:x}"

    def serials(self) -> list[str]:
        """All that the CA has issued."""
        return [f"{leaf.serial_number:x}" for leaf in self._scripted.issued]

    def _answer(self, route: str) -> Fault:
        def fault(exchange: Exchange) -> None:
            self.said.get(route, Exchange.proceed)(exchange)

        return fault


@pytest.fixture
def finalized(scripted: ScriptedCA, scripted_ca: Surroundings) -> Finalized:
    return Finalized(scripted, scripted_ca)


@pytest.mark.parametrize("away", [MINUTE, 2 * HOUR, DAY])
@pytest.mark.parametrize("page", [no_page, nothing, no_order])
def test_while_everything_is_not_found_nothing_is_ordered_and_the_first_certificate_is_fetched_in_the_end(
    scripted: ScriptedCA, finalized: Finalized, page: Fault, away: timedelta
) -> None:
    """A second one would be one too many, and the first would be lost."""
    finalized.said = dict.fromkeys(["order", "account", "nonce", "new-order"], page)
    finalized.pass_time(away)

    finalized.said = {}
    serial = finalized.end()

    assert [serial] == finalized.serials()
    assert 1 == scripted.hits["new-order"]
    assert all(error.committed for error in finalized.unavailable)
    assert (away > HOUR) is bool(finalized.unavailable)


def test_a_page_that_is_no_word_about_an_account_is_none(scripted: ScriptedCA, finalized: Finalized) -> None:
    finalized.said = {"order": no_page, "account": maintenance}
    finalized.pass_time(DAY)

    finalized.said = {}
    serial = finalized.end()

    assert ([serial], 1) == (finalized.serials(), scripted.hits["new-order"])


@pytest.mark.parametrize("missing", [nothing, no_order, of_another_account])
def test_an_order_that_the_ca_has_lost_is_made_again_after_an_hour(
    scripted: ScriptedCA, finalized: Finalized, missing: Fault
) -> None:
    finalized.said = {"order": missing}
    finalized.pass_time(HOUR - MINUTE)
    before = scripted.hits["new-order"]
    while scripted.hits["new-order"] == before:
        finalized.go_on()

    finalized.said = {}
    serial = finalized.end()

    assert 1 == before
    assert (2, serial) == (len(finalized.serials()), finalized.serials()[1])
    assert [] == finalized.unavailable


def test_a_ca_that_comes_back_while_it_is_asked_for_the_account_is_asked_for_the_order_again(
    scripted: ScriptedCA, finalized: Finalized
) -> None:
    def back(exchange: Exchange) -> None:
        finalized.said = {}
        exchange.proceed(status="valid")

    finalized.said = {"order": no_page, "account": no_page}
    finalized.pass_time(2 * HOUR)
    finalized.said = {"order": no_page, "account": back}
    serial = finalized.end()

    assert ([serial], 1) == (finalized.serials(), scripted.hits["new-order"])


def test_an_order_that_was_shown_meanwhile_is_waited_for_as_long_again(
    scripted: ScriptedCA, finalized: Finalized
) -> None:
    for _ in range(3):
        finalized.said = {"order": no_order}
        finalized.pass_time(HOUR - 2 * MINUTE)
        finalized.said = {"order": lambda exchange: exchange.proceed(status="processing", certificate=None)}
        finalized.go_on()

    finalized.said = {}
    serial = finalized.end()

    assert ([serial], 1) == (finalized.serials(), scripted.hits["new-order"])


def test_a_clock_that_is_set_back_makes_no_order_seem_lost(scripted: ScriptedCA, finalized: Finalized) -> None:
    finalized.said = {"order": no_order}
    finalized.go_on()
    finalized.clock.forward(-DAY)
    finalized.pass_time(HOUR - MINUTE)

    finalized.said = {}
    serial = finalized.end()

    assert ([serial], 1) == (finalized.serials(), scripted.hits["new-order"])


def test_a_finalize_that_is_not_found_again_and_again_makes_no_other_order(
    scripted: ScriptedCA, scripted_ca: Surroundings
) -> None:
    """The order is shown as ready by a replica that lags behind."""
    request, journal = request_for("www.example.org"), MemoryJournal()
    scripted.fault("finalize", no_page)
    scripted.fault("finalize", no_page, times=5, acts=False)
    scripted.fault("order", Exchange.proceed)
    scripted.fault("order", lambda exchange: exchange.proceed(status="ready", certificate=None), times=5)

    reply = persevere(scripted_ca.issuer(), request, journal)

    issued(reply)
    assert (1, 1) == (len(scripted.issued), scripted.hits["new-order"])


def test_an_order_that_pebble_has_lost_is_made_again(start_pebble: Start, surround: Surround) -> None:
    """Of a lost order it says 404 and nothing else, while it knows the account."""
    pebble = start_pebble(authz_reuse=0)
    ca, clock, journal = surround(pebble), SteppedClock(), MemoryJournal()
    ca.clock = clock
    issued(drive(ca.issuer(), request_for("first.example.org"), MemoryJournal()))
    lost = pebble.directory_url.replace("/dir", "/my-order/lost")
    journal.intend("order", asked="yes")
    journal.record("order", url=lost, at=stamp(clock.now()))
    journal.intend("finalize", order=lost, at=stamp(clock.now()), cleaned="yes")
    journal.record("finalize", at=stamp(clock.now()))
    request = request_for("www.example.org")

    waiting = ca.issuer().advance(request, journal)
    clock.forward(HOUR)
    reply = drive(ca.issuer(), request, journal)

    assert isinstance(waiting, StillWaiting)
    assert "does not show the order" in waiting.detail
    issued(reply)
    assert "had vanished" in (journal.intended("order.2") or {})["because"]
