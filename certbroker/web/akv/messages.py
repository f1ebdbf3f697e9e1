"""Parts of messages that all kinds of object share."""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeVar

import msgspec

from certbroker.domain.errors import Invalid
from certbroker.domain.objects import Attributes, Changes, Deletion, Kind, Listed, Page, Recovery
from certbroker.web.akv.ids import Links
from certbroker.web.akv.routes import Call
from certbroker.web.http import Response

T = TypeVar("T")


class AttributesJSON(msgspec.Struct, frozen=True):
    """The attributes that a client may set; others are ignored."""

    enabled: bool | None = None
    nbf: int | None = None
    exp: int | None = None


class BackupJSON(msgspec.Struct, frozen=True):
    value: str


def decode(body: bytes, kind: type[T]) -> T:
    """The body as `kind`. Raises Invalid, saying what is wrong where."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"The body of the request is not valid: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid("The body of the request is not valid JSON.") from None


def changes(attributes: AttributesJSON | None, tags: dict[str, str] | None, content_type: str | None = None) -> Changes:
    """What a request wants to set. Raises Invalid."""
    given = attributes or AttributesJSON()
    return Changes(given.enabled, given.nbf, given.exp, tags, content_type)


def attributes_json(attributes: Attributes, recovery: Recovery) -> dict[str, Any]:
    """Attributes as clients read them."""
    found: dict[str, Any] = {"enabled": attributes.enabled}
    if attributes.not_before is not None:
        found["nbf"] = attributes.not_before
    if attributes.expires is not None:
        found["exp"] = attributes.expires
    found["created"] = attributes.created
    found["updated"] = attributes.updated
    found["recoveryLevel"] = recovery.level
    found["recoverableDays"] = recovery.days
    return found


def deletion_json(links: Links, kind: Kind, name: str, deletion: Deletion) -> dict[str, Any]:
    """What a deleted object has beyond a live one. Without recoveryId clients think there is no soft delete."""
    return {
        "recoveryId": links.deleted(kind, name),
        "deletedDate": deletion.deleted,
        "scheduledPurgeDate": deletion.scheduled_purge,
    }


def item_json(call: Call, kind: Kind, item: Listed, *, versioned: bool = False) -> dict[str, Any]:
    """One row of a listing. Objects have unversioned ids there, versions have versioned ones."""
    attributes = attributes_json(item.attributes, call.vault.recovery)
    found: dict[str, Any] = {
        ("kid" if kind is Kind.KEY else "id"): call.links.object(kind, item.name, item.version if versioned else ""),
        "attributes": attributes,
        "tags": item.tags,
    }
    if kind is Kind.CERTIFICATE:
        del attributes["recoveryLevel"], attributes["recoverableDays"]
        found["x5t"] = base64url(bytes.fromhex(item.thumbprint or ""))
    elif item.managed:
        found["managed"] = True
    if kind is Kind.SECRET and item.content_type is not None:
        found["contentType"] = item.content_type
    if item.deletion is not None:
        found |= deletion_json(call.links, kind, item.name, item.deletion)
    return found


def page_json(call: Call, items: list[dict[str, Any]], page: Page[Any]) -> Response:
    """A page with the link to the next one."""
    following = None
    if page.next is not None:
        more = "&includePending=true" if call.include_pending else ""
        following = call.links.page(call.path, call.query.get("api-version", ""), page.next, call.page_size(), more)
    return Response(200, {"value": items, "nextLink": following})


def base64url(data: bytes) -> str:
    """Unpadded base64url (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64(text: str, field: str) -> bytes:
    """Bytes from base64 of either alphabet, padded or not, white space ignored. Raises Invalid."""
    compact = "".join(text.split()).rstrip("=")
    try:
        return base64.b64decode(compact.replace("-", "+").replace("_", "/") + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(f"{field} is not valid base64.") from None
