"""Who wants to know now whether a certificate is revoked is told what is said now, whatever the engine does beside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import ModuleType

import pytest

from certbroker.domain.revocation_sources import SourceKind
from certbroker.domain.revocation_status import Standing
from certbroker.services.revocation import sources, watching
from tests.support.watch_bench import WatchBench, revoked


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have something done when a failpoint of a module is reached, once for each thing that is given."""

    def arm(module: ModuleType, point: str, *things: Callable[[], object]) -> None:
        left = list(things)

        def reached(name: str) -> None:
            if name == point and left:
                left.pop(0)()

        monkeypatch.setattr(module, "failpoint", reached)

    return arm


def test_somebody_who_wants_to_know_now_waits_for_the_answer(watch: WatchBench) -> None:
    watch.publish()
    version = watch.issue()
    watch.publish(revoked(version))
    view = watch.watching.check_now(watch.bench.caller, watch.bench.vault, "c")

    assert view.watched is not None
    assert Standing.REVOKED is view.watched.verdict.standing
    assert [SourceKind.CRL] == [each.kind for each in view.sources]


def test_who_wants_to_know_now_is_not_told_what_news_have_overtaken(
    watch: WatchBench, beside: Callable[..., None]
) -> None:
    """The engine goes through all whom the new list concerns while the one who waits is judged by it."""
    watch.publish()
    version = watch.issue()
    watch.publish(revoked(version))
    beside(watching, "watch.check.before", lambda: None, watch.watching.go_through)
    view = watch.watching.check_now(watch.bench.caller, watch.bench.vault, "c")

    assert view.watched is not None
    assert Standing.REVOKED is view.watched.verdict.standing
    assert ["Revoked"] == watch.audited()


def test_news_without_end_do_not_keep_somebody_waiting_for_ever(watch: WatchBench, beside: Callable[..., None]) -> None:
    watch.publish()
    watch.issue()

    def disturb() -> None:
        now = watch.clock.now()
        watch.store.write(lambda transaction: transaction.watches.disturb(watch.bench.vault.id, "c", now))

    beside(watching, "watch.check.before", *[disturb] * 1000)
    view = watch.watching.check_now(watch.bench.caller, watch.bench.vault, "c")

    assert view.watched is not None
    assert Standing.GOOD is view.watched.verdict.standing


def test_who_asks_a_source_that_somebody_else_is_asking_does_not_wait_for_him(
    watch: WatchBench, beside: Callable[..., None]
) -> None:
    watch.publish()
    version = watch.issue()
    watch.publish(revoked(version))
    until, source_id = watch.clock.now() + timedelta(minutes=5), watch.source().id

    def take() -> None:
        watch.store.write(lambda transaction: transaction.sources.take(source_id, until))

    beside(sources, "watch.fetch.before", take)
    view = watch.watching.check_now(watch.bench.caller, watch.bench.vault, "c")

    assert view.watched is not None
    assert Standing.REVOKED is view.watched.verdict.standing


def test_an_answer_that_somebody_has_asked_for_before_is_not_taken_for_news(
    watch: WatchBench, beside: Callable[..., None]
) -> None:
    """He stores it first; whoever has begun later asks again instead of believing it."""
    watch.publish()
    version = watch.issue()
    until, source_id = watch.clock.now() + timedelta(minutes=5), watch.source().id
    taken = watch.store.write(lambda transaction: transaction.sources.take(source_id, until))
    assert taken is not None

    def answered() -> None:
        assert watch.watching.sources.fetch(taken)
        watch.publish(revoked(version))

    beside(sources, "watch.fetch.before", answered)
    view = watch.watching.check_now(watch.bench.caller, watch.bench.vault, "c")

    assert view.watched is not None
    assert Standing.REVOKED is view.watched.verdict.standing
    assert ["Revoked"] == watch.audited()
