"""What all kinds of object have in common on the wire: listings, soft delete, backup and restore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from certbroker.domain.objects import Kind
from certbroker.domain.records import Version
from certbroker.services.objects.backup import MAX_BYTES
from certbroker.services.objects.deletion import Deleted
from certbroker.web.akv.certificates import certificate_json, view_json
from certbroker.web.akv.keys import key_json
from certbroker.web.akv.messages import BackupJSON, base64url, decode, deletion_json, from_base64, item_json, page_json
from certbroker.web.akv.policies import policy_json
from certbroker.web.akv.routes import Call, Handler, Route, Router
from certbroker.web.akv.secrets import secret_json
from certbroker.web.http import MAX_BODY, Response

# A backup in base64, and what stands around it.
_RESTORED: Final = MAX_BYTES * 4 // 3 + 1024

Render = Callable[[Call, Version], dict[str, Any]]

_RENDER: dict[Kind, Render] = {
    Kind.SECRET: secret_json,
    Kind.KEY: key_json,
    Kind.CERTIFICATE: certificate_json,
}


def list_objects(kind: Kind) -> Handler:
    def handler(call: Call) -> Response:
        page = call.broker.listings.objects(
            call.vault,
            kind,
            call.query.get("$skiptoken", ""),
            call.page_size(),
            pending=call.include_pending,
        )
        return page_json(call, [item_json(call, kind, item) for item in page.items], page)

    return handler


def list_versions(kind: Kind) -> Handler:
    def handler(call: Call) -> Response:
        page = call.broker.listings.versions(
            call.vault, kind, call.name, call.query.get("$skiptoken", ""), call.page_size()
        )
        return page_json(call, [item_json(call, kind, item, versioned=True) for item in page.items], page)

    return handler


def list_deleted(kind: Kind) -> Handler:
    def handler(call: Call) -> Response:
        page = call.broker.listings.deleted(call.vault, kind, call.query.get("$skiptoken", ""), call.page_size())
        return page_json(call, [item_json(call, kind, item) for item in page.items], page)

    return handler


def delete(kind: Kind) -> Handler:
    def handler(call: Call) -> Response:
        return Response(
            200, _deleted_json(call, kind, call.broker.deletions.delete(call.caller, call.vault, kind, call.name))
        )

    return handler


def get_deleted(kind: Kind) -> Handler:
    def handler(call: Call) -> Response:
        return Response(200, _deleted_json(call, kind, call.broker.deletions.get(call.vault, kind, call.name)))

    return handler


def recover(kind: Kind) -> Handler:
    def handler(call: Call) -> Response:
        return Response(
            200, _live_json(call, kind, call.broker.deletions.recover(call.caller, call.vault, kind, call.name))
        )

    return handler


def purge(kind: Kind) -> Handler:
    def handler(call: Call) -> Response:
        call.broker.deletions.purge(call.caller, call.vault, kind, call.name)
        return Response(204)

    return handler


def backup(kind: Kind) -> Handler:
    def handler(call: Call) -> Response:
        blob = call.broker.backups.backup(call.caller, call.vault, kind, call.name)
        return Response(200, {"value": base64url(blob)})

    return handler


def restore(kind: Kind) -> Handler:
    def handler(call: Call) -> Response:
        blob = from_base64(decode(call.body, BackupJSON).value, "value")
        return Response(200, _live_json(call, kind, call.broker.backups.restore(call.caller, call.vault, kind, blob)))

    return handler


def _live_json(call: Call, kind: Kind, version: Version) -> dict[str, Any]:
    """An object that has come back, a certificate with its policy."""
    if kind is Kind.CERTIFICATE:
        return view_json(call, call.broker.certificates.get(call.vault, version.name, ""))
    return _RENDER[kind](call, version)


def _deleted_json(call: Call, kind: Kind, found: Deleted) -> dict[str, Any]:
    name = found.version.name
    body = _RENDER[kind](call, found.version) | deletion_json(call.links, kind, name, found.deletion)
    return body if found.policy is None else body | {"policy": policy_json(call.links, name, found.policy)}


def register(router: Router) -> None:
    for kind, read in (
        (Kind.SECRET, "secrets/readMetadata/action"),
        (Kind.KEY, "keys/read"),
        (Kind.CERTIFICATE, "certificates/read"),
    ):
        many, word = f"{kind}s", kind.capitalize()
        router.add("GET", f"/{many}", Route(f"{word}List", read, list_objects(kind)))
        router.add("GET", f"/{many}/{{name}}/versions", Route(f"{word}ListVersions", read, list_versions(kind)))
        router.add("GET", f"/deleted{many}", Route(f"{word}ListDeleted", read, list_deleted(kind)))
        for method, pattern, operation, action, handler, writes in (
            ("DELETE", f"/{many}/{{name}}", "Delete", "delete", delete(kind), True),
            ("GET", f"/deleted{many}/{{name}}", "GetDeleted", read.partition("/")[2], get_deleted(kind), False),
            ("POST", f"/deleted{many}/{{name}}/recover", "Recover", "recover/action", recover(kind), True),
            ("DELETE", f"/deleted{many}/{{name}}", "Purge", "purge/action", purge(kind), True),
            ("POST", f"/{many}/{{name}}/backup", "Backup", "backup/action", backup(kind), True),
            ("POST", f"/{many}/restore", "Restore", "restore/action", restore(kind), True),
        ):
            size = _RESTORED if operation == "Restore" else MAX_BODY
            route = Route(f"{word}{operation}", f"{many}/{action}", handler, writes=writes, max_body=size)
            router.add(method, pattern, route)
