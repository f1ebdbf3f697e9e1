"""Secrets on the wire."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from certbroker.domain.errors import Invalid
from certbroker.domain.objects import Kind
from certbroker.domain.policy import PEM
from certbroker.domain.records import Version
from certbroker.web.akv.etags import etag_of, unchanged
from certbroker.web.akv.messages import AttributesJSON, attributes_json, changes, decode
from certbroker.web.akv.routes import Call, Route, Router, TakesLong
from certbroker.web.http import Response


class SetSecretJSON(msgspec.Struct, frozen=True, rename="camel"):
    value: str
    content_type: str | None = None
    attributes: AttributesJSON | None = None
    tags: dict[str, str] | None = None


class UpdateSecretJSON(msgspec.Struct, frozen=True, rename="camel"):
    content_type: str | None = None
    attributes: AttributesJSON | None = None
    tags: dict[str, str] | None = None


def set_secret(call: Call) -> Response:
    wanted = decode(call.body, SetSecretJSON)
    stored = call.broker.secrets.set(
        call.caller,
        call.vault,
        call.name,
        wanted.value,
        changes(wanted.attributes, wanted.tags, wanted.content_type),
    )
    return Response(200, secret_json(call, stored) | {"value": wanted.value})


def get_secret(call: Call) -> Response:
    wanted = call.query.get("outContentType")
    found = call.broker.secrets.find(call.vault, call.name, call.version)
    if wanted is not None:
        if wanted not in (PEM, found.content_type) or not found.managed:
            raise Invalid(f"outContentType is only {PEM}, and only for the secret of a certificate.")
        found = replace(found, content_type=wanted)
    shown = secret_json(call, found)
    etag = etag_of(shown)
    if (same := unchanged(call, etag)) is not None:
        return same
    if found.managed and call.quick:
        raise TakesLong
    return Response(200, {"value": call.broker.secrets.reveal(call.vault, found)} | shown, ((b"etag", etag),))


def update_secret(call: Call) -> Response:
    wanted = decode(call.body, UpdateSecretJSON)
    changed = call.broker.secrets.update(
        call.caller,
        call.vault,
        call.name,
        call.version,
        changes(wanted.attributes, wanted.tags, wanted.content_type),
    )
    return Response(200, secret_json(call, changed))


def secret_json(call: Call, version: Version) -> dict[str, Any]:
    """A secret bundle without its value."""
    found: dict[str, Any] = {"id": call.links.object(Kind.SECRET, version.name, version.version)}
    if version.content_type is not None:
        found["contentType"] = version.content_type
    found["attributes"] = attributes_json(version.attributes, call.vault.recovery)
    found["tags"] = version.tags
    if version.managed:
        found["kid"] = call.links.object(Kind.KEY, version.name, version.version)
        found["managed"] = True
        if version.previous is not None:
            found["previousVersion"] = version.previous
    return found


def register(router: Router) -> None:
    router.add("PUT", "/secrets/{name}", Route("SecretSet", "secrets/setSecret/action", set_secret, writes=True))
    get = Route("SecretGet", "secrets/getSecret/action", get_secret, quick=True)
    update = Route("SecretUpdate", "secrets/update/action", update_secret, writes=True)
    for pattern in ("/secrets/{name}", "/secrets/{name}/{version}"):
        router.add("GET", pattern, get)
        router.add("PATCH", pattern, update)
