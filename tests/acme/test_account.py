"""The account: its key exchanged, itself given up, and found again after a crash at any point."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from certbroker.domain.errors import Invalid
from certbroker.ports.egress import EgressFailed, OutsideResponse
from certbroker.ports.issuer import IssuerUnavailable, RequestRefused, StillWaiting
from certbroker.ports.issuer_abilities import HasAccount
from pebble.launcher import Pebble
from tests.support.acme_ports import (
    Crash,
    MemoryJournal,
    NoBoard,
    Surroundings,
    authorizing_stopped,
    drive,
    issued,
    loopback_egress,
    persevere,
    request_for,
)
from tests.support.scripted_ca import ScriptedCA

pytestmark = pytest.mark.xdist_group("acme-account")

Surround = Callable[[Pebble], Surroundings]
Start = Callable[..., Pebble]

ROLLOVER = ["acme.rollover.before", "acme.rollover.after-call", "acme.rollover.recorded"]
DEACTIVATION = ["acme.deactivation.before", "acme.deactivation.after-call", "acme.deactivation.recorded"]
MAC_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


class Lossy:
    """An egress that loses the request, or the reply, of the next request to a URL with `part` in it."""

    def __init__(self, egress: Any, part: str, *, after: bool) -> None:
        self._egress = egress
        self._part = part
        self._after = after
        self.armed = True

    def request(self, method: str, url: str, **more: Any) -> OutsideResponse:
        hit = self.armed and self._part in url
        if hit:
            self.armed = False
        if hit and not self._after:
            raise EgressFailed("the request got lost", sent=False)
        response: OutsideResponse = self._egress.request(method, url, **more)
        if b"badNonce" in response.body:  # The CA has not done anything, and is asked again.
            self.armed = self.armed or hit
        elif hit:
            raise EgressFailed("the reply got lost")
        return response


class Counting:
    """An egress that remembers where requests went."""

    def __init__(self, egress: Any) -> None:
        self._egress = egress
        self.urls: list[str] = []

    def request(self, method: str, url: str, **more: Any) -> OutsideResponse:
        self.urls.append(url)
        response: OutsideResponse = self._egress.request(method, url, **more)
        return response


@pytest.fixture(scope="module")
def pebble(start_pebble: Start) -> Pebble:
    return start_pebble(authz_reuse=0)


def certificate(ca: Surroundings, name: str = "www.example.org") -> None:
    issued(drive(ca.issuer(), request_for(name), MemoryJournal()))


def test_the_description_names_the_ca_the_account_and_its_key(pebble: Pebble, ca: Surroundings) -> None:
    before = ca.issuer().account()
    certificate(ca)
    after = ca.issuer().account()

    assert isinstance(ca.issuer(), HasAccount)
    assert (None, None, None) == (before.account, before.status, before.thumbprint)
    assert "valid" == after.status
    assert pebble.directory_url == after.directory
    assert ("P-256", ("admin@example.org",), None) == (after.key, after.contacts, after.external_account)
    assert after.account
    assert after.thumbprint
    assert after.terms_of_service


def test_an_account_that_the_ca_lost_is_described_as_lost(start_pebble: Start, surround: Surround) -> None:
    pebble = start_pebble(nonce_reject=0)
    ca = surround(pebble)
    certificate(ca)
    pebble.restart()

    assert "lost" == ca.issuer().account().status


def test_the_key_is_exchanged_and_the_account_stays(ca: Surroundings) -> None:
    certificate(ca)
    before = ca.issuer().account()

    ca.issuer().roll_over()
    after = ca.issuer().account()
    certificate(ca)

    assert (before.account, "valid") == (after.account, after.status)
    assert before.thumbprint != after.thumbprint
    assert 1 == len(ca.memory.kept)


@pytest.mark.parametrize("kind", ["P-384", "RSA-2048"])
def test_keys_of_other_kinds_are_exchanged_for_their_like(ca: Surroundings, kind: str) -> None:
    options = f"account_key={kind}"
    issued(drive(ca.issuer(options), request_for("www.example.org"), MemoryJournal()))

    ca.issuer(options).roll_over()

    assert (kind, "valid") == (ca.issuer(options).account().key, ca.issuer(options).account().status)


def test_there_is_no_key_to_exchange_before_the_first_order(ca: Surroundings) -> None:
    with pytest.raises(Invalid, match="no account at the CA yet"):
        ca.issuer().roll_over()


@pytest.mark.parametrize("point", ROLLOVER)
@pytest.mark.parametrize("again", [False, True], ids=["used", "repeated"])
def test_after_a_crash_during_the_exchange_the_account_is_found_with_either_key(
    ca: Surroundings, crash_at: Callable[[str], None], point: str, again: bool
) -> None:
    certificate(ca)
    before = ca.issuer().account()
    crash_at(point)
    with pytest.raises(Crash):
        ca.issuer().roll_over()

    if again:
        ca.issuer().roll_over()
    certificate(ca)
    after = ca.issuer().account()

    assert (before.account, "valid") == (after.account, after.status)
    assert (again or point != "acme.rollover.before") == (before.thumbprint != after.thumbprint)


@pytest.mark.parametrize("after", [False, True], ids=["request", "reply"])
@pytest.mark.parametrize("again", [False, True], ids=["used", "repeated"])
def test_after_a_lost_request_or_reply_the_account_is_found_with_either_key(
    ca: Surroundings, after: bool, again: bool
) -> None:
    certificate(ca)
    before, real = ca.issuer().account(), ca.egress
    ca.egress = Lossy(real, "rollover", after=after)  # type: ignore[assignment]
    with pytest.raises(IssuerUnavailable):
        ca.issuer().roll_over()
    ca.egress = real

    if again:
        ca.issuer().roll_over()
    certificate(ca)
    found = ca.issuer().account()

    assert (before.account, "valid") == (found.account, found.status)
    assert (again or after) == (before.thumbprint != found.thumbprint)


def test_an_order_under_way_survives_the_exchange(ca: Surroundings) -> None:
    """What was published has the old key in it, and the CA may look at it before or after."""
    for number in range(3):
        request, journal = request_for(f"under-way{number}.example.org"), MemoryJournal()
        issuer = ca.issuer()
        assert isinstance(issuer.advance(request, journal), StillWaiting)

        ca.issuer().roll_over()

        issued(drive(issuer, request, journal))


def test_an_order_whose_answers_have_the_old_key_is_made_again(pebble: Pebble, ca: Surroundings) -> None:
    request, journal = request_for("old-key.example.org"), MemoryJournal()
    ask = authorizing_stopped(journal)
    with pytest.raises(Crash):
        ask(ca, request)

    ca.issuer().roll_over()
    issued(drive(ca.issuer(), request, journal))

    assert ca.board.answers == {}


def test_many_workers_use_the_account_while_its_key_is_exchanged_again_and_again(
    start_pebble: Start, surround: Surround
) -> None:
    ca = surround(start_pebble(always_valid=True))
    certificate(ca)
    first = ca.issuer().account()
    failures: list[BaseException] = []

    def order(number: int) -> None:
        try:
            for each in range(4):
                request = request_for(f"busy{number}-{each}.example.org", operation=f"{number}-{each}")
                issued(persevere(ca.issuer(), request, MemoryJournal()))
        except BaseException as error:
            failures.append(error)

    def exchange() -> None:
        try:
            for _ in range(5):
                ca.issuer().roll_over()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=order, args=(number,)) for number in range(4)]
    threads += [threading.Thread(target=exchange) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = ca.issuer().account()

    assert [] == failures
    assert (first.account, "valid") == (last.account, last.status)
    assert first.thumbprint != last.thumbprint


def test_a_refused_exchange_keeps_the_key_and_says_why(scripted: ScriptedCA) -> None:
    egress = loopback_egress(plain_http=True)
    ca = Surroundings(egress, NoBoard(), scripted.directory_url)
    key_change = f"{scripted.url}/key-change"
    scripted.fault("directory", lambda exchange: exchange.proceed(keyChange=key_change), times=1)
    certificate(ca)
    before = ca.issuer().account()
    scripted.fault("key-change", lambda exchange: exchange.problem(400, "badPublicKey", "too weak"))
    scripted.fault("account", lambda exchange: exchange.problem(400, "malformed", "wrong signature"))

    with pytest.raises(Invalid, match="too weak"):
        ca.issuer().roll_over()

    assert before.thumbprint == ca.issuer().account().thumbprint
    egress.close()


def test_a_ca_that_changes_no_keys_says_so(scripted: ScriptedCA) -> None:
    egress = loopback_egress(plain_http=True)
    ca = Surroundings(egress, NoBoard(), scripted.directory_url)
    certificate(ca)

    with pytest.raises(Invalid, match="does not let accounts change their keys"):
        ca.issuer().roll_over()
    egress.close()


def test_a_deactivated_account_is_followed_by_another_with_another_key(ca: Surroundings) -> None:
    certificate(ca)
    before = ca.issuer().account()

    ca.issuer().deactivate()
    between = ca.issuer().account()
    ca.issuer().deactivate()
    certificate(ca)
    after = ca.issuer().account()

    assert (None, None) == (between.account, between.status)
    assert "valid" == after.status
    assert before.account != after.account
    assert before.thumbprint != after.thumbprint


@pytest.mark.parametrize("point", DEACTIVATION)
@pytest.mark.parametrize("again", [False, True], ids=["used", "repeated"])
def test_a_crash_during_the_deactivation_is_made_up_for_by_the_next_use(
    ca: Surroundings, crash_at: Callable[[str], None], point: str, again: bool
) -> None:
    certificate(ca)
    before = ca.issuer().account()
    crash_at(point)
    with pytest.raises(Crash):
        ca.issuer().deactivate()
    between = ca.issuer().account()

    if again:
        ca.issuer().deactivate()
        assert ca.issuer().account().account is None
    certificate(ca)
    after = ca.issuer().account()

    expected = {"before": "valid", "after-call": "deactivated", "recorded": None}
    assert expected[point.rpartition(".")[2]] == between.status
    assert "valid" == after.status
    assert before.account != after.account


def test_a_deactivation_follows_an_exchange_that_was_interrupted(
    ca: Surroundings, crash_at: Callable[[str], None]
) -> None:
    certificate(ca)
    crash_at("acme.rollover.after-call")
    with pytest.raises(Crash):
        ca.issuer().roll_over()

    ca.issuer().deactivate()

    assert ca.issuer().account().account is None


def test_an_order_under_way_moves_to_the_next_account(ca: Surroundings) -> None:
    request, journal = request_for("moves.example.org"), MemoryJournal()
    assert isinstance(ca.issuer().advance(request, journal), StillWaiting)

    ca.issuer().deactivate()
    # The CA may merely not show the order for a moment, so it is given one.
    issued(drive(ca.issuer(), request, journal, seconds=30))

    assert journal.recorded("order.2") is not None


def test_a_changed_external_binding_serves_only_a_new_account(start_pebble: Start, surround: Surround) -> None:
    pebble = start_pebble(eab={"kid-1": MAC_KEY, "kid-2": MAC_KEY[::-1]}, nonce_reject=0)
    ca = surround(pebble)
    first, second = {"account_id": "kid-1", "password": MAC_KEY}, {"account_id": "kid-2", "password": MAC_KEY[::-1]}
    issued(drive(ca.issuer(**first), request_for("eab.example.org"), MemoryJournal()))
    before = ca.issuer(**first).account()
    counting = Counting(ca.egress)
    ca.egress = counting  # type: ignore[assignment]

    issued(drive(ca.issuer(**second), request_for("eab.example.org"), MemoryJournal()))
    same = ca.issuer(**second).account()
    ca.issuer(**second).deactivate()
    registered = sum("sign-me-up" in url for url in counting.urls)
    issued(drive(ca.issuer(**second), request_for("eab.example.org"), MemoryJournal()))

    assert (before.account, before.thumbprint) == (same.account, same.thumbprint)
    assert ("kid-1", "kid-2") == (before.external_account, same.external_account)
    assert 0 == registered
    assert 1 <= sum("sign-me-up" in url for url in counting.urls)


def test_a_binding_that_was_used_up_does_not_hide_the_account_that_it_made(scripted: ScriptedCA) -> None:
    """The reply to newAccount got lost, and the CA takes each binding once."""
    egress = loopback_egress(plain_http=True)
    ca = Surroundings(egress, NoBoard(), scripted.directory_url)
    binding = {"account_id": "once", "password": MAC_KEY}
    scripted.fault("account", lambda exchange: exchange.drop())
    with pytest.raises(IssuerUnavailable):
        drive(ca.issuer(**binding), request_for("www.example.org"), MemoryJournal())
    scripted.fault("account", lambda exchange: exchange.problem(403, "unauthorized", "the binding was used"))

    issued(drive(ca.issuer(**binding), request_for("www.example.org"), MemoryJournal()))

    assert 3 == scripted.hits["account"]
    egress.close()


def test_a_refused_binding_is_refused(scripted: ScriptedCA) -> None:
    egress = loopback_egress(plain_http=True)
    ca = Surroundings(egress, NoBoard(), scripted.directory_url)
    scripted.fault("account", lambda exchange: exchange.problem(403, "unauthorized", "no such binding"))
    scripted.fault("account", lambda exchange: exchange.problem(400, "accountDoesNotExist", "no account"))

    reply = drive(ca.issuer(account_id="kid", password=MAC_KEY), request_for("www.example.org"), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert "no such binding" in reply.problem.message
    egress.close()
