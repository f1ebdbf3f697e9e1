"""Orders, authorizations and challenges of a CA that are not as they should be."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certbroker.ports.issuer import IssuerUnavailable, RequestRefused, StillWaiting
from issuers.acme import order, ordering, sight
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
from tests.support.scripted_ca import ScriptedCA, dropped, server_error

pytestmark = pytest.mark.xdist_group("acme-order-faults")


@pytest.fixture
def ca(scripted_ca: Surroundings) -> Surroundings:
    return scripted_ca


def test_two_requests_that_get_one_and_the_same_order_both_end_with_a_certificate_of_their_own() -> None:
    """Let's Encrypt gives a pending or ready order for the same names to whoever asks."""
    egress = loopback_egress(plain_http=True)
    with ScriptedCA(reuse_orders=True) as scripted:
        ca = Surroundings(egress, NoBoard(), scripted.directory_url)
        requests = [request_for("www.example.org", operation=f"operation {number}") for number in range(2)]
        journals = [MemoryJournal(), MemoryJournal()]
        assert isinstance(ca.issuer().advance(requests[0], journals[0]), StillWaiting)

        # The second is faster with the order that the first has made.
        leaves = [issued(drive(ca.issuer(), requests[number], journals[number]))[0] for number in (1, 0)]

        assert (journals[0].recorded("order") or {})["url"] == (journals[1].recorded("order") or {})["url"]
        assert 2 == len({leaf.serial_number for leaf in leaves}) == len(scripted.issued)
    egress.close()


def test_a_lost_order_is_not_made_twice_where_the_ca_gives_the_same_one_again() -> None:
    egress = loopback_egress(plain_http=True)
    with ScriptedCA(reuse_orders=True) as scripted:
        ca = Surroundings(egress, NoBoard(), scripted.directory_url)
        scripted.fault("new-order", dropped)

        issued(persevere(ca.issuer(), request_for("www.example.org"), MemoryJournal()))

        assert ["1"] == [*scripted._orders]
    egress.close()


def test_an_order_whose_description_is_unreadable_is_kept_by_its_url(scripted: ScriptedCA, ca: Surroundings) -> None:
    scripted.fault("new-order", lambda exchange: exchange.send(201, b"{", location=exchange.proper[1]["location"]))

    issued(persevere(ca.issuer(), request_for("www.example.org"), MemoryJournal()))

    assert 1 == scripted.hits["new-order"]


def test_a_vanished_order_is_made_again_and_not_for_ever(
    scripted: ScriptedCA, ca: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordering, "_BETWEEN_ORDERS", timedelta(0))
    monkeypatch.setattr(sight, "_LAG", timedelta(0))
    scripted.fault("order", lambda exchange: exchange.problem(404, "malformed", "no such order"), times=2)
    issued(drive(ca.issuer(), request_for("www.example.org"), MemoryJournal()))
    assert 3 == scripted.hits["new-order"]

    scripted.fault("order", lambda exchange: exchange.problem(404, "malformed", "no such order"), times=5)
    reply = drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert "5 orders came to nothing" in reply.problem.message


def test_an_order_that_a_replica_of_the_ca_does_not_know_yet_is_waited_for(
    scripted: ScriptedCA, ca: Surroundings
) -> None:
    scripted.fault("order", lambda exchange: exchange.problem(404, "malformed", "no such order"), times=3)

    issued(drive(ca.issuer(), request_for("www.example.org"), MemoryJournal()))

    assert 1 == scripted.hits["new-order"]


def test_an_order_that_failed_inside_the_ca_is_made_again(scripted: ScriptedCA, ca: Surroundings) -> None:
    error = {"type": "urn:ietf:params:acme:error:serverInternal", "detail": "oops"}
    scripted.fault("order", lambda exchange: exchange.proceed(status="invalid", error=error))

    issued(drive(ca.issuer(), request_for("www.example.org"), MemoryJournal()))

    assert 2 == scripted.hits["new-order"]


def test_after_a_second_failure_inside_the_ca_the_next_order_waits(scripted: ScriptedCA, ca: Surroundings) -> None:
    error = {"type": "urn:ietf:params:acme:error:serverInternal", "detail": "oops"}
    scripted.fault("order", lambda exchange: exchange.proceed(status="invalid", error=error), times=2)
    issuer, request, journal = ca.issuer(), request_for("www.example.org"), MemoryJournal()

    replies = [issuer.advance(request, journal) for _ in range(20)]

    assert isinstance(replies[-1], StillWaiting)
    assert timedelta(minutes=1) < replies[-1].pause
    assert 2 == scripted.hits["new-order"]


def test_an_order_that_failed_for_good_is_refused_with_all_subproblems(scripted: ScriptedCA, ca: Surroundings) -> None:
    error = {
        "type": "urn:ietf:params:acme:error:compound",
        "detail": "several problems",
        "subproblems": [
            {
                "type": "urn:ietf:params:acme:error:caa",
                "detail": "CAA record forbids issuance",
                "identifier": {"type": "dns", "value": "www.example.org"},
            }
        ],
    }
    scripted.fault("order", lambda exchange: exchange.proceed(status="invalid", error=error))

    reply = drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert "www.example.org: CAA record forbids issuance" in reply.problem.message
    assert "Allow this CA in the CAA records" in reply.problem.message


def test_an_authorization_for_a_name_that_was_not_ordered_is_not_answered(
    scripted: ScriptedCA, ca: Surroundings
) -> None:
    foreign = {"type": "dns", "value": "victim.example.net"}
    scripted.fault("authorization", lambda exchange: exchange.proceed(identifier=foreign))

    with pytest.raises(IssuerUnavailable, match="was not ordered"):
        drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert {} == ca.board.answers


@pytest.mark.parametrize("token", ["../../etc/passwd", "short", "a" * 300, "with space and more", "tok\u00e9n" * 5])
def test_a_token_that_is_none_is_not_put_up(scripted: ScriptedCA, ca: Surroundings, token: str) -> None:
    challenge = {"type": "http-01", "url": f"{scripted.url}/challenge/1", "status": "pending", "token": token}
    scripted.fault("authorization", lambda exchange: exchange.proceed(challenges=[challenge]))

    with pytest.raises(IssuerUnavailable, match="token"):
        drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert {} == ca.board.answers


@pytest.mark.parametrize("status", ["expired", "deactivated", "revoked"])
def test_an_authorization_that_ended_costs_a_new_order(scripted: ScriptedCA, ca: Surroundings, status: str) -> None:
    scripted.fault("authorization", lambda exchange: exchange.proceed(status=status))

    issued(drive(ca.issuer(), request_for("www.example.org"), MemoryJournal()))

    assert 2 == scripted.hits["new-order"]


def test_an_order_that_stays_pending_after_a_failure_is_noticed(
    scripted: ScriptedCA, ca: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from issuers.acme import authorizing

    monkeypatch.setattr(authorizing, "_LOOK_CLOSER", timedelta(0))
    request, journal = request_for("www.example.org"), MemoryJournal()
    ca.issuer().advance(request, journal)
    failed = [
        {
            "type": "http-01",
            "url": f"{scripted.url}/challenge/1",
            "status": "invalid",
            "token": "t" * 32,
            "error": {"type": "urn:ietf:params:acme:error:dns", "detail": "NXDOMAIN looking up A"},
        }
    ]
    scripted.fault("order", lambda exchange: exchange.proceed(status="pending"))
    scripted.fault("authorization", lambda exchange: exchange.proceed(status="invalid", challenges=failed))

    reply = drive(ca.issuer(), request, journal)

    assert isinstance(reply, RequestRefused)
    assert "www.example.org: NXDOMAIN looking up A" in reply.problem.message


def test_a_challenge_of_the_chosen_kind_must_be_offered(scripted: ScriptedCA, ca: Surroundings) -> None:
    challenge = {"type": "tls-alpn-01", "url": f"{scripted.url}/c", "status": "pending", "token": "t" * 32}
    scripted.fault("authorization", lambda exchange: exchange.proceed(challenges=[challenge]))

    reply = drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert "The CA offers tls-alpn-01 for www.example.org" in reply.problem.message


def test_endless_bad_nonces_end(scripted: ScriptedCA, ca: Surroundings) -> None:
    scripted.fault("account", lambda exchange: exchange.problem(400, "badNonce"), times=100)

    with pytest.raises(IssuerUnavailable, match="nonces"):
        drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert 20 == scripted.hits["account"]


def test_finalize_again_is_not_asked_of_an_order_that_lags(scripted: ScriptedCA, ca: Surroundings) -> None:
    """A replica of the CA still shows the order as ready after it took the CSR."""
    request, journal = request_for("www.example.org"), MemoryJournal()
    scripted.fault("finalize", lambda exchange: exchange.proceed(status="ready", certificate=None))
    issuer = ca.issuer()
    while ("recorded", "finalize") not in journal.writes:
        issuer.advance(request, journal)
    scripted.fault("order", lambda exchange: exchange.proceed(status="ready"))

    assert isinstance(issuer.advance(request, journal), StillWaiting)
    issued(drive(issuer, request, journal))

    assert 1 == scripted.hits["finalize"]


@pytest.mark.parametrize("route", ["order", "certificate"])
@pytest.mark.parametrize(("status", "kind"), [(403, "userActionRequired"), (400, "malformed"), (503, "serverInternal")])
def test_after_finalize_nothing_is_refused_and_no_other_issuer_may_be_asked(
    scripted: ScriptedCA, ca: Surroundings, route: str, status: int, kind: str
) -> None:
    """The certificate exists by then, whatever the CA says when it is asked for it."""
    request, journal = request_for("www.example.org"), MemoryJournal()
    scripted.fault("finalize", dropped)
    with pytest.raises(IssuerUnavailable) as lost:
        drive(ca.issuer(), request, journal)
    scripted.fault(route, lambda exchange: exchange.problem(status, kind))

    with pytest.raises(IssuerUnavailable) as caught:
        drive(ca.issuer(), request, journal)
    issued(drive(ca.issuer(), request, journal))

    assert (True, True) == (lost.value.committed, caught.value.committed)
    assert 1 == len(scripted.issued)


@pytest.mark.parametrize("route", ["directory", "account", "new-order", "order", "authorization", "challenge"])
def test_before_finalize_another_issuer_may_be_asked(scripted: ScriptedCA, ca: Surroundings, route: str) -> None:
    scripted.fault(route, server_error)

    with pytest.raises(IssuerUnavailable) as caught:
        drive(ca.issuer(), request_for("www.example.org"), MemoryJournal())

    assert not caught.value.committed


def test_a_finalize_that_is_refused_although_it_was_obeyed_brings_the_certificate(
    scripted: ScriptedCA, ca: Surroundings
) -> None:
    scripted.fault("finalize", lambda exchange: exchange.problem(400, "malformed", "the order has a CSR already"))

    issued(drive(ca.issuer(), request_for("www.example.org"), MemoryJournal()))

    assert 1 == len(scripted.issued)


def test_a_finalize_that_was_accepted_is_not_refused_afterwards(
    scripted: ScriptedCA, ca: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica of the CA that lags behind shows the order as ready, and will not have the CSR a second time."""
    monkeypatch.setattr(order, "_FINALIZE_AGAIN", timedelta(0))
    request, journal = request_for("www.example.org"), MemoryJournal()
    scripted.fault("finalize", lambda exchange: exchange.proceed(status="ready", certificate=None))
    issuer = ca.issuer()
    while ("recorded", "finalize") not in journal.writes:
        issuer.advance(request, journal)
    scripted.fault("order", lambda exchange: exchange.proceed(status="ready"), times=2)
    scripted.fault("finalize", lambda exchange: exchange.problem(400, "malformed"), acts=False)

    with pytest.raises(IssuerUnavailable) as caught:
        issuer.advance(request, journal)
    issued(drive(issuer, request, journal))

    assert caught.value.committed
    assert 1 == len(scripted.issued)
