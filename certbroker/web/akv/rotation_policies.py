"""Rotation policies of keys on the wire, and keys that are rotated because somebody asks."""

from __future__ import annotations

from typing import Any

import msgspec

from certbroker.domain.durations import Duration, parse_duration
from certbroker.domain.errors import Invalid
from certbroker.domain.objects import Kind
from certbroker.domain.rotation import RotationPolicy
from certbroker.web.akv.keys import key_json
from certbroker.web.akv.messages import decode
from certbroker.web.akv.routes import Call, Route, Router
from certbroker.web.http import Response


class TriggerJSON(msgspec.Struct, frozen=True, rename="camel"):
    time_after_create: str | None = None
    time_before_expiry: str | None = None


class ActionJSON(msgspec.Struct, frozen=True):
    type: str


class LifetimeActionJSON(msgspec.Struct, frozen=True):
    trigger: TriggerJSON
    action: ActionJSON


class PolicyAttributesJSON(msgspec.Struct, frozen=True, rename="camel"):
    expiry_time: str | None = None


class RotationPolicyJSON(msgspec.Struct, frozen=True, rename="camel"):
    lifetime_actions: tuple[LifetimeActionJSON, ...] = ()
    attributes: PolicyAttributesJSON | None = None


def get_policy(call: Call) -> Response:
    return Response(200, _policy_json(call, call.broker.key_rotation.policy(call.vault, call.name)))


def set_policy(call: Call) -> Response:
    wanted = _policy(decode(call.body, RotationPolicyJSON))
    return Response(
        200, _policy_json(call, call.broker.key_rotation.set_policy(call.caller, call.vault, call.name, wanted))
    )


def rotate(call: Call) -> Response:
    return Response(200, key_json(call, call.broker.key_rotation.rotate(call.caller, call.vault, call.name)))


def _policy(wanted: RotationPolicyJSON) -> RotationPolicy:
    """The policy that a request wants. Raises Invalid."""
    triggers: dict[str, TriggerJSON] = {}
    for each in wanted.lifetime_actions:
        kind = each.action.type.lower()
        if kind not in ("rotate", "notify"):
            raise Invalid(f"action.type {each.action.type[:40]!r} is not supported: use Rotate or Notify.")
        if kind in triggers:
            raise Invalid(f"lifetimeActions has more than one {kind.capitalize()}; write one at most.")
        if (each.trigger.time_after_create is None) == (each.trigger.time_before_expiry is None):
            raise Invalid("A trigger has either timeAfterCreate or timeBeforeExpiry.")
        triggers[kind] = each.trigger
    rotated, notified = triggers.get("rotate", TriggerJSON()), triggers.get("notify", TriggerJSON())
    if notified.time_after_create is not None:
        raise Invalid("Notify is triggered by timeBeforeExpiry only.")
    return RotationPolicy(
        rotate_after=_duration(rotated.time_after_create, "trigger.timeAfterCreate"),
        rotate_before=_duration(rotated.time_before_expiry, "trigger.timeBeforeExpiry"),
        notify_before=_duration(notified.time_before_expiry, "trigger.timeBeforeExpiry"),
        expiry=_duration(wanted.attributes.expiry_time if wanted.attributes else None, "attributes.expiryTime"),
    )


def _duration(text: str | None, field: str) -> Duration | None:
    return None if text is None else parse_duration(text, field)


def _policy_json(call: Call, policy: RotationPolicy) -> dict[str, Any]:
    actions = [
        {"trigger": {trigger: duration.text}, "action": {"type": action}}
        for action, trigger, duration in (
            ("Rotate", "timeAfterCreate", policy.rotate_after),
            ("Rotate", "timeBeforeExpiry", policy.rotate_before),
            ("Notify", "timeBeforeExpiry", policy.notify_before),
        )
        if duration is not None
    ]
    attributes: dict[str, Any] = {} if policy.expiry is None else {"expiryTime": policy.expiry.text}
    if policy.updated:
        attributes |= {"created": policy.created, "updated": policy.updated}
    name = call.broker.keys.get(call.vault, call.name, "").name
    return {
        "id": f"{call.links.object(Kind.KEY, name)}/rotationpolicy",
        "lifetimeActions": actions,
        "attributes": attributes,
    }


def register(router: Router) -> None:
    path = "/keys/{name}/rotationpolicy"
    router.add("GET", path, Route("KeyRotationPolicyGet", "keyrotationpolicies/read", get_policy))
    router.add("PUT", path, Route("KeyRotationPolicySet", "keyrotationpolicies/write", set_policy, writes=True))
    route = Route("KeyRotate", "keys/rotate/action", rotate, writes=True, lane="create")
    router.add("POST", "/keys/{name}/rotate", route)
