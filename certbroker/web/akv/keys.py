"""Keys on the wire: made, imported, read and changed."""

from __future__ import annotations

from typing import Any

import msgspec

from certbroker.domain.errors import Invalid
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Kind
from certbroker.domain.records import Version
from certbroker.services.objects.foreign import put_together
from certbroker.web.akv.jwk import JWK, members, public_json, uses
from certbroker.web.akv.messages import AttributesJSON, attributes_json, changes, decode
from certbroker.web.akv.routes import Call, Route, Router
from certbroker.web.http import Response


class KeyAttributesJSON(AttributesJSON, frozen=True):
    exportable: bool | None = None


class CreateJSON(msgspec.Struct, frozen=True):
    kty: str
    key_size: int | None = None
    public_exponent: int | None = None
    key_ops: tuple[str, ...] | None = None
    attributes: KeyAttributesJSON | None = None
    tags: dict[str, str] | None = None
    crv: str | None = None
    release_policy: dict[str, Any] | None = None


class ImportJSON(msgspec.Struct, frozen=True):
    key: JWK
    hsm: bool | None = msgspec.field(default=None, name="Hsm")
    attributes: KeyAttributesJSON | None = None
    tags: dict[str, str] | None = None
    release_policy: dict[str, Any] | None = None


class UpdateJSON(msgspec.Struct, frozen=True):
    key_ops: tuple[str, ...] | None = None
    attributes: KeyAttributesJSON | None = None
    tags: dict[str, str] | None = None
    release_policy: dict[str, Any] | None = None


def create(call: Call) -> Response:
    wanted = decode(call.body, CreateJSON)
    _check_no_release(wanted)
    if wanted.public_exponent not in (None, 65537):
        raise Invalid("public_exponent can be chosen in an HSM only; leave it out, and it is 65537.")
    spec = KeySpec(wanted.kty, wanted.key_size, wanted.crv)
    made = call.broker.keys.create(
        call.caller, call.vault, call.name, spec, uses(wanted.key_ops), changes(wanted.attributes, wanted.tags)
    )
    return Response(200, key_json(call, made))


def import_(call: Call) -> Response:
    wanted = decode(call.body, ImportJSON)
    _check_no_release(wanted)
    if wanted.hsm or wanted.key.kty.endswith("-HSM"):
        raise Invalid("A key in an HSM needs a vault of tier premium with an HSM; import it without Hsm.")
    allowed, wishes = uses(wanted.key.key_ops), changes(wanted.attributes, wanted.tags)
    encoded = put_together(members(wanted.key))
    made = call.broker.keys.import_(call.caller, call.vault, call.name, encoded, allowed, wishes)
    return Response(200, key_json(call, made))


def get(call: Call) -> Response:
    return Response(200, key_json(call, call.broker.keys.get(call.vault, call.name, call.version)))


def update(call: Call) -> Response:
    wanted = decode(call.body, UpdateJSON)
    _check_no_release(wanted)
    changed = call.broker.keys.update(
        call.caller,
        call.vault,
        call.name,
        call.version,
        uses(wanted.key_ops),
        changes(wanted.attributes, wanted.tags),
    )
    return Response(200, key_json(call, changed))


def key_json(call: Call, version: Version) -> dict[str, Any]:
    """A key bundle."""
    assert version.key is not None
    attributes = attributes_json(version.attributes, call.vault.recovery)
    attributes["exportable"] = version.key.exportable
    kid = call.links.object(Kind.KEY, version.name, version.version)
    found: dict[str, Any] = {
        "key": {"kid": kid, **public_json(version.key)},
        "attributes": attributes,
        "tags": version.tags,
    }
    if version.managed:
        found["managed"] = True
    return found


def _check_no_release(wanted: CreateJSON | ImportJSON | UpdateJSON) -> None:
    """Raise Invalid where a key is to leave the vault."""
    if wanted.release_policy is not None or (wanted.attributes is not None and wanted.attributes.exportable):
        raise Invalid(
            "Keys are not released: leave out release_policy and exportable. A key that must leave the vault is one of "
            "an exportable certificate."
        )


def register(router: Router) -> None:
    router.add(
        "POST", "/keys/{name}/create", Route("KeyCreate", "keys/create/action", create, writes=True, lane="create")
    )
    router.add("PUT", "/keys/{name}", Route("KeyImport", "keys/import/action", import_, writes=True, lane="import"))
    for pattern in ("/keys/{name}", "/keys/{name}/{version}"):
        router.add("GET", pattern, Route("KeyGet", "keys/read", get))
        router.add("PATCH", pattern, Route("KeyUpdate", "keys/update/action", update, writes=True))
