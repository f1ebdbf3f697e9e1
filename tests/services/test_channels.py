"""Channels: made, changed, disabled, deleted, and the contacts as one of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certbroker.domain.channels import MOST_CHANNELS, Outcome
from certbroker.domain.errors import Conflict, Invalid, NotFound
from certbroker.domain.events import EventType
from certbroker.domain.records import Contact
from certbroker.notify.mail import MailKind
from certbroker.ports.notifier import (
    NotDelivered,
    NotifierSettings,
)
from certbroker.services.notification.channels import ChannelChanges
from certbroker.services.notification.contacts import Contacts
from tests.support.delivery_bench import DeliveryBench, raising


def test_a_deleted_channel_takes_what_waits_along(bench: DeliveryBench) -> None:
    bench.channel()
    event = bench.event()
    bench.notifier.steps = [lambda told: str(bench.channels.delete(bench.caller, bench.vault, "ops").waiting)]
    bench.publish(event)
    bench.turn()
    bench.channel()

    assert 0 == bench.turn()
    with pytest.raises(NotFound):
        bench.delivery(event)


def test_a_disabled_channel_gets_nothing_new_and_what_waits_waits(bench: DeliveryBench) -> None:
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


def test_a_test_goes_first_and_does_not_wait_for_the_end_of_a_pause(bench: DeliveryBench) -> None:
    bench.channel(events=("CertificateExpired",))
    expired = bench.event("", EventType.CERTIFICATE_EXPIRED)
    bench.publish(expired)
    bench.notifier.steps = [raising(NotDelivered("Busy.", timedelta(hours=5)))]
    bench.turn()
    test = bench.channels.test(bench.caller, bench.vault, "OPS")
    bench.turn()

    assert [EventType.CHANNEL_TEST] == [each.event.type for each in bench.notifier.told]
    assert Outcome.DELIVERED is bench.channels.delivery(bench.vault, "ops", test.event.id).outcome


def test_the_contacts_are_a_channel_while_mail_is_configured(bench: DeliveryBench) -> None:
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
def test_no_contact_that_cannot_be_mailed_keeps_the_others_from_being_told(
    bench: DeliveryBench, emails: list[str]
) -> None:
    with pytest.raises(Invalid, match="not an e-mail address"):
        Contacts(bench.store, bench.clock, mail=True).set(bench.caller, bench.vault, tuple(map(Contact, emails)))


def test_as_many_contacts_are_kept_as_one_mail_goes_to(bench: DeliveryBench) -> None:
    contacts = Contacts(bench.store, bench.clock, mail=True)
    most = tuple(Contact(f"{number}@example.com") for number in range(50))
    kind = MailKind(None)

    assert most == contacts.set(bench.caller, bench.vault, most)
    kind.check(NotifierSettings("contacts", {"to": ", ".join(contact.email for contact in most)}))
    with pytest.raises(Invalid, match="distribution list"):
        contacts.set(bench.caller, bench.vault, (*most, Contact("a@example.com")))


def test_the_secrets_of_a_channel_are_sealed_and_survive_a_rotation(bench: DeliveryBench) -> None:
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
def test_a_channel_that_cannot_work_is_refused_by_name(
    bench: DeliveryBench, changes: dict[str, object], named: str
) -> None:
    with pytest.raises(Invalid) as refused:
        bench.channel(**changes)

    assert named in refused.value.message


def test_types_of_events_may_be_named_without_what_is_before_the_dot(bench: DeliveryBench) -> None:
    bench.channel(events=("certificateexpired", "Microsoft.KeyVault.SecretExpired"))
    bench.channel("people", kind="scripted")

    assert ("Microsoft.KeyVault.CertificateExpired", "Microsoft.KeyVault.SecretExpired") == bench.channels.get(
        bench.vault, "ops"
    ).channel.events
    assert ("*",) == bench.channels.get(bench.vault, "people").channel.events


def test_a_vault_has_so_many_channels_at_most(bench: DeliveryBench) -> None:
    for number in range(MOST_CHANNELS):
        bench.channel(f"c{number}")
    bench.channel("c0")

    with pytest.raises(Conflict):
        bench.channel("another")
