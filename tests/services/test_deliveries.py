"""The engine's work on channels, with notifiers that do as they like, and a clock that is moved by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.channels import LONGEST_PAUSE, MOST_CHANNELS, Channel, Lane, Outcome
from certbroker.domain.errors import Conflict, Invalid, NotFound
from certbroker.domain.events import Event, EventType, event_id
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.domain.records import Contact
from certbroker.engine.notify import NotifySweep
from certbroker.notify.mail import MailKind
from certbroker.ports.notifier import (
    NotDelivered,
    Notification,
    NotifierResources,
    NotifierSettings,
    Undeliverable,
)
from certbroker.services.channels import ChannelChanges, Channels
from certbroker.services.contacts import Contacts
from certbroker.services.deliveries import LEASE, Deliveries
from certbroker.services.housekeeping import Housekeeping
from certbroker.services.inbox import Inbox
from certbroker.services.outbox import publish
from certbroker.store import outbox
from certbroker.store.outbox import PATIENCE, Delivery
from tests.support.clock import SteppedClock

Step = Callable[[Notification], str]


class ScriptedNotifier:
    """Does the next of its steps each time; without any it delivers."""

    name = "scripted"
    for_people = False

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.told: list[Notification] = []
        self.opened: list[NotifierSettings] = []
        self.confirmations: list[Exception | None] = []
        self.confirmed = 0

    def check(self, settings: NotifierSettings) -> None:
        if "bad" in settings.settings:
            raise Invalid("settings.bad is bad.")

    def open(self, settings: NotifierSettings, resources: NotifierResources) -> ScriptedNotifier:
        self.check(settings)
        self.opened.append(settings)
        return self

    def confirm(self) -> None:
        self.confirmed += 1
        failure = self.confirmations.pop(0) if self.confirmations else None
        if failure is not None:
            raise failure

    def deliver(self, notification: Notification) -> str:
        note = self.steps.pop(0)(notification) if self.steps else ""
        self.told.append(notification)
        return note


def _raise(error: Exception) -> Step:
    def step(notification: Notification) -> str:
        raise error

    return step


_AWAY = NotDelivered("It is away.")


class Bench:
    """One vault, and an engine that is moved by hand."""

    def __init__(self, core: Core, caller: Caller, vault: Vault) -> None:
        self.core, self.caller, self.vault = core, caller, vault
        self.clock, self.notifier, self.mailer = SteppedClock(), ScriptedNotifier(), ScriptedNotifier()
        self.store = core.broker.store
        kinds = {"scripted": self.notifier, "mail": self.mailer}
        self.channels = Channels(self.store, core.seal, self.clock, kinds, Inbox())
        resources = NotifierResources(core.egress, self.clock, "login.example")
        self.deliveries = Deliveries(
            self.store, core.seal, kinds, resources, lambda name: f"https://{name}.vault.example"
        )

    def channel(self, name: str = "ops", **changes: object) -> None:
        wanted = {"kind": "scripted"} | changes
        self.channels.set(self.caller, self.vault, name, ChannelChanges(**wanted))  # type: ignore[arg-type]

    def event(self, step: str = "", type_: EventType = EventType.ISSUER_WARNING, version: str = "") -> Event:
        key = event_id(type_, self.vault.id, Kind.SECRET, "c", version, step)
        return Event(key, type_, self.vault.id, Kind.SECRET, "c", version, self.clock.now(), step=step)

    def publish(self, *events: Event) -> None:
        self.store.write(lambda transaction: publish(transaction, *events))

    def claim(self) -> list[Channel]:
        return self.deliveries.claim([due for lane in Lane for due in self.deliveries.due(lane, 10)])

    def turn(self) -> int:
        """One sweep; how many channels it had to work on."""
        claimed = self.claim()
        for channel in claimed:
            self.deliveries.work(channel)
        return len(claimed)

    def delivery(self, event: Event, name: str = "ops") -> Delivery:
        return self.channels.delivery(self.vault, name, event.id)

    def health(self, name: str = "ops") -> tuple[bool, str]:
        health = self.channels.get(self.vault, name).channel.health
        return health.failing_since is None, health.reason


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    return Bench(core, caller, vault)


def test_an_event_is_delivered_once_with_the_urls_of_its_object(bench: Bench) -> None:
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


def test_events_are_told_in_the_order_in_which_they_happened(bench: Bench) -> None:
    bench.channel()
    for number in range(5):
        bench.publish(bench.event(str(number)))
        bench.clock.forward(timedelta(microseconds=1))
    bench.turn()

    assert ["0", "1", "2", "3", "4"] == [each.event.step for each in bench.notifier.told]


def test_a_target_that_is_away_is_tried_later_and_later_and_the_rest_waits_meanwhile(bench: Bench) -> None:
    bench.channel()
    first, second = bench.event("1"), bench.event("2")
    bench.publish(first, second)
    bench.notifier.steps = [_raise(_AWAY) for _ in range(12)]
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


def test_a_target_that_names_a_time_is_not_asked_before(bench: Bench) -> None:
    bench.channel()
    bench.notifier.steps = [_raise(NotDelivered("Busy.", timedelta(hours=2)))]
    bench.publish(bench.event())
    bench.turn()
    bench.clock.forward(timedelta(minutes=119))

    assert 0 == bench.turn()
    bench.clock.forward(timedelta(minutes=2))
    assert 1 == bench.turn()
    assert 1 == len(bench.notifier.told)


def test_what_a_target_never_takes_does_not_hold_up_the_rest(bench: Bench) -> None:
    bench.channel()
    poison, good = bench.event("1"), bench.event("2")
    bench.notifier.steps = [_raise(Undeliverable("410: gone."))]
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


def test_a_bug_in_a_notifier_is_a_failure_like_another_and_its_text_stays_inside(bench: Bench) -> None:
    bench.channel()
    event = bench.event()
    bench.notifier.steps = [_raise(RuntimeError("t0ken"))]
    bench.publish(event)
    bench.turn()

    delivery = bench.delivery(event)
    assert (None, 1) == (delivery.outcome, delivery.attempts)
    assert delivery.problem is not None
    assert "t0ken" not in delivery.problem
    bench.clock.forward(LONGEST_PAUSE)
    bench.turn()
    assert 1 == len(bench.notifier.told)


def test_what_cannot_be_delivered_for_three_days_is_dead_and_can_be_retried(bench: Bench) -> None:
    bench.channel()
    tried, untried = bench.event("1"), bench.event("2")
    bench.publish(tried, untried)
    bench.notifier.steps = [_raise(_AWAY)]
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


def test_a_warning_about_a_version_that_is_not_in_use_any_more_is_dropped(bench: Bench) -> None:
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


def test_a_target_is_asked_whether_it_wants_to_be_told_once_and_again_after_a_change(bench: Bench) -> None:
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


def test_what_a_wrong_clock_put_off_is_told_when_the_clock_has_gone_back(bench: Bench) -> None:
    bench.channel()
    housekeeping = Housekeeping(bench.store, bench.clock)
    bench.clock.forward(timedelta(days=400))
    housekeeping.beat()
    bench.publish(bench.event("1"))
    bench.notifier.steps = [_raise(_AWAY)]
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


def test_however_many_targets_hang_those_that_work_are_told(bench: Bench) -> None:
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


def test_one_channel_is_claimed_by_one_worker(bench: Bench) -> None:
    bench.channel()
    bench.publish(bench.event())

    assert 1 == len(bench.claim())
    assert [] == bench.claim()
    bench.clock.forward(LEASE)
    assert 1 == len(bench.claim())


def test_a_worker_whose_channel_was_changed_meanwhile_writes_nothing(bench: Bench) -> None:
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


def test_a_deleted_channel_takes_what_waits_along(bench: Bench) -> None:
    bench.channel()
    event = bench.event()
    bench.notifier.steps = [lambda told: str(bench.channels.delete(bench.caller, bench.vault, "ops").waiting)]
    bench.publish(event)
    bench.turn()
    bench.channel()

    assert 0 == bench.turn()
    with pytest.raises(NotFound):
        bench.delivery(event)


def test_a_disabled_channel_gets_nothing_new_and_what_waits_waits(bench: Bench) -> None:
    bench.channel()
    before, meanwhile = bench.event("1"), bench.event("2")
    bench.publish(before)
    bench.channels.update(bench.caller, bench.vault, "ops", ChannelChanges(enabled=False))
    bench.publish(meanwhile)
    assert 0 == bench.turn()
    with pytest.raises(Conflict):
        bench.channels.test(bench.caller, bench.vault, "ops")
    bench.channels.update(bench.caller, bench.vault, "ops", ChannelChanges(enabled=True))
    bench.turn()

    assert [before.id] == [each.event.id for each in bench.notifier.told]


def test_a_test_goes_first_and_does_not_wait_for_the_end_of_a_pause(bench: Bench) -> None:
    bench.channel(events=("CertificateExpired",))
    expired = bench.event("", EventType.CERTIFICATE_EXPIRED)
    bench.publish(expired)
    bench.notifier.steps = [_raise(NotDelivered("Busy.", timedelta(hours=5)))]
    bench.turn()
    test = bench.channels.test(bench.caller, bench.vault, "OPS")
    bench.turn()

    assert [EventType.CHANNEL_TEST] == [each.event.type for each in bench.notifier.told]
    assert Outcome.DELIVERED is bench.channels.delivery(bench.vault, "ops", test.event.id).outcome


def test_the_contacts_are_a_channel_while_mail_is_configured(bench: Bench) -> None:
    people = (Contact("a@example.com"), Contact("b@example.com", "B"))
    without = Contacts(bench.store, bench.clock, mail=False)
    without.set(bench.caller, bench.vault, people)
    expired = bench.event("1", EventType.CERTIFICATE_EXPIRED)
    bench.publish(expired)
    assert 0 == bench.turn()
    contacts = Contacts(bench.store, bench.clock, mail=True)
    contacts.sync()
    later = bench.event("2", EventType.CERTIFICATE_EXPIRED)
    bench.publish(later, bench.event("3", EventType.CERTIFICATE_NEW_VERSION))
    bench.turn()

    assert [later.id] == [each.event.id for each in bench.mailer.told]
    assert [{"to": "a@example.com, b@example.com"}] == [each.settings for each in bench.mailer.opened]
    for forbidden in (bench.channel, lambda name: bench.channels.delete(bench.caller, bench.vault, name)):
        with pytest.raises(Invalid, match="contacts"):
            forbidden("Contacts")
    contacts.delete(bench.caller, bench.vault)
    bench.publish(bench.event("4", EventType.CERTIFICATE_EXPIRED))
    assert 0 == bench.turn()
    with pytest.raises(NotFound):
        bench.channels.get(bench.vault, "contacts")


@pytest.mark.parametrize("emails", [["a@example.com", wrong] for wrong in ("a..b@example.com", "@b", ".a@b", "a@-b")])
def test_no_contact_that_cannot_be_mailed_keeps_the_others_from_being_told(bench: Bench, emails: list[str]) -> None:
    with pytest.raises(Invalid, match="not an e-mail address"):
        Contacts(bench.store, bench.clock, mail=True).set(bench.caller, bench.vault, tuple(map(Contact, emails)))


def test_as_many_contacts_are_kept_as_one_mail_goes_to(bench: Bench) -> None:
    contacts = Contacts(bench.store, bench.clock, mail=True)
    most = tuple(Contact(f"{number}@example.com") for number in range(50))
    kind = MailKind(None)

    assert most == contacts.set(bench.caller, bench.vault, most)
    kind.check(NotifierSettings("contacts", {"to": ", ".join(contact.email for contact in most)}))
    with pytest.raises(Invalid, match="distribution list"):
        contacts.set(bench.caller, bench.vault, (*most, Contact("a@example.com")))


def test_the_secrets_of_a_channel_are_sealed_and_survive_a_rotation(bench: Bench) -> None:
    bench.channel(secrets={"token": "t0ken"})
    bench.core.broker.rotation.rotate(bench.caller)
    bench.core.broker.rotation.resume()
    bench.publish(bench.event())
    bench.turn()

    assert [{"token": "t0ken"}] == [each.secrets for each in bench.notifier.opened]
    bench.core.close()
    stored = b"".join(path.read_bytes() for path in bench.core.configuration.data.directory.glob("certbroker.db*"))
    assert b"t0ken" not in stored


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kind": None}, "kind is missing"),
        ({"kind": "pigeon"}, "mail, scripted"),
        ({"settings": {"bad": "x"}}, "settings.bad"),
        ({"events": ()}, "events is empty"),
        ({"events": ("Birthday",)}, "'Birthday'"),
        ({"settings": {str(number): "x" for number in range(21)}}, "more than 20"),
        ({"secrets": {"x": "y" * 5000}}, "secrets.x"),
    ],
)
def test_a_channel_that_cannot_work_is_refused_by_name(bench: Bench, changes: dict[str, object], named: str) -> None:
    with pytest.raises(Invalid) as refused:
        bench.channel(**changes)

    assert named in refused.value.message


def test_types_of_events_may_be_named_without_what_is_before_the_dot(bench: Bench) -> None:
    bench.channel(events=("certificateexpired", "Microsoft.KeyVault.SecretExpired"))
    bench.channel("people", kind="scripted")

    assert ("Microsoft.KeyVault.CertificateExpired", "Microsoft.KeyVault.SecretExpired") == bench.channels.get(
        bench.vault, "ops"
    ).channel.events
    assert ("*",) == bench.channels.get(bench.vault, "people").channel.events


def test_a_vault_has_so_many_channels_at_most(bench: Bench) -> None:
    for number in range(MOST_CHANNELS):
        bench.channel(f"c{number}")
    bench.channel("c0")

    with pytest.raises(Conflict):
        bench.channel("another")


def test_what_was_delivered_is_known_for_thirty_days_and_then_forgotten(bench: Bench) -> None:
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


def test_dead_letters_are_kept_for_ninety_days(bench: Bench) -> None:
    bench.channel()
    bench.notifier.steps = [_raise(Undeliverable("No."))]
    bench.publish(bench.event())
    bench.turn()
    bench.clock.forward(timedelta(days=89))
    assert 0 == bench.deliveries.prune()
    bench.clock.forward(timedelta(days=2))

    assert 1 == bench.deliveries.prune()


def test_more_than_so_much_neither_waits_nor_is_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
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
