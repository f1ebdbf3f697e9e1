"""Webhooks: what programs read. CloudEvents 1.0 in structured mode, or the schema of Azure Event Grid."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from certbroker.domain.errors import Invalid
from certbroker.domain.retry_after import retry_after
from certbroker.ports.egress import EgressFailed, EgressRefused, OutsideResponse
from certbroker.ports.notifier import (
    NotDelivered,
    Notification,
    Notifier,
    NotifierResources,
    NotifierSettings,
    Undeliverable,
)

_SECONDS: Final = 20.0
_MAX_ANSWER: Final = 64 * 1024
_KEY_PREFIX: Final = "whsec_"
_KEY_BYTES: Final = range(24, 65)
_SETTINGS: Final = {"url", "format", "handshake"}
_SECRETS: Final = {"url", "key", "authorization"}
_VALIDATION: Final = "Microsoft.EventGrid.SubscriptionValidationEvent"

# Answers that no repetition changes: the receiver is gone, or will not have this.
_NEVER: Final = frozenset({400, 404, 405, 406, 410, 411, 413, 414, 415, 422, 431, 451, 501})

Form = Literal["cloudevents", "eventgrid"]


class WebhookKind:
    """POST to `url`, which is a secret where it holds a token. A `key` signs; `authorization` is the header's value."""

    name = "webhook"
    for_people = False

    def check(self, settings: NotifierSettings) -> None:
        unknown = (settings.settings.keys() - _SETTINGS) | (settings.secrets.keys() - _SECRETS)
        if unknown:
            raise Invalid(
                f"A webhook has the settings {', '.join(sorted(_SETTINGS))} and the secrets "
                f"{', '.join(sorted(_SECRETS))}; {min(unknown)[:64]!r} is neither."
            )
        url = _url(settings)
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname or not url.isascii() or not url.isprintable():
            raise Invalid("settings.url is not an https URL.")
        _chosen(settings.settings, "format", ("cloudevents", "eventgrid"))
        _chosen(settings.settings, "handshake", ("required", "none"))
        if "key" in settings.secrets:
            signing_key(settings.secrets["key"])
        authorization = settings.secrets.get("authorization", "")
        if not authorization.isascii() or (authorization and not authorization.isprintable()):
            raise Invalid("secrets.authorization is one line of ASCII, such as: Bearer and a token.")

    def open(self, settings: NotifierSettings, resources: NotifierResources) -> Notifier:
        self.check(settings)
        form: Form = "eventgrid" if settings.settings.get("format") == "eventgrid" else "cloudevents"
        webhook = _Webhook(settings, form, resources)
        return webhook if settings.settings.get("handshake") == "none" else _ConfirmedWebhook(webhook)


class _Webhook:
    def __init__(self, settings: NotifierSettings, form: Form, resources: NotifierResources) -> None:
        self.url = _url(settings)
        self.form = form
        self.secret = "url" in settings.secrets
        self._key = signing_key(settings.secrets["key"]) if "key" in settings.secrets else None
        self._authorization = settings.secrets.get("authorization")
        self.origin = resources.origin
        self.clock = resources.clock
        self._egress = resources.egress

    def deliver(self, notification: Notification) -> str:
        headers, body = (_event_grid if self.form == "eventgrid" else _cloud_event)(notification)
        answer = self.send("POST", notification.event.id, headers, body)
        if 200 <= answer.status < 300:
            return ""
        if answer.status in _NEVER:
            raise Undeliverable(f"The receiver answered {answer.status}, which no repetition would change.")
        pause = retry_after(answer.headers.get("retry-after"), self.clock.now(), answer.headers.get("date"))
        raise NotDelivered(f"The receiver answered {answer.status}.", pause)

    def send(self, method: str, event_id: str, headers: Mapping[str, str], body: bytes | None) -> OutsideResponse:
        """One request, signed where there is a key. Raises NotDelivered."""
        sent = dict(headers)
        if self._authorization:
            sent["authorization"] = self._authorization
        if self._key is not None and body is not None:
            sent |= signature(self._key, event_id, self.clock.now(), body)
        try:
            return self._egress.request(
                method, self.url, headers=sent, content=body, max_bytes=_MAX_ANSWER, timeout=_SECONDS
            )
        except EgressRefused as error:
            reason = "the rules in [egress] forbid its URL" if self.secret else str(error)
            raise NotDelivered(f"The receiver may not be contacted: {reason}") from None
        except EgressFailed as error:
            reason = "" if self.secret else f" {error}"
            raise NotDelivered(f"The receiver could not be reached, or did not answer properly.{reason}") from None


class _ConfirmedWebhook:
    """A webhook whose receiver is asked first: nobody else's server can be made to take our events."""

    def __init__(self, webhook: _Webhook) -> None:
        self._webhook = webhook

    def deliver(self, notification: Notification) -> str:
        return self._webhook.deliver(notification)

    def confirm(self) -> None:
        if self._webhook.form == "eventgrid":
            self._validate()
        else:
            self._ask()

    def _validate(self) -> None:
        """Event Grid's way: the receiver sends back the code of a validation event."""
        code = secrets.token_hex(16)
        event = {
            "id": code,
            "topic": self._webhook.origin,
            "subject": "",
            "data": {"validationCode": code},
            "eventType": _VALIDATION,
            "eventTime": _time(self._webhook.clock.now()),
            "metadataVersion": "1",
            "dataVersion": "1",
        }
        headers = {"content-type": "application/json; charset=utf-8", "aeg-event-type": "SubscriptionValidation"}
        answer = self._webhook.send("POST", code, headers, json.dumps([event]).encode())
        try:
            returned = json.loads(answer.body)["validationResponse"]
        except (ValueError, KeyError, TypeError, RecursionError):
            returned = None
        if answer.status != 200 or returned != code:
            raise NotDelivered(_disagreed(answer.status, "a validation event by its validationCode"))

    def _ask(self) -> None:
        """CloudEvents' way (HTTP 1.1 Web Hooks for Event Delivery, section 4)."""
        origin = self._webhook.origin
        answer = self._webhook.send("OPTIONS", "", {"webhook-request-origin": origin}, None)
        allowed = [each.strip() for each in answer.headers.get("webhook-allowed-origin", "").split(",")]
        if not 200 <= answer.status < 300 or not {"*", origin} & set(allowed):
            raise NotDelivered(_disagreed(answer.status, "OPTIONS with WebHook-Allowed-Origin: *"))


def _disagreed(status: int, how: str) -> str:
    return (
        f"The receiver has not agreed to be told: it answered {status}, and should answer {how}. If it is yours and "
        "does not know this, set handshake to none."
    )


def data_of(notification: Notification) -> dict[str, Any]:
    """What the event is about, under the names of Azure's Key Vault events; ours are added where there are any."""
    event = notification.event
    data: dict[str, Any] = {
        "Id": notification.object_url,
        "VaultName": notification.vault,
        "ObjectType": event.kind.value.capitalize(),
        "ObjectName": event.name,
        "Version": event.version,
        "NBF": event.not_before,
        "EXP": event.not_after,
    }
    ours = {"Step": event.step, "Message": event.message, "Details": event.details}
    return data | {name: value for name, value in ours.items() if value}


def _cloud_event(notification: Notification) -> tuple[dict[str, str], bytes]:
    event = notification.event
    attributes = {
        "id": event.id,
        "source": notification.vault_url,
        "type": event.type.value,
        "specversion": "1.0",
        "time": event.at,
        "datacontenttype": "application/json",
    }
    if event.name:
        attributes["subject"] = event.name
    body = JSONFormat().write(CloudEvent(attributes=attributes, data=data_of(notification)))
    return {"content-type": "application/cloudevents+json; charset=utf-8"}, body


def _event_grid(notification: Notification) -> tuple[dict[str, str], bytes]:
    event = notification.event
    body = {
        "id": event.id,
        "topic": notification.vault_url,
        "subject": event.name,
        "eventType": event.type.value,
        "eventTime": _time(event.at),
        "data": data_of(notification),
        "dataVersion": "1",
        "metadataVersion": "1",
    }
    headers = {"content-type": "application/json; charset=utf-8", "aeg-event-type": "Notification"}
    return headers, json.dumps([body], ensure_ascii=False).encode()


def signing_key(text: str) -> bytes:
    """The bytes of a key. Raises Invalid."""
    try:
        key = base64.b64decode(text.strip().removeprefix(_KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in _KEY_BYTES:
        raise Invalid(f"secrets.key is {_KEY_PREFIX} and 24 to 64 random bytes in base64.")
    return key


def signature(key: bytes, event_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks: an HMAC-SHA256 over id, time and body.

    A receiver refuses old times, and remembers ids, so that nothing can be sent again by somebody else.
    """
    timestamp = str(int(now.timestamp()))
    digest = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _url(settings: NotifierSettings) -> str:
    given = [each["url"] for each in (settings.settings, settings.secrets) if "url" in each]
    if len(given) != 1:
        raise Invalid("A webhook has one url: in settings, or in secrets where it holds a token.")
    return given[0]


def _chosen(settings: Mapping[str, str], name: str, choices: tuple[str, ...]) -> None:
    if settings.get(name, choices[0]) not in choices:
        raise Invalid(f"settings.{name} is one of {', '.join(choices)}.")
