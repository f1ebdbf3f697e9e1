"""Channels on the wire. Azure has none: these messages are ours, in the manner of Key Vault's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from certbroker.services.notification.channels import ChannelChanges, ChannelView
from certbroker.store.outbox import Delivery
from certbroker.web.akv.messages import decode, page_json
from certbroker.web.akv.routes import Call, Route, Router
from certbroker.web.http import Response


class ChannelAttributesJSON(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    enabled: bool | None = None


class ChannelBodyJSON(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str | None = None
    settings: dict[str, str] | None = None
    secrets: dict[str, str] | None = None
    events: tuple[str, ...] | None = None
    attributes: ChannelAttributesJSON | None = None


class RetryJSON(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str | None = None


def set_channel(call: Call) -> Response:
    return _channel(call, call.broker.channels.set(call.caller, call.vault, _name(call), _changes(call)))


def update_channel(call: Call) -> Response:
    return _channel(call, call.broker.channels.update(call.caller, call.vault, _name(call), _changes(call)))


def get_channel(call: Call) -> Response:
    return _channel(call, call.broker.channels.get(call.vault, _name(call)))


def delete_channel(call: Call) -> Response:
    return _channel(call, call.broker.channels.delete(call.caller, call.vault, _name(call)))


def list_channels(call: Call) -> Response:
    page = call.broker.channels.listing(call.vault, call.query.get("$skiptoken", ""), call.page_size())
    return page_json(call, [channel_json(call, view) for view in page.items], page)


def test_channel(call: Call) -> Response:
    return Response(202, delivery_json(call.broker.channels.test(call.caller, call.vault, _name(call))))


def get_delivery(call: Call) -> Response:
    delivery = call.broker.channels.delivery(call.vault, _name(call), call.parameters["event"])
    return Response(200, delivery_json(delivery))


def list_dead_letters(call: Call) -> Response:
    after = call.query.get("$skiptoken", "")
    page = call.broker.channels.dead_letters(call.vault, _name(call), after, call.page_size())
    return page_json(call, [delivery_json(delivery) for delivery in page.items], page)


def retry_dead_letters(call: Call) -> Response:
    wanted = decode(call.body, RetryJSON) if call.body else RetryJSON()
    return Response(200, {"retried": call.broker.channels.retry(call.caller, call.vault, _name(call), wanted.id)})


def channel_json(call: Call, view: ChannelView) -> dict[str, Any]:
    """A channel. Of its secrets only the names leave."""
    channel, health = view.channel, view.channel.health
    told: dict[str, Any] = {"status": _status(view)}
    if health.last_success is not None:
        told["last_success"] = _seconds(health.last_success)
    if health.failing_since is not None:
        told["failing_since"] = _seconds(health.failing_since)
    if health.reason:
        told["reason"] = health.reason
    return {
        "id": call.links.channel(channel.name),
        "kind": channel.kind,
        "settings": channel.settings,
        "secrets": list(channel.secrets),
        "events": list(channel.events),
        "attributes": {"enabled": channel.enabled, "created": channel.created, "updated": channel.updated},
        "health": told,
        "waiting": view.waiting,
        "dead_letters": view.dead,
    }


def delivery_json(delivery: Delivery) -> dict[str, Any]:
    """How far the delivery of an event has come."""
    event = delivery.event
    found: dict[str, Any] = {
        "id": event.id,
        "type": event.type.value,
        "object_name": event.name,
        "version": event.version,
        "time": _seconds(event.at),
        "outcome": delivery.outcome.value if delivery.outcome else "waiting",
        "attempts": delivery.attempts,
    }
    if delivery.problem:
        found["problem"] = delivery.problem
    if delivery.settled is not None:
        found["settled"] = _seconds(delivery.settled)
    if delivery.act_at is not None:
        found["next_attempt"] = max(_seconds(delivery.act_at), _seconds(delivery.created))
    return found


def _channel(call: Call, view: ChannelView) -> Response:
    return Response(200, channel_json(call, view))


def _status(view: ChannelView) -> str:
    if not view.channel.enabled:
        return "disabled"
    if view.channel.health.failing_since is not None:
        return "failing"
    return "unused" if view.channel.health.last_success is None else "ok"


def _name(call: Call) -> str:
    return call.parameters["channel"]


def _changes(call: Call) -> ChannelChanges:
    wanted = decode(call.body, ChannelBodyJSON)
    enabled = wanted.attributes.enabled if wanted.attributes else None
    return ChannelChanges(wanted.kind, wanted.settings, wanted.secrets, wanted.events, enabled)


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def register(router: Router) -> None:
    channel, letters = "/channels/{channel}", "/channels/{channel}/dead-letters"
    read, write, delete = "channels/read", "channels/write", "channels/delete"
    router.add("GET", "/channels", Route("ChannelList", read, list_channels))
    router.add("GET", channel, Route("ChannelGet", read, get_channel))
    router.add("PUT", channel, Route("ChannelSet", write, set_channel, writes=True))
    router.add("PATCH", channel, Route("ChannelUpdate", write, update_channel, writes=True))
    router.add("DELETE", channel, Route("ChannelDelete", delete, delete_channel, writes=True))
    router.add("POST", f"{channel}/test", Route("ChannelTest", write, test_channel, writes=True))
    router.add("GET", f"{channel}/deliveries/{{event}}", Route("ChannelDeliveryGet", read, get_delivery))
    router.add("GET", letters, Route("ChannelDeadLetterList", read, list_dead_letters))
    router.add("POST", f"{letters}/retry", Route("ChannelDeadLetterRetry", write, retry_dead_letters, writes=True))
