"""Webhooks: both schemas, both handshakes, signatures, and what an answer means."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cloudevents.core.formats.json import JSONFormat

from certbroker.domain.errors import Invalid
from certbroker.domain.events import EventType
from certbroker.notify import webhook
from certbroker.notify.webhook import WebhookKind
from certbroker.ports.notifier import (
    Confirms,
    NotDelivered,
    Notification,
    Notifier,
    NotifierResources,
    NotifierSettings,
    Undeliverable,
)
from tests.support.receiver import Answer, Receiver

Tell = Callable[..., Notification]
Resources = Callable[..., NotifierResources]
_KEY = b"0123456789abcdef0123456789abcdef"
_TEXT_KEY = f"whsec_{base64.b64encode(_KEY).decode()}"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path) as receiver:
        yield receiver


@pytest.fixture
def hook(receiver: Receiver, resources: Resources) -> Callable[..., Notifier]:
    """A notifier for the receiver, with these further settings and secrets."""

    def hook(secrets: dict[str, str] | None = None, **settings: str) -> Notifier:
        given = NotifierSettings("ops", {"url": receiver.url} | settings, secrets or {})
        WebhookKind().check(given)
        return WebhookKind().open(given, resources(receiver.trust))

    return hook


def test_a_cloud_event_is_what_the_specification_says(
    receiver: Receiver, hook: Callable[..., Notifier], tell: Tell
) -> None:
    notification = tell(message="Soon.", details={"Reason": "none"})
    hook().deliver(notification)

    (posted,) = receiver.requests
    assert "application/cloudevents+json; charset=utf-8" == posted.headers["content-type"]
    event = JSONFormat().read(None, posted.body)
    assert "1.0" == event.get_specversion()
    assert (notification.event.id, EventType.CERTIFICATE_NEAR_EXPIRY) == (event.get_id(), event.get_type())
    assert ("https://team.vault.example", "web") == (event.get_source(), event.get_subject())
    assert notification.event.at == event.get_time()
    assert {
        "Id": notification.object_url,
        "VaultName": "team",
        "ObjectType": "Certificate",
        "ObjectName": "web",
        "Version": "0" * 32,
        "NBF": notification.event.not_before,
        "EXP": notification.event.not_after,
        "Step": "80%",
        "Message": "Soon.",
        "Details": {"Reason": "none"},
    } == event.get_data()


def test_an_event_grid_event_has_its_schema(receiver: Receiver, hook: Callable[..., Notifier], tell: Tell) -> None:
    hook(format="eventgrid").deliver(tell(type=EventType.SECRET_NEW_VERSION, step=""))

    (posted,) = receiver.requests
    assert "Notification" == posted.headers["aeg-event-type"]
    assert ["id", "topic", "subject", "eventType", "eventTime", "data", "dataVersion", "metadataVersion"] == list(
        posted.event
    )
    assert "2026-03-01T12:00:00Z" == posted.event["eventTime"]
    assert ["Id", "VaultName", "ObjectType", "ObjectName", "Version", "NBF", "EXP"] == list(posted.event["data"])


def test_an_event_about_no_object_is_valid_too(receiver: Receiver, hook: Callable[..., Notifier], tell: Tell) -> None:
    hook().deliver(tell(type=EventType.CHANNEL_TEST, name="", version="", not_before=None, not_after=None))

    event = JSONFormat().read(None, receiver.requests[0].body)
    assert event.get_subject() is None


def test_what_is_signed_can_be_verified_and_the_header_is_sent(
    receiver: Receiver, hook: Callable[..., Notifier], tell: Tell
) -> None:
    hook({"key": _TEXT_KEY, "authorization": "Bearer t0ken"}).deliver(tell())

    (posted,) = receiver.requests
    signed = f"{posted.headers['webhook-id']}.{posted.headers['webhook-timestamp']}.".encode() + posted.body
    digest = base64.b64encode(hmac.new(_KEY, signed, hashlib.sha256).digest()).decode()
    assert f"v1,{digest}" == posted.headers["webhook-signature"]
    assert "e" * 32 == posted.headers["webhook-id"]
    assert abs(int(posted.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
    assert "Bearer t0ken" == posted.headers["authorization"]


@pytest.mark.parametrize("form", ["cloudevents", "eventgrid"])
def test_a_receiver_that_agrees_is_told_and_one_that_does_not_is_not(
    receiver: Receiver, hook: Callable[..., Notifier], form: str
) -> None:
    notifier = hook(format=form)
    assert isinstance(notifier, Confirms)
    notifier.confirm()
    asked = receiver.requests[0]
    if form == "cloudevents":
        assert ("OPTIONS", "login.vault.example") == (asked.method, asked.headers["webhook-request-origin"])
    for answer in (
        Answer(),
        Answer(405),
        Answer(200, {"WebHook-Allowed-Origin": "other.example"}),
        Answer(200, {}, b'{"validationResponse": "0"}'),
        Answer(200, {}, b"[[[["),
        Answer(500, {"WebHook-Allowed-Origin": "*"}),
    ):
        receiver.answer = lambda request, answer=answer: answer
        with pytest.raises(NotDelivered, match="handshake to none"):
            notifier.confirm()

    assert not isinstance(hook(format=form, handshake="none"), Confirms)


@pytest.mark.parametrize("status", [400, 404, 410, 413])
def test_an_answer_that_no_repetition_changes_ends_it(
    receiver: Receiver, hook: Callable[..., Notifier], tell: Tell, status: int
) -> None:
    receiver.answer = lambda request: Answer(status)

    with pytest.raises(Undeliverable, match=str(status)):
        hook().deliver(tell())


@pytest.mark.parametrize("status", [301, 401, 403, 408, 429, 500, 502, 503])
def test_any_other_answer_is_for_now(
    receiver: Receiver, hook: Callable[..., Notifier], tell: Tell, status: int
) -> None:
    receiver.answer = lambda request: Answer(status, {"Retry-After": "120", "Location": "https://elsewhere.example"})

    with pytest.raises(NotDelivered, match=str(status)) as failed:
        hook().deliver(tell())

    assert timedelta(seconds=120) == failed.value.retry_after
    assert 1 == len(receiver.requests)


def test_a_receiver_that_hangs_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch, tell: Tell, resources: Resources
) -> None:
    monkeypatch.setattr(webhook, "_SECONDS", 0.3)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        settings = NotifierSettings("ops", {"url": f"https://127.0.0.1:{listening.getsockname()[1]}/"})
        with pytest.raises(NotDelivered, match="could not be reached"):
            WebhookKind().open(settings, resources()).deliver(tell())


def test_an_answer_without_end_is_given_up(receiver: Receiver, hook: Callable[..., Notifier], tell: Tell) -> None:
    receiver.answer = lambda request: Answer(200, {}, b"x" * 200_000)

    with pytest.raises(NotDelivered):
        hook().deliver(tell())


@pytest.mark.parametrize("url", ["https://10.1.2.3/T0KEN", "http://example.com/T0KEN", "https://127.0.0.1:1/T0KEN"])
def test_where_it_may_not_go_it_does_not_and_a_secret_url_stays_secret(
    tell: Tell, resources: Resources, url: str
) -> None:
    for settings in (NotifierSettings("ops", {"url": url}), NotifierSettings("ops", {}, {"url": url})):
        with pytest.raises(NotDelivered) as failed:
            WebhookKind().open(settings, resources()).deliver(tell())

        assert "url" in settings.settings or "T0KEN" not in str(failed.value)
        assert "url" in settings.settings or "T0KEN" not in repr(settings)


@pytest.mark.parametrize(
    ("settings", "secrets", "named"),
    [
        ({}, {}, "one url"),
        ({"url": "https://a.example"}, {"url": "https://b.example"}, "one url"),
        ({"url": "ftp://a.example"}, {}, "https URL"),
        ({"url": "https://"}, {}, "https URL"),
        ({"url": "https://a.example/\r\nx: y"}, {}, "https URL"),
        ({"url": "https://a.example", "format": "xml"}, {}, "settings.format"),
        ({"url": "https://a.example", "handshake": "maybe"}, {}, "settings.handshake"),
        ({"url": "https://a.example", "colour": "red"}, {}, "'colour'"),
        ({"url": "https://a.example"}, {"password": "x"}, "'password'"),
        ({"url": "https://a.example"}, {"key": "short"}, "secrets.key"),
        ({"url": "https://a.example"}, {"key": "whsec_c2hvcnQ="}, "secrets.key"),
        ({"url": "https://a.example"}, {"authorization": "Bearer x\r\nHost: y"}, "secrets.authorization"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(
    settings: dict[str, str], secrets: dict[str, str], named: str
) -> None:
    with pytest.raises(Invalid) as refused:
        WebhookKind().check(NotifierSettings("ops", settings, secrets))

    assert named in refused.value.message
    assert not [value for value in secrets.values() if value in refused.value.message]
