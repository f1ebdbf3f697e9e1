"""Requests that are given up: what the CA holds of them is given back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pebble.launcher import Pebble
from tests.support.acme_ports import (
    Crash,
    MemoryJournal,
    NoBoard,
    Surroundings,
    authorizing_stopped,
    loopback_egress,
    request_for,
)
from tests.support.scripted_ca import ScriptedCA

pytestmark = pytest.mark.xdist_group("acme-abandoning")

Surround = Callable[[Pebble], Surroundings]
Start = Callable[..., Pebble]

ABANDON = ["acme.abandon.before", "acme.abandon.after-call"]


def authorizations(ca: Surroundings, journal: MemoryJournal) -> list[str]:
    """The statuses of the authorizations of the order in the journal."""
    asking = ca.issuer()._account()
    order = asking.fetch((journal.recorded("order") or {})["url"]).json()
    return [asking.fetch(url).json()["status"] for url in order["authorizations"]]


@pytest.fixture
def slow(start_pebble: Start, surround: Surround) -> Surroundings:
    """A CA that takes its time to look, so that there is something to abandon."""
    return surround(start_pebble(authz_reuse=0, nonce_reject=0, validation_sleep=15))


def test_an_abandoned_request_frees_its_pending_authorizations(slow: Surroundings) -> None:
    request, journal = request_for("a.example.org", "b.example.org"), MemoryJournal()
    with pytest.raises(Crash):
        authorizing_stopped(journal)(slow, request)
    assert ["pending", "pending"] == authorizations(slow, journal)

    slow.issuer().abandon(request, journal)
    slow.issuer().abandon(request, journal)

    assert ["deactivated", "deactivated"] == authorizations(slow, journal)
    assert {} == slow.board.answers


@pytest.mark.parametrize("point", ABANDON)
def test_a_crash_while_abandoning_is_made_up_for_when_it_is_repeated(
    slow: Surroundings, crash_at: Callable[[str], None], point: str
) -> None:
    request, journal = request_for("a.example.org", "b.example.org"), MemoryJournal()
    with pytest.raises(Crash):
        authorizing_stopped(journal)(slow, request)
    crash_at(point)
    with pytest.raises(Crash):
        slow.issuer().abandon(request, journal)

    slow.issuer().abandon(request, journal)

    assert {"deactivated"} <= {*authorizations(slow, journal)} <= {"deactivated", "pending"}
    assert {} == slow.board.answers


def test_what_a_ca_says_to_an_abandoned_order_stops_nothing(scripted: ScriptedCA) -> None:
    egress = loopback_egress(plain_http=True)
    ca = Surroundings(egress, NoBoard(), scripted.directory_url)
    request, journal = request_for("www.example.org"), MemoryJournal()
    with pytest.raises(Crash):
        authorizing_stopped(journal)(ca, request)
    scripted.fault("order", lambda exchange: exchange.problem(500, "serverInternal"))

    ca.issuer().abandon(request, journal)

    assert {} == ca.board.answers
    egress.close()
