"""The engine's work on channels, with notifiers that do as they like, and a clock that is moved by hand."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from certbroker.domain.channels import LONGEST_PAUSE, Outcome
from certbroker.domain.errors import NotFound
from certbroker.domain.events import EventType
from certbroker.domain.objects import Changes, Kind
from certbroker.engine.notify import NotifySweep
from certbroker.ports.notifier import (
    NotDelivered,
    Notification,
    Undeliverable,
)
from certbroker.services.housekeeping import Housekeeping
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.notification.channels import ChannelChanges
from certbroker.services.notification.deliveries import LEASE
from certbroker.store import outbox
from certbroker.store.outbox import PATIENCE
from tests.support.delivery_bench import AWAY, DeliveryBench, raising


def test_an_event_is_delivered_once_with_the_urls_of_its_object(bench: DeliveryBench) -> None:
    bench.channel(secrets={"token": "t0ken"}, settings={"colour": "red"})
    version = bench.core.broker.secrets.set(bench.caller, bench.vault, "s", "value", Changes())
    bench.clock.forward(timedelta(minutes=1))
    bench.turn()

    (told,) = bench.notifier.told
    assert (EventType.SECRET_NEW_VERSION, "vault") == (told.event.type, told.vault)
    assert f"https://vault.vault.example/secrets/s/{version.version}" == told.object_url
    assert [({"colour": "red"}, {"token": "t0ken"})] == [
        (each.settings, each.secrets) for each in bench.notifier.opened
    ]
    assert 0 == bench.turn()
    assert Outcome.DELIVERED is bench.delivery(told.event).outcome
    assert (True, "") == bench.health()


def test_events_are_told_in_the_order_in_which_they_happened(bench: DeliveryBench) -> None:
    bench.channel()
    for number in range(5):
        bench.publish(bench.event(str(number)))
        bench.clock.forward(timedelta(microseconds=1))
    bench.turn()

    assert ["0", "1", "2", "3", "4"] == [each.event.step for each in bench.notifier.told]


def test_a_target_that_is_away_is_tried_later_and_later_and_the_rest_waits_meanwhile(bench: DeliveryBench) -> None:
    bench.channel()
    first, second = bench.event("1"), bench.event("2")
    bench.publish(first, second)
    bench.notifier.steps = [raising(AWAY) for _ in range(12)]
    waits = []
    for _ in range(12):
        begun = bench.clock.now()
        while not bench.turn():
            bench.clock.forward(timedelta(seconds=1))
        waits.append((bench.clock.now() - begun).total_seconds())

    assert 0 == waits[0]
    assert 4 <= waits[1] <= 7
    assert max(waits) <= LONGEST_PAUSE.total_seconds() * 1.2 + 1
    assert waits[-1] > 200
    assert [] == bench.notifier.told
    assert (False, "It is away.") == bench.health()
    bench.clock.forward(2 * LONGEST_PAUSE)
    while bench.turn():
        bench.clock.forward(2 * LONGEST_PAUSE)
    assert {first.id, second.id} == {each.event.id for each in bench.notifier.told}
    assert (True, "") == bench.health()


def test_a_target_that_names_a_time_is_not_asked_before(bench: DeliveryBench) -> None:
    bench.channel()
    bench.notifier.steps = [raising(NotDelivered("Busy.", timedelta(hours=2)))]
    bench.publish(bench.event())
    bench.turn()
    bench.clock.forward(timedelta(minutes=119))

    assert 0 == bench.turn()
    bench.clock.forward(timedelta(minutes=2))
    assert 1 == bench.turn()
    assert 1 == len(bench.notifier.told)


def test_what_a_target_never_takes_does_not_hold_up_the_rest(bench: DeliveryBench) -> None:
    bench.channel()
    poison, good = bench.event("1"), bench.event("2")
    bench.notifier.steps = [raising(Undeliverable("410: gone."))]
    bench.publish(poison)
    bench.clock.forward(timedelta(microseconds=1))
    bench.publish(good)
    bench.turn()

    assert [good.id] == [each.event.id for each in bench.notifier.told]
    assert (Outcome.DEAD, 1, "410: gone.") == (
        bench.delivery(poison).outcome,
        bench.delivery(poison).attempts,
        bench.delivery(poison).problem,
    )


def test_a_bug_in_a_notifier_is_a_failure_like_another_and_its_text_stays_inside(bench: DeliveryBench) -> None:
    bench.channel()
    event = bench.event()
    bench.notifier.steps = [raising(RuntimeError("t0ken"))]
    bench.publish(event)
    bench.turn()

    delivery = bench.delivery(event)
    assert (None, 1) == (delivery.outcome, delivery.attempts)
    assert delivery.problem is not None
    assert "t0ken" not in delivery.problem
    bench.clock.forward(LONGEST_PAUSE)
    bench.turn()
    assert 1 == len(bench.notifier.told)


def test_what_cannot_be_delivered_for_three_days_is_dead_and_can_be_retried(bench: DeliveryBench) -> None:
    bench.channel()
    tried, untried = bench.event("1"), bench.event("2")
    bench.publish(tried, untried)
    bench.notifier.steps = [raising(AWAY)]
    bench.turn()
    bench.clock.forward(PATIENCE)
    bench.turn()

    assert [] == bench.notifier.told
    assert {Outcome.DEAD} == {bench.delivery(event).outcome for event in (tried, untried)}
    letters = bench.channels.dead_letters(bench.vault, "ops", "", 25).items
    assert {"It is away.", "It was never tried"} == {(letter.problem or "").partition(":")[0] for letter in letters}
    assert 1 == bench.channels.retry(bench.caller, bench.vault, "ops", tried.id)
    bench.turn()
    assert [tried.id] == [each.event.id for each in bench.notifier.told]
    assert 1 == bench.channels.retry(bench.caller, bench.vault, "ops", None)
    bench.turn()
    assert {tried.id, untried.id} == {each.event.id for each in bench.notifier.told}
    with pytest.raises(NotFound):
        bench.channels.retry(bench.caller, bench.vault, "ops", tried.id)


def test_a_warning_about_a_version_that_is_not_in_use_any_more_is_dropped(bench: DeliveryBench) -> None:
    bench.channel()
    secrets = bench.core.broker.secrets
    old = secrets.set(bench.caller, bench.vault, "c", "1", Changes()).version
    warning, fact = (
        bench.event("80%", EventType.SECRET_NEAR_EXPIRY, old),
        bench.event("", EventType.SECRET_NEW_VERSION, old),
    )
    bench.publish(warning)
    new = secrets.set(bench.caller, bench.vault, "c", "2", Changes()).version
    current = bench.event("80%", EventType.SECRET_NEAR_EXPIRY, new)
    bench.publish(current)
    bench.turn()

    assert {fact.id, current.id} < {each.event.id for each in bench.notifier.told}
    assert warning.id not in {each.event.id for each in bench.notifier.told}
    dropped = bench.delivery(warning)
    assert (Outcome.DROPPED, 0) == (dropped.outcome, dropped.attempts)
    assert dropped.problem is not None
    assert "Superseded" in dropped.problem
    bench.core.broker.deletions.delete(bench.caller, bench.vault, Kind.SECRET, "c")
    gone = bench.event("90%", EventType.SECRET_NEAR_EXPIRY, new)
    bench.publish(gone)
    bench.turn()
    assert Outcome.DROPPED is bench.delivery(gone).outcome


def test_a_target_is_asked_whether_it_wants_to_be_told_once_and_again_after_a_change(bench: DeliveryBench) -> None:
    bench.channel()
    bench.notifier.confirmations = [NotDelivered("It has not agreed.")]
    event = bench.event("1")
    bench.publish(event)
    bench.turn()

    assert [] == bench.notifier.told
    assert (1, "It has not agreed.") == (bench.delivery(event).attempts, bench.delivery(event).problem)
    bench.clock.forward(LONGEST_PAUSE)
    bench.turn()
    bench.publish(bench.event("2"))
    bench.turn()
    assert (2, 2) == (len(bench.notifier.told), bench.notifier.confirmed)
    bench.channels.update(bench.caller, bench.vault, "ops", ChannelChanges(events=("*",)))
    bench.publish(bench.event("3"))
    bench.turn()
    assert 2 == bench.notifier.confirmed
    bench.channel()
    bench.publish(bench.event("4"))
    bench.turn()
    assert (4, 3) == (len(bench.notifier.told), bench.notifier.confirmed)


def test_what_a_wrong_clock_put_off_is_told_when_the_clock_has_gone_back(bench: DeliveryBench) -> None:
    bench.channel()
    housekeeping = Housekeeping(bench.store, bench.clock)
    bench.clock.forward(timedelta(days=400))
    housekeeping.beat()
    bench.publish(bench.event("1"))
    bench.notifier.steps = [raising(AWAY)]
    bench.turn()
    bench.publish(bench.event("2"))
    assert 0 == len(bench.claim())
    bench.clock.forward(LONGEST_PAUSE)
    assert 1 == len(bench.claim())
    bench.clock.forward(-timedelta(days=400))
    assert 0 == bench.turn()
    housekeeping.beat()
    bench.clock.forward(LEASE)
    bench.turn()

    assert {"1", "2"} == {each.event.step for each in bench.notifier.told}


def test_however_many_targets_hang_those_that_work_are_told(bench: DeliveryBench) -> None:
    bench.channel("proven", events=("SecretExpired",))
    bench.channels.test(bench.caller, bench.vault, "proven")
    bench.turn()
    for number in range(40):
        bench.channel(f"hangs-{number}", kind="mail", events=("IssuerWarning",))
    freed, told = threading.Event(), threading.Event()

    def hang(notification: Notification) -> str:
        freed.wait(30)
        return ""

    def tell(notification: Notification) -> str:
        told.set()
        return ""

    bench.mailer.steps = [hang] * 40
    bench.publish(bench.event())
    bench.notifier.steps = [tell]
    sweep = NotifySweep(bench.deliveries, Inbox())
    try:
        for _ in range(4):
            sweep.sweep()
        bench.publish(bench.event("2", EventType.SECRET_EXPIRED))
        sweep.sweep()

        assert told.wait(20)
    finally:
        freed.set()
        sweep.stop()


def test_one_channel_is_claimed_by_one_worker(bench: DeliveryBench) -> None:
    bench.channel()
    bench.publish(bench.event())

    assert 1 == len(bench.claim())
    assert [] == bench.claim()
    bench.clock.forward(LEASE)
    assert 1 == len(bench.claim())


def test_a_worker_whose_channel_was_changed_meanwhile_writes_nothing(bench: DeliveryBench) -> None:
    bench.channel()
    event = bench.event()

    def changed(notification: Notification) -> str:
        bench.channel(settings={"new": "yes"})
        return ""

    bench.notifier.steps = [changed]
    bench.publish(event)
    bench.turn()

    assert bench.delivery(event).outcome is None
    assert bench.channels.get(bench.vault, "ops").channel.health.last_success is None
    bench.turn()
    assert Outcome.DELIVERED is bench.delivery(event).outcome
    assert [{}, {"new": "yes"}] == [each.settings for each in bench.notifier.opened]


def test_what_was_delivered_is_known_for_thirty_days_and_then_forgotten(bench: DeliveryBench) -> None:
    bench.channel()
    event = bench.event()
    bench.publish(event)
    bench.turn()
    bench.clock.forward(timedelta(days=29))
    assert 0 == bench.deliveries.prune()
    bench.publish(event)
    assert 0 == bench.turn()
    bench.clock.forward(timedelta(days=1, seconds=1))

    assert 1 == bench.deliveries.prune()
    with pytest.raises(NotFound):
        bench.delivery(event)


def test_dead_letters_are_kept_for_ninety_days(bench: DeliveryBench) -> None:
    bench.channel()
    bench.notifier.steps = [raising(Undeliverable("No."))]
    bench.publish(bench.event())
    bench.turn()
    bench.clock.forward(timedelta(days=89))
    assert 0 == bench.deliveries.prune()
    bench.clock.forward(timedelta(days=2))

    assert 1 == bench.deliveries.prune()


def test_more_than_so_much_neither_waits_nor_is_kept(bench: DeliveryBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_WAITING", 3)
    monkeypatch.setattr(outbox, "KEPT", {outcome: (timedelta(days=30), 2) for outcome in Outcome})
    bench.channel()
    events = []
    for number in range(5):
        events.append(bench.event(str(number)))
        bench.publish(events[-1])
        bench.clock.forward(timedelta(seconds=1))
    claimed = bench.claim()

    assert [Outcome.DEAD, Outcome.DEAD, None, None, None] == [bench.delivery(event).outcome for event in events]

    def slowly(told: Notification) -> str:
        bench.clock.forward(timedelta(seconds=1))
        return ""

    bench.notifier.steps = [slowly] * 3
    for channel in claimed:
        bench.deliveries.work(channel)
    assert ["2", "3", "4"] == [each.event.step for each in bench.notifier.told]
    bench.deliveries.prune()
    assert (0, 2) == (
        bench.channels.get(bench.vault, "ops").waiting,
        bench.channels.get(bench.vault, "ops").dead,
    )
