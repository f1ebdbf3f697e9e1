"""An order says which certificate it renews, and never fails because of that (RFC 9773 section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from cryptography import x509

from certbroker.ports.issuer import IssuanceRequest, IssuerUnavailable, RequestRefused
from issuers.acme import ordering
from issuers.acme.renewal_info import certificate_id
from pebble.launcher import Pebble
from tests.support.acme_ports import (
    MemoryJournal,
    NoBoard,
    Surroundings,
    drive,
    issued,
    loopback_egress,
    persevere,
    request_for,
)
from tests.support.peers import require_pebble
from tests.support.scripted_ca import ScriptedCA

pytestmark = pytest.mark.xdist_group("acme-renewal")

NAME = "renewed.example.org"


class Crash(BaseException):
    """The process dies."""


@pytest.fixture(scope="module")
def pebble(start_pebble: Callable[..., Pebble]) -> Pebble:
    require_pebble(recent=True)
    return start_pebble(always_valid=True)


@pytest.fixture
def scripted() -> Iterator[ScriptedCA]:
    with ScriptedCA(renewal_info=True, list_orders=True) as ca:
        yield ca


def renew(ca: Surroundings, old: x509.Certificate, journal: MemoryJournal, *names: str) -> x509.Certificate:
    return issued(drive(ca.issuer(), request_for(*(names or (NAME,)), replaces=old), journal))[0]


def first(ca: Surroundings) -> x509.Certificate:
    """A certificate to renew.

    Pebble 2.10 finds the order of none whose serial number, as DER has it, begins with a zero byte: one of 256.
    """
    certificate = issued(drive(ca.issuer(), request_for(NAME), MemoryJournal()))[0]
    return first(ca) if certificate.serial_number.bit_length() % 8 == 0 else certificate


def intent(journal: MemoryJournal) -> dict[str, str]:
    return dict(journal.intended("order") or {})


def test_a_renewal_names_its_predecessor(pebble: Pebble, ca: Surroundings) -> None:
    old, journal = first(ca), MemoryJournal()

    new = renew(ca, old, journal)

    assert old.serial_number != new.serial_number
    assert certificate_id(old) == intent(journal)["replaces"]
    assert "has been marked as replaced" in pebble.log_path.read_text()


def test_a_second_renewal_of_the_same_certificate_is_ordered_without_naming_it(ca: Surroundings) -> None:
    old, journal = first(ca), MemoryJournal()
    serials = {old.serial_number, renew(ca, old, MemoryJournal()).serial_number}

    serials.add(renew(ca, old, journal).serial_number)

    assert 3 == len(serials)
    assert "alreadyReplaced" == intent(journal)["unreplaced"]
    assert "replaces" not in intent(journal)


def test_a_certificate_of_another_account_is_renewed_all_the_same(ca: Surroundings) -> None:
    old, journal = first(ca), MemoryJournal()
    stranger = Surroundings(ca.egress, ca.board, ca.directory_url)

    renew(stranger, old, journal)

    assert "unauthorized" == intent(journal)["unreplaced"]


def test_a_certificate_with_other_names_is_renewed_all_the_same(ca: Surroundings) -> None:
    """Pebble calls this an internal error, and only its text says what it is about."""
    old, journal = first(ca), MemoryJournal()

    renew(ca, old, journal, "other.example.net")

    assert "serverInternal" == intent(journal)["unreplaced"]


def test_a_certificate_of_another_ca_is_renewed_all_the_same(
    scripted: ScriptedCA, scripted_ca: Surroundings, ca: Surroundings
) -> None:
    old, journal = first(scripted_ca), MemoryJournal()

    renew(ca, old, journal)

    assert "malformed" == intent(journal)["unreplaced"]


def test_a_ca_without_renewal_information_is_told_nothing() -> None:
    egress = loopback_egress(plain_http=True)
    with ScriptedCA() as scripted:
        ca = Surroundings(egress, NoBoard(), scripted.directory_url)

        renew(ca, first(ca), MemoryJournal())

        assert [False, False] == ["replaces" in ordered for ordered in scripted.ordered]
    egress.close()


@pytest.mark.parametrize(
    ("status", "kind", "detail"),
    [
        (409, "alreadyReplaced", "certificate already has a replacement order"),
        (409, "conflict", "because"),
        (409, "malformed", "because"),
        (400, "malformed", "the replaces field does not parse"),
        (400, "malformed", "because"),
        (403, "unauthorized", "requester account did not request the certificate being replaced by this order"),
        (404, "malformed", "no current certificate with that serial exists"),
        (400, "somethingNew", "this order replaces nothing that exists"),
        (500, "serverInternal", "parsing ARI CertID failed"),
    ],
)
def test_an_objection_costs_one_more_request(
    scripted: ScriptedCA, scripted_ca: Surroundings, status: int, kind: str, detail: str
) -> None:
    old, journal = first(scripted_ca), MemoryJournal()
    scripted.fault("new-order", lambda exchange: exchange.problem(status, kind, detail), acts=False)

    renew(scripted_ca, old, journal)

    assert 3 == scripted.hits["new-order"]
    assert ["replaces" in ordered for ordered in scripted.ordered] == [False, False]
    assert 2 == len(scripted.issued)


def test_a_refusal_for_another_reason_is_refused_once_more_and_reported(
    scripted: ScriptedCA, scripted_ca: Surroundings
) -> None:
    old = first(scripted_ca)
    scripted.fault("new-order", lambda exchange: exchange.problem(400, "malformed", "no"), times=2, acts=False)

    reply = drive(scripted_ca.issuer(), request_for(NAME, replaces=old), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert 3 == scripted.hits["new-order"]


@pytest.mark.parametrize(
    ("status", "kind", "retry_after"),
    [(429, "rateLimited", {}), (503, "serverInternal", {"retry_after": "5"}), (500, "serverInternal", {})],
)
def test_a_ca_that_is_merely_busy_keeps_being_told_what_is_replaced(
    scripted: ScriptedCA, scripted_ca: Surroundings, status: int, kind: str, retry_after: dict[str, str]
) -> None:
    old, request, journal = first(scripted_ca), None, MemoryJournal()
    request = request_for(NAME, replaces=old)
    scripted.fault(
        "new-order",
        lambda exchange: (
            exchange.problem(status, kind, "you may not replace it now", **retry_after)
            if status != 500
            else exchange.problem(status, kind, "oops")
        ),
        times=2,
        acts=False,
    )
    for _ in range(2):
        with pytest.raises(IssuerUnavailable):
            drive(scripted_ca.issuer(), request, journal)

    issued(drive(scripted_ca.issuer(), request, journal))

    assert certificate_id(old) == scripted.ordered[-1]["replaces"]


def test_a_ca_that_breaks_on_every_replacement_without_a_word_is_spared_it(
    scripted: ScriptedCA, scripted_ca: Surroundings
) -> None:
    request, journal = request_for(NAME, replaces=first(scripted_ca)), MemoryJournal()
    scripted.fault("new-order", lambda exchange: exchange.problem(500, "serverInternal", "oops"), times=3, acts=False)

    issued(persevere(scripted_ca.issuer(), request, journal))

    assert 5 == scripted.hits["new-order"]
    assert "replaces" not in scripted.ordered[-1]


def test_the_replacement_that_an_earlier_operation_ordered_and_lost_is_taken_up(
    scripted: ScriptedCA, scripted_ca: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every later renewal would get alreadyReplaced until the certificate expires."""
    old, journal = first(scripted_ca), MemoryJournal()
    _crash_at(monkeypatch, "acme.order.after-call")
    with pytest.raises(Crash):
        renew(scripted_ca, old, MemoryJournal())
    monkeypatch.undo()

    request = request_for(NAME, replaces=old, operation="the next day")
    issued(drive(scripted_ca.issuer(), request, journal))

    assert [False, True, True] == ["replaces" in ordered for ordered in scripted.ordered]
    assert (journal.recorded("order") or {})["url"].endswith("/order/2")
    assert 2 == len(scripted.issued)


def test_a_pending_order_that_replaces_another_certificate_is_left_alone(
    scripted: ScriptedCA, scripted_ca: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = first(scripted_ca), first(scripted_ca)
    _crash_at(monkeypatch, "acme.order.after-call")
    for old in (one, two):
        with pytest.raises(Crash):
            scripted_ca.issuer().advance(request_for(NAME, replaces=old, operation="died"), MemoryJournal())
    monkeypatch.undo()
    journal = MemoryJournal()

    issued(drive(scripted_ca.issuer(), request_for(NAME, replaces=one), journal))

    # Orders 1 and 2 brought the certificates; 3 replaces the first of them.
    assert (journal.recorded("order") or {})["url"].endswith("/order/3")


@pytest.mark.parametrize("crashes", [1, 2])
def test_a_crash_between_the_objection_and_the_next_order_does_not_repeat_the_objection(
    scripted: ScriptedCA, scripted_ca: Surroundings, monkeypatch: pytest.MonkeyPatch, crashes: int
) -> None:
    old, journal = first(scripted_ca), MemoryJournal()
    request: IssuanceRequest = request_for(NAME, replaces=old)
    scripted.fault("new-order", lambda exchange: exchange.problem(409, "alreadyReplaced"), times=1, acts=False)
    _crash_at(monkeypatch, "acme.order.unreplaced")
    with pytest.raises(Crash):
        drive(scripted_ca.issuer(), request, journal)
    if crashes == 2:
        _crash_at(monkeypatch, "acme.order.after-call")
        with pytest.raises(Crash):
            drive(scripted_ca.issuer(), request, journal)
    monkeypatch.undo()

    issued(drive(scripted_ca.issuer(), request, journal))

    assert 3 == scripted.hits["new-order"]
    assert 2 == len(scripted.issued)


def test_a_new_attempt_does_not_raise_the_objection_again(scripted: ScriptedCA, scripted_ca: Surroundings) -> None:
    old, journal = first(scripted_ca), MemoryJournal()
    scripted.fault("new-order", lambda exchange: exchange.problem(409, "alreadyReplaced"), acts=False)
    error = {"type": "urn:ietf:params:acme:error:serverInternal", "detail": "oops"}
    # The order of the predecessor is looked at first, in search of one that got lost.
    scripted.fault("order", lambda exchange: exchange.proceed(status="invalid", error=error), times=2)

    renew(scripted_ca, old, journal)

    assert [False, False, False] == ["replaces" in ordered for ordered in scripted.ordered]
    assert journal.recorded("order.2") is not None


def _crash_at(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    def reached(name: str) -> None:
        if name == point:
            raise Crash

    monkeypatch.setattr(ordering, "failpoint", reached)
