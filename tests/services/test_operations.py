"""The engine's work on operations, with issuers that do as they like."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certbroker.app import Core
from certbroker.domain import operation as states
from certbroker.domain.audit import Caller
from certbroker.domain.errors import Forbidden
from certbroker.domain.objects import Kind, Vault
from certbroker.domain.operation import Problem
from certbroker.domain.policy import SubjectAlternativeNames
from certbroker.ports.issuer import (
    CertificateIssued,
    IssuanceRequest,
    IssuerUnavailable,
    Journal,
    Reply,
    RequestRefused,
)
from certbroker.services.issuance.journal import LEASE
from certbroker.store.transaction import SQLTransaction
from tests.support.certificates import Authority, der
from tests.support.issuer_bench import Bench, fail, wait


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    return Bench(core, caller, vault)


def test_a_certificate_is_stored_with_its_key_once_it_is_issued(bench: Bench) -> None:
    made = bench.ask(wait(10), bench.issue)
    bench.turn()

    waiting = bench.now(made).state
    assert isinstance(waiting, states.AwaitingIssuer)
    assert (bench.clock.now() + timedelta(seconds=10), "The issuer is thinking.") == (waiting.act_at, waiting.detail)
    bench.turn()
    assert 1 == len(bench.kind.requests)
    bench.clock.forward(timedelta(seconds=10))
    bench.turn()
    done = bench.now(made)
    assert isinstance(done.state, states.Completed)
    assert done.sealed_key is None
    assert bench.kind.requests[0].csr == bench.kind.requests[1].csr == done.state.csr
    stored = bench.store.glance().objects.get(bench.vault.id, Kind.CERTIFICATE, "c")
    assert stored is not None
    assert stored.certificate is not None
    assert (made.version, 2) == (stored.version, len(stored.certificate.chain))


def test_an_unforeseen_error_does_not_cost_the_key(bench: Bench) -> None:
    """The issuer may know the key by then: with another one there would be a second certificate."""
    made = bench.ask(fail(RuntimeError("a bug")), bench.issue)
    bench.turn()

    after = bench.now(made)
    assert isinstance(after.state, states.AwaitingIssuer)
    assert after.sealed_key is not None
    assert after.state.problem is not None
    assert "InternalError" == after.state.problem.code
    assert "a bug" not in after.state.problem.message
    bench.clock.forward(states.FIRST_RETRY)
    bench.turn()
    assert isinstance(bench.now(made).state, states.Completed)
    assert bench.kind.requests[0].csr == bench.kind.requests[1].csr


def test_an_operation_that_cannot_even_be_put_off_is_taken_up_again_when_its_lease_has_run_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench.ask(bench.issue)
    (claimed,) = bench.operations.claim(bench.operations.due(10))
    with monkeypatch.context() as patched:
        bench.kind.steps.insert(0, lambda request, journal: _lose_database(patched, bench))
        settlement = bench.operations.steps.take(claimed)
    bench.operations.settle([settlement])
    before = bench.operations.due(10)
    bench.clock.forward(LEASE)
    bench.turn()

    assert [] == before
    assert isinstance(bench.now(made).state, states.Completed)
    assert bench.kind.requests[0].csr == bench.kind.requests[1].csr


def _lose_database(patched: pytest.MonkeyPatch, bench: Bench) -> Reply:
    """Let nothing be read from now on."""

    def glance() -> SQLTransaction:
        raise sqlite3.OperationalError("disk I/O error")

    patched.setattr(bench.store, "glance", glance)
    raise sqlite3.OperationalError("disk I/O error")


def test_an_issuer_that_is_away_is_asked_again_later_and_later(bench: Bench) -> None:
    away = IssuerUnavailable(Problem("Away", "Nobody there."))
    made = bench.ask(*[fail(away)] * 4)
    waits = []
    for _ in range(4):
        bench.turn()
        state = bench.now(made).state
        assert isinstance(state, states.AwaitingIssuer)
        waits.append((state.act_at - bench.clock.now()).total_seconds())
        bench.clock.moment = state.act_at

    assert [5, 10, 20, 40] == waits


def test_an_issuer_that_names_a_time_is_asked_then(bench: Bench) -> None:
    later = bench.clock.now() + timedelta(hours=5)
    made = bench.ask(fail(IssuerUnavailable(Problem("Limited", "Too many."), later)))
    bench.turn()

    assert later == states.act_at(bench.now(made).state)


@pytest.mark.parametrize("what", ["refusal", "garbage", "nothing", "stranger", "expired", "names"])
def test_what_cannot_be_used_ends_the_operation_and_stores_nothing(bench: Bench, what: str) -> None:
    def answer(request: IssuanceRequest, journal: Journal) -> Reply:
        leaf = bench.authority.answer(request.csr)
        return {
            "refusal": lambda: RequestRefused(Problem("No", "Not for you.")),
            "garbage": lambda: CertificateIssued((b"garbage",)),
            "nothing": lambda: CertificateIssued(()),
            "stranger": lambda: CertificateIssued((der(bench.authority.certificate),)),
            "expired": lambda: CertificateIssued((der(bench.authority.answer(request.csr, -timedelta(days=1))),)),
            "names": lambda: CertificateIssued((der(_without_names(bench.authority, leaf)),)),
        }[what]()

    made = bench.ask(answer, sans=SubjectAlternativeNames(dns_names=("www.example.com",)))
    bench.turn()

    ended = bench.now(made)
    assert isinstance(ended.state, states.Failed)
    assert ended.sealed_key is None
    assert ("No" if what == "refusal" else "IssuedCertificateInvalid") == ended.state.problem.code
    assert bench.store.glance().objects.get(bench.vault.id, Kind.CERTIFICATE, "c") is None
    bench.clock.forward(timedelta(days=30))
    assert [] == bench.operations.due(10)


def _without_names(authority: Authority, leaf: Any) -> Any:
    """A certificate for the same key, for other names."""

    class Key:
        def public_key(self) -> Any:
            return leaf.public_key()

    return authority.issue("other.example.com", key=Key()).certificate  # type: ignore[arg-type]


def test_the_deadline_ends_what_takes_too_long(bench: Bench) -> None:
    made = bench.ask(wait(60), wait(60))
    bench.turn()
    bench.clock.forward(states.DEADLINE)
    bench.turn()

    ended = bench.now(made)
    assert isinstance(ended.state, states.Failed)
    assert "DeadlinePassed" == ended.state.problem.code
    assert 2 == len(bench.kind.requests)
    bench.clock.forward(timedelta(days=30))
    assert [] == bench.operations.due(10)


def test_what_is_ready_when_the_broker_comes_back_after_the_deadline_is_kept(bench: Bench) -> None:
    made = bench.ask(wait(60), bench.issue)
    bench.turn()
    bench.clock.forward(states.DEADLINE * 2)
    bench.turn()

    assert isinstance(bench.now(made).state, states.Completed)


def test_a_cancelled_operation_is_not_asked_for_any_more(bench: Bench) -> None:
    made = bench.ask(wait(3600))
    bench.turn()
    certificates = bench.core.broker.certificates
    assert certificates.cancel(bench.caller, bench.vault, "c").cancellation_requested
    bench.clock.moment = datetime.now(UTC)
    bench.turn()

    assert isinstance(bench.now(made).state, states.Cancelled)
    assert 1 == len(bench.kind.requests)
    with pytest.raises(Forbidden):
        certificates.cancel(bench.caller, bench.vault, "c")


def test_a_cancellation_is_not_put_off_by_the_step_in_hand(bench: Bench) -> None:
    def cancelled(request: IssuanceRequest, journal: Journal) -> Reply:
        bench.certificates.cancel(bench.caller, bench.vault, "c")
        raise IssuerUnavailable(Problem("Limited", "Too many."), bench.clock.now() + timedelta(hours=20))

    made = bench.ask(cancelled)
    bench.turn()
    bench.turn()

    assert isinstance(bench.now(made).state, states.Cancelled)
    assert 1 == len(bench.kind.requests)


def test_nobody_cleans_up_after_a_cancelled_operation_while_the_step_in_hand_still_acts(bench: Bench) -> None:
    """Otherwise an answer to a challenge could be withdrawn and then be published, for good."""

    def publishing(request: IssuanceRequest, journal: Journal) -> Reply:
        bench.certificates.cancel(bench.caller, bench.vault, "c")
        bench.turn()
        assert [] == bench.kind.abandoned
        journal.intend("challenge", answers="[]")
        return wait(3600)(request, journal)

    made = bench.ask(publishing)
    bench.turn()
    waiting = bench.now(made).state
    bench.turn()

    assert isinstance(waiting, states.AwaitingIssuer)
    assert "The issuer is thinking." == waiting.detail
    assert isinstance(bench.now(made).state, states.Cancelled)
    assert [made.id] == [operation for operation, _ in bench.kind.abandoned]


def test_a_worker_whose_lease_has_run_out_changes_nothing(bench: Bench) -> None:
    """It comes back from the issuer when another worker has finished already."""
    other = bench.worker("two")

    def overtaken(request: IssuanceRequest, journal: Journal) -> Reply:
        bench.clock.forward(LEASE * 2)
        for operation in other.claim(other.due(10)):
            other.work(operation)
        return bench.issue(request, journal)

    made = bench.ask(overtaken, bench.issue)
    bench.turn()

    assert isinstance(bench.now(made).state, states.Completed)
    assert bench.kind.requests[0].csr == bench.kind.requests[1].csr
    assert 1 == len(bench.store.glance().objects.all_versions(bench.vault.id, Kind.CERTIFICATE, "c"))


def forget(bench: Bench) -> None:
    bench.core.broker.certificates.forget_operation(bench.caller, bench.vault, "c")


def delete(bench: Bench) -> None:
    bench.core.broker.deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "c")


def delete_and_purge(bench: Bench) -> None:
    delete(bench)
    bench.core.broker.deletions.purge(bench.caller, bench.vault, Kind.CERTIFICATE, "c")


@pytest.mark.parametrize("remove", [forget, delete, delete_and_purge])
def test_the_issuer_cleans_up_after_an_operation_that_was_deleted(
    bench: Bench, remove: Callable[[Bench], None]
) -> None:
    made = bench.ask(wait(3600))
    bench.turn()
    waiting = bench.now(made).state
    assert isinstance(waiting, states.AwaitingIssuer)

    remove(bench)

    assert bench.store.glance().operations.pending(bench.vault.id, "c") is None
    bench.clock.moment = datetime.now(UTC)
    bench.turn()
    ended = bench.now(made)
    assert [(made.id, waiting.csr)] == bench.kind.abandoned
    assert isinstance(ended.state, states.Cancelled)
    assert ended.sealed_key is None
    assert [] == bench.operations.due(10)


def test_a_new_operation_may_begin_before_the_deleted_one_is_cleaned_up(bench: Bench) -> None:
    made = bench.ask(wait(3600))
    bench.turn()
    forget(bench)
    again = bench.ask(bench.issue)
    bench.clock.moment = datetime.now(UTC)
    bench.turn()

    assert [made.id] == [operation for operation, _ in bench.kind.abandoned]
    assert isinstance(bench.now(again).state, states.Completed)
    shown = bench.store.glance().operations.pending(bench.vault.id, "c")
    assert shown is not None
    assert again.id == shown.id


def test_an_operation_that_no_issuer_has_is_gone_when_it_is_deleted(bench: Bench) -> None:
    made = bench.ask(bench.issue)

    forget(bench)

    assert bench.store.glance().operations.get(made.id) is None


def test_a_deleted_certificate_does_not_come_back_with_its_issuance(bench: Bench) -> None:
    """The worker that is asking then stores nothing, and its lease ends before somebody cleans up."""

    def deleted(request: IssuanceRequest, journal: Journal) -> Reply:
        delete(bench)
        bench.turn()
        assert [] == bench.kind.abandoned
        return bench.issue(request, journal)

    made = bench.ask(deleted)
    bench.turn()
    assert isinstance(bench.now(made).state, states.AwaitingIssuer)
    bench.clock.moment = datetime.now(UTC) + LEASE
    bench.turn()

    assert isinstance(bench.now(made).state, states.Cancelled)
    assert [made.id] == [operation for operation, _ in bench.kind.abandoned]
    assert [] == bench.store.glance().objects.all_versions(bench.vault.id, Kind.CERTIFICATE, "c")
    assert bench.store.glance().lifecycles.get(bench.vault.id, "c") is None


def test_what_was_given_back_while_its_lease_was_about_to_be_extended_is_due_when_it_should_be(bench: Bench) -> None:
    made = bench.ask(wait(1), bench.issue)
    claimed = bench.operations.claim(bench.operations.due(10))
    for operation in claimed:
        bench.operations.work(operation)
    bench.operations.extend(claimed)
    bench.clock.forward(timedelta(seconds=1))
    bench.turn()

    assert isinstance(bench.now(made).state, states.Completed)


def test_one_operation_is_claimed_by_one_worker(bench: Bench) -> None:
    bench.ask()
    due = bench.operations.due(10)

    assert 1 == len(bench.operations.claim(due))
    assert [] == bench.worker("two").claim(due)
    assert [] == bench.operations.due(10)
    bench.clock.forward(LEASE)
    assert 1 == len(bench.operations.due(10))


def test_a_broken_issuer_delays_nobody_else(bench: Bench) -> None:
    made = [bench.ask(fail(RuntimeError("a bug")), name="a"), bench.ask(bench.issue, name="b")]
    bench.turn()

    assert [states.AwaitingIssuer, states.Completed] == [type(bench.now(each).state) for each in made]
