"""Standby issuers: who issues while the first one cannot."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certbroker.app import Core
from certbroker.domain import operation as states
from certbroker.domain.audit import Caller
from certbroker.domain.errors import Invalid
from certbroker.domain.objects import Vault
from certbroker.domain.operation import Problem
from certbroker.ports.issuer import IssuanceRequest, IssuerUnavailable, Journal, Reply, RequestRefused
from certbroker.services.issuers.issuers import IssuerChanges
from tests.support.issuer_bench import Bench, fail, wait

DAY = timedelta(days=1)
DOWN = IssuerUnavailable(Problem("Down", "The CA is down."))


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    """With another issuer that may stand in."""
    bench = Bench(core, caller, vault)
    core.broker.issuers.set(caller, vault, "other", IssuerChanges(provider="Scripted"))
    return bench


def test_it_is_asked_when_the_first_refuses(bench: Bench) -> None:
    refuse = lambda request, journal: RequestRefused(Problem("IssuerRefused", "No."))  # noqa: E731
    made = bench.ask(refuse, bench.issue, standby_issuers=("other",))
    bench.turn()
    between = bench.now(made)
    bench.turn()

    assert isinstance(between.state, states.AwaitingIssuer)
    assert "The issuer ca could not be used; other is asked instead. No." == between.state.detail
    assert ("other", True) == (between.issuer, isinstance(bench.now(made).state, states.Completed))
    care = bench.store.glance().lifecycles.get(bench.vault.id, "c")
    assert care is not None
    assert "other" == care.issuer


def test_when_all_refuse_it_ends(bench: Bench) -> None:
    refuse = lambda request, journal: RequestRefused(Problem("IssuerRefused", "No."))  # noqa: E731
    made = bench.ask(refuse, refuse, standby_issuers=("other",))
    bench.until(bench.clock.now() + timedelta(minutes=1))

    assert isinstance(bench.now(made).state, states.Failed)
    assert 2 == len(bench.kind.requests)


def test_it_is_asked_when_the_first_is_down_for_too_long(bench: Bench) -> None:
    made = bench.ask(*[fail(DOWN)] * 8, bench.issue, standby_issuers=("other",))
    bench.until(bench.clock.now() + timedelta(minutes=9))
    still = bench.now(made).issuer
    bench.until(bench.clock.now() + timedelta(minutes=30))

    assert ("ca", "other") == (still, bench.now(made).issuer)
    assert isinstance(bench.now(made).state, states.Completed)


def test_it_is_asked_at_once_when_the_first_is_limited_for_long(bench: Bench) -> None:
    limited = IssuerUnavailable(Problem("RateLimited", "Too many."), bench.clock.now() + DAY)
    made = bench.ask(fail(limited), bench.issue, standby_issuers=("other",))
    bench.turn()
    bench.turn()

    assert isinstance(bench.now(made).state, states.Completed)


def test_it_is_not_asked_while_the_first_may_still_issue(bench: Bench) -> None:
    """One intent, one certificate."""
    late = bench.clock.now() + DAY
    committed = IssuerUnavailable(Problem("Down", "Lost the reply."), late, committed=True)
    made = bench.ask(fail(committed), bench.issue, standby_issuers=("other",))
    bench.until(late + timedelta(seconds=1))

    assert ("ca", True) == (bench.now(made).issuer, isinstance(bench.now(made).state, states.Completed))


def test_after_the_last_it_is_the_turn_of_the_first_again(bench: Bench) -> None:
    limited = IssuerUnavailable(Problem("RateLimited", "Too many."), bench.clock.now() + timedelta(minutes=30))
    made = bench.ask(fail(limited), fail(limited), bench.issue, standby_issuers=("other",))
    for _ in range(3):
        bench.turn()

    assert ("ca", True) == (bench.now(made).issuer, isinstance(bench.now(made).state, states.Completed))


def test_each_issuer_has_a_journal_of_its_own(bench: Bench) -> None:
    def write(request: IssuanceRequest, journal: Journal) -> Reply:
        assert journal.intended("order") is None
        journal.intend("order", url="mine")
        return RequestRefused(Problem("IssuerRefused", "No."))

    made = bench.ask(write, write, standby_issuers=("other",))
    bench.turn()
    bench.turn()

    assert isinstance(bench.now(made).state, states.Failed)


def test_an_issuer_that_is_gone_gives_its_turn_away(bench: Bench) -> None:
    made = bench.ask(bench.issue, standby_issuers=("other",))
    bench.store.write(lambda transaction: transaction.issuers.remove(bench.vault.id, "ca"))
    bench.turn()
    bench.turn()

    assert isinstance(bench.now(made).state, states.Completed)


@pytest.mark.parametrize("standby", [("nobody",), ("Self",), ("Unknown",), ("ca",), ("other", "OTHER")])
def test_nonsense_is_refused(bench: Bench, standby: tuple[str, ...]) -> None:
    with pytest.raises(Invalid):
        bench.ask(wait(1), standby_issuers=standby)
