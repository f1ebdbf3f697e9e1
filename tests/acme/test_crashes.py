"""A crash, a lost reply or a lost request at any point costs time, and never a second certificate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from cryptography import x509

from certbroker.domain.errors import LeaseLost
from certbroker.ports.egress import EgressFailed, OutsideResponse
from certbroker.ports.issuer import IssuerUnavailable, StillWaiting
from issuers.acme import account, authorizing, order, ordering
from issuers.acme.account import Account
from issuers.acme.known_ca import KnownCA
from issuers.acme.messages import read_order
from issuers.acme.settings import read_settings
from issuers.acme.transport import Authority
from pebble.launcher import Pebble
from tests.support.acme_ports import MemoryJournal, Surroundings, drive, issued, persevere, request_for

pytestmark = pytest.mark.xdist_group("acme-crashes")

POINTS = [
    "acme.account.before",
    "acme.account.after-call",
    "acme.account.recorded",
    "acme.order.before",
    "acme.order.after-call",
    "acme.order.recorded",
    "acme.challenge.before",
    "acme.challenge.after-call",
    "acme.challenge.recorded",
    "acme.finalize.before",
    "acme.finalize.after-call",
    "acme.finalize.recorded",
    "acme.certificate.before",
    "acme.certificate.after-call",
    "acme.certificate.recorded",
]


class Crash(BaseException):
    """The process dies."""


@pytest.fixture
def failpoints(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], None]], None]:
    def install(reached: Callable[[str], None]) -> None:
        for module in (account, authorizing, order, ordering):
            monkeypatch.setattr(module, "failpoint", reached)

    return install


@pytest.fixture(scope="module")
def pebble(start_pebble: Callable[..., Pebble]) -> Pebble:
    return start_pebble(authz_reuse=0)


class Interrupted:
    """An egress that loses the request or the reply number `at`, counted from 1."""

    def __init__(self, egress: Any, at: int, *, after: bool) -> None:
        self._egress = egress
        self._at = at
        self._after = after
        self._lock = threading.Lock()
        self.count = 0

    def request(self, method: str, url: str, **more: Any) -> OutsideResponse:
        with self._lock:
            self.count += 1
            hit = self.count == self._at
        if hit and not self._after:
            raise EgressFailed("the request got lost", sent=False)
        response: OutsideResponse = self._egress.request(method, url, **more)
        if hit:
            raise EgressFailed("the reply got lost")
        return response


def orders_at_the_ca(ca: Surroundings) -> Mapping[str, int]:
    """How many orders of the account there are, by status."""
    settings = read_settings(ca.settings())
    asking = Account(Authority(ca.directory_url, ca.egress, KnownCA()), settings, ca.memory, ca.clock)
    page = asking.orders_url
    counts: dict[str, int] = {}
    while page is not None:
        answer = asking.fetch(page)
        for url in answer.json()["orders"]:
            status = read_order(asking.fetch(url).json(), url).status
            counts[status] = counts.get(status, 0) + 1
        page = next(iter(answer.links("next")), None)
    return counts


def test_the_failpoints_of_a_normal_issuance(ca: Surroundings, failpoints: Callable[..., None]) -> None:
    reached: list[str] = []
    failpoints(reached.append)

    drive(ca.issuer(), request_for("normal.example.org"), MemoryJournal())

    assert POINTS == reached


@pytest.mark.parametrize("crashes", [1, 2])
@pytest.mark.parametrize("point", POINTS)
def test_after_a_crash_there_is_one_certificate(
    ca: Surroundings, failpoints: Callable[..., None], point: str, crashes: int
) -> None:
    left = crashes

    def reached(name: str) -> None:
        nonlocal left
        if name == point and left:
            left -= 1
            raise Crash

    failpoints(reached)
    request, journal = request_for("crash.example.org", "crash2.example.org"), MemoryJournal()

    certificate = None
    while certificate is None:
        try:
            certificate = issued(drive(ca.issuer(), request, journal))[0]
        except Crash:
            continue
    again = issued(drive(ca.issuer(), request, journal))[0]

    assert certificate == again
    assert {"valid": 1} == orders_at_the_ca(ca)
    assert {} == ca.board.answers


@pytest.mark.parametrize("after", [False, True], ids=["request", "reply"])
@pytest.mark.parametrize("at", range(1, 16))
def test_after_a_lost_request_or_reply_there_is_one_certificate(ca: Surroundings, at: int, after: bool) -> None:
    real = ca.egress
    ca.egress = Interrupted(real, at, after=after)  # type: ignore[assignment]
    request, journal = request_for("lost.example.org"), MemoryJournal()
    with pytest.raises(IssuerUnavailable):
        # An issuance may need fewer requests than that: when it is done, it is asked for again.
        [drive(ca.issuer(), request, journal) for _ in range(at)]

    # The lost reply took its nonce along, and a kept-alive connection is none the worse.
    ca.egress = real
    issued(persevere(ca.issuer(), request, journal))

    assert {"valid": 1} == orders_at_the_ca(ca)


def test_a_lease_lost_in_the_middle_stops_the_worker_and_the_next_one_finishes(ca: Surroundings) -> None:
    request, journal = request_for("lease.example.org"), MemoryJournal()
    assert isinstance(ca.issuer().advance(request, journal), StillWaiting)
    journal.lost = True

    with pytest.raises(LeaseLost):
        drive(ca.issuer(), request, journal)
    journal.lost = False
    issued(drive(ca.issuer(), request, journal))

    assert {"valid": 1} == orders_at_the_ca(ca)


def test_of_several_lost_orders_for_the_same_names_each_operation_gets_its_own(
    ca: Surroundings, failpoints: Callable[..., None]
) -> None:
    """Three operations for the same names all lose the reply to newOrder."""
    requests = [request_for("same.example.org", operation=f"operation {number}") for number in range(3)]
    journals = [MemoryJournal() for _ in requests]

    def crash(name: str) -> None:
        if name == "acme.order.after-call":
            raise Crash

    failpoints(crash)
    for request, journal in zip(requests, journals, strict=True):
        with pytest.raises(Crash):
            ca.issuer().advance(request, journal)
    failpoints(lambda name: None)

    leaves = [
        issued(drive(ca.issuer(), request, journal))[0] for request, journal in zip(requests, journals, strict=True)
    ]

    assert 3 == len({leaf.serial_number for leaf in leaves})
    assert {"valid": 3} == orders_at_the_ca(ca)


def test_a_hundred_orders_from_many_threads(start_pebble: Callable[..., Pebble], surround: Any) -> None:
    ca = surround(start_pebble(always_valid=True))
    requests = [request_for(f"load{number}.example.org", operation=f"load {number}") for number in range(100)]
    leaves: list[x509.Certificate] = []
    waiting = iter(requests)
    lock = threading.Lock()

    def work() -> None:
        issuer = ca.issuer()
        while True:
            with lock:
                request = next(waiting, None)
            if request is None:
                return
            leaves.append(issued(drive(issuer, request, MemoryJournal()))[0])

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 100 == len({leaf.serial_number for leaf in leaves})
    assert 1 == sum("account." in name for name in ca.memory.kept)
