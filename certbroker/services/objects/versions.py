"""Versions of secrets and keys that stand alone: stored, and changed."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec.structs import replace

from certbroker.domain.audit import Caller, record
from certbroker.domain.errors import Invalid
from certbroker.domain.objects import Changes, Kind, Vault, object_path
from certbroker.domain.records import Version
from certbroker.services.notification.outbox import publish_versions
from certbroker.services.objects.naming import not_found, usable
from certbroker.store.transaction import SQLTransaction

_MAX_CONTENT_TYPE: Final = 255


def check_changes(changes: Changes) -> None:
    """Raise Invalid for a content type that is too long."""
    if len(changes.content_type or "") > _MAX_CONTENT_TYPE:
        raise Invalid(f"contentType is longer than {_MAX_CONTENT_TYPE} characters.")


def add_version(transaction: SQLTransaction, caller: Caller, vault: Vault, fresh: Version, now: datetime) -> Version:
    """Store a new version and tell of it; return it under the spelling that its name has.

    Raises DeletedButRecoverable, and Forbidden for what belongs to a certificate.
    """
    head = usable(transaction, vault.id, fresh.kind, fresh.name)
    version = fresh if head is None else replace(fresh, name=head.name)
    transaction.objects.add(vault.id, version)
    publish_versions(transaction, vault.id, version)
    transaction.audit(record(caller, now, object_path(fresh.kind, fresh.name, fresh.version)))
    return version


def change_version(
    transaction: SQLTransaction,
    caller: Caller,
    vault: Vault,
    kind: Kind,
    name: str,
    version: str,
    changes: Changes,
    now: datetime,
) -> Version:
    """Change the attributes, tags or content type of a version; return it as it is then.

    Raises NotFound, and Forbidden for what belongs to a certificate.
    """
    found = transaction.objects.get(vault.id, kind, name, version)
    if found is None:
        raise not_found(kind, name, version)
    usable(transaction, vault.id, kind, name)
    transaction.audit(record(caller, now, object_path(kind, found.name, found.version)))
    return transaction.objects.change(vault.id, kind, found, changes, int(now.timestamp()))
