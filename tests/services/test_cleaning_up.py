"""What operations leave behind that end without a certificate, whatever has become of their issuers meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from certbroker.app import Core
from certbroker.domain import operation as states
from certbroker.domain.audit import Caller
from certbroker.domain.budget import Limits, PlannedOrder, limit
from certbroker.domain.errors import Invalid
from certbroker.domain.objects import Vault
from certbroker.domain.operation import Problem
from certbroker.ports.issuer import IssuanceRequest, IssuerSettings, Journal, Reply, RequestRefused, Resources
from certbroker.services.issuers.governor import Governor
from certbroker.services.issuers.issuers import IssuerChanges
from tests.support.issuer_bench import Bench, Step, fail, wait

CA = "https://ca.example/directory"
LIMITS = Limits(names=limit(1, timedelta(days=7)))


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    """With another issuer that may stand in."""
    bench = Bench(core, caller, vault)
    core.broker.issuers.set(caller, vault, "other", IssuerChanges(provider="Scripted"))
    return bench


def disable(bench: Bench) -> None:
    bench.core.broker.issuers.update(bench.caller, bench.vault, "ca", IssuerChanges(enabled=False))


def delete(bench: Bench) -> None:
    bench.store.write(lambda transaction: transaction.issuers.remove(bench.vault.id, "ca"))


def break_settings(bench: Bench) -> None:
    def refuse(settings: IssuerSettings, resources: Resources) -> Step:
        raise Invalid("Its DNS publisher is gone.")

    bench.kind.open = refuse  # type: ignore[assignment, method-assign]  # It breaks.


def cancel(bench: Bench) -> None:
    bench.certificates.cancel(bench.caller, bench.vault, "c")


def pass_deadline(bench: Bench) -> None:
    bench.clock.forward(states.DEADLINE)


def do_nothing(bench: Bench) -> None:
    pass


def order_of(operation_id: str) -> PlannedOrder:
    return PlannedOrder(operation_id, "order", CA, "account", ("www.example.com",))


def validating(bench: Bench) -> Step:
    """A step that takes a place in a budget, and puts up answers to challenges that the journal names."""

    def step(request: IssuanceRequest, journal: Journal) -> Reply:
        assert Governor(bench.store, bench.clock).admit(order_of(request.operation_id), LIMITS) is None
        answers = [["http-01", "token", "token.mine"], ["tls-alpn-01", "www.example.com", "other.mine"]]
        journal.intend("challenge", answers=json.dumps(answers))
        expires = bench.clock.now() + timedelta(days=7)
        bench.core.broker.board.put("http-01", "token", "token.mine", expires)
        bench.core.broker.board.put("tls-alpn-01", "www.example.com", "other.mine", expires)
        return wait(60)(request, journal)

    return step


def left_behind(bench: Bench) -> tuple[bool, str | None, str | None]:
    """Whether the budget has no place for another order, and the answers that are up."""
    board = bench.core.broker.board
    refused = Governor(bench.store, bench.clock).admit(order_of("another"), LIMITS)
    return refused is not None, board.answer("http-01", "token"), board.answer("tls-alpn-01", "www.example.com")


@pytest.mark.parametrize("end", [do_nothing, cancel, pass_deadline])
def test_an_issuer_that_was_disabled_meanwhile_cleans_up(bench: Bench, end: Callable[[Bench], None]) -> None:
    made = bench.ask(wait(60))
    bench.turn()
    disable(bench)
    end(bench)
    bench.clock.forward(timedelta(minutes=1))
    bench.turn()

    assert states.is_finished(bench.now(made).state)
    assert [made.id] == [operation for operation, _ in bench.kind.abandoned]
    assert 1 == len(bench.kind.requests)


def test_a_disabled_issuer_cleans_up_before_another_has_its_turn(bench: Bench) -> None:
    made = bench.ask(wait(60), bench.issue, standby_issuers=("other",))
    bench.turn()
    disable(bench)
    bench.clock.forward(timedelta(minutes=1))
    bench.turn()
    cleaned = [operation for operation, _ in bench.kind.abandoned]
    bench.turn()

    assert [made.id] == cleaned
    assert ("other", True) == (bench.now(made).issuer, isinstance(bench.now(made).state, states.Completed))


def test_an_issuer_that_refuses_cleans_up(bench: Bench) -> None:
    made = bench.ask(lambda request, journal: RequestRefused(Problem("No", "Not for you.")))
    bench.turn()

    assert isinstance(bench.now(made).state, states.Failed)
    assert [made.id] == [operation for operation, _ in bench.kind.abandoned]


@pytest.mark.parametrize("spoil", [delete, break_settings])
@pytest.mark.parametrize("end", [do_nothing, cancel, pass_deadline])
def test_what_is_in_the_database_is_given_back_where_the_issuer_cannot_be_opened_any_more(
    bench: Bench, spoil: Callable[[Bench], None], end: Callable[[Bench], None]
) -> None:
    made = bench.ask(validating(bench))
    bench.turn()
    before = left_behind(bench)
    spoil(bench)
    end(bench)
    bench.clock.forward(timedelta(minutes=1))
    bench.turn()

    assert (True, "token.mine", "other.mine") == before
    assert states.is_finished(bench.now(made).state)
    assert (False, None, None) == left_behind(bench)


def test_what_is_in_the_database_is_given_back_before_another_issuer_has_its_turn(bench: Bench) -> None:
    made = bench.ask(validating(bench), bench.issue, standby_issuers=("other",))
    bench.turn()
    delete(bench)
    bench.clock.forward(timedelta(minutes=1))
    bench.turn()

    assert "other" == bench.now(made).issuer
    assert (False, None, None) == left_behind(bench)


def test_what_other_operations_have_put_up_stays(bench: Bench) -> None:
    bench.ask(validating(bench))
    bench.turn()
    far = bench.clock.now() + timedelta(days=7)
    bench.core.broker.board.put("http-01", "theirs", "theirs.thumbprint", far)
    delete(bench)
    bench.clock.forward(timedelta(minutes=1))
    bench.turn()

    assert "theirs.thumbprint" == bench.core.broker.board.answer("http-01", "theirs")
    assert (False, None, None) == left_behind(bench)


@pytest.mark.parametrize("end", [cancel, pass_deadline])
def test_an_issuer_that_fails_unexpectedly_while_cleaning_up_keeps_nothing_from_its_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, end: Callable[[Bench], None]
) -> None:
    made = bench.ask(validating(bench), wait(60))
    bench.turn()
    monkeypatch.setattr(bench.kind, "abandon", fail(RuntimeError("a bug")))
    end(bench)
    bench.clock.forward(timedelta(seconds=1))
    bench.turn()

    assert states.is_finished(bench.now(made).state)
    assert (False, None, None) == left_behind(bench)


def test_an_issuer_that_fails_unexpectedly_while_cleaning_up_gives_its_turn_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = lambda request, journal: RequestRefused(Problem("No", "Not for you."))  # noqa: E731
    made = bench.ask(refuse, bench.issue, standby_issuers=("other",))
    monkeypatch.setattr(bench.kind, "abandon", fail(RuntimeError("a bug")))
    bench.turn()
    bench.turn()

    assert ("other", True) == (bench.now(made).issuer, isinstance(bench.now(made).state, states.Completed))
