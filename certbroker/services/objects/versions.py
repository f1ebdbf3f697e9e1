"""Versions of secrets and keys that stand alone: made, stored, and changed."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec.structs import replace

from certbroker.domain.audit import Caller, record
from certbroker.domain.errors import Invalid
from certbroker.domain.keys import KeySpec, PrivateKey, subject_public_key_info
from certbroker.domain.objects import Changes, Kind, object_path
from certbroker.domain.records import KeyFacts, Version
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.notification.outbox import publish_versions
from certbroker.services.objects.naming import new_version, not_found, usable
from certbroker.services.objects.succession import follow_key
from certbroker.store.transaction import SQLTransaction

_MAX_CONTENT_TYPE: Final = 255


def check_changes(changes: Changes) -> None:
    """Raise Invalid for a content type that is too long."""
    if len(changes.content_type or "") > _MAX_CONTENT_TYPE:
        raise Invalid(f"contentType is longer than {_MAX_CONTENT_TYPE} characters.")


def add_version(transaction: SQLTransaction, caller: Caller, vault_id: int, fresh: Version, now: datetime) -> Version:
    """Store a new version and tell of it; return it under the spelling that its name has.

    Raises DeletedButRecoverable, and Forbidden for what belongs to a certificate.
    """
    head = usable(transaction, vault_id, fresh.kind, fresh.name)
    version = fresh if head is None else replace(fresh, name=head.name)
    transaction.objects.add(vault_id, version)
    publish_versions(transaction, vault_id, version)
    transaction.audit(record(caller, now, object_path(fresh.kind, fresh.name, fresh.version)))
    if version.kind is Kind.KEY:
        follow_key(transaction, vault_id, version.name, now)
    return version


def key_version(
    seal: Seal,
    keystore: KeyStore,
    vault_id: int,
    name: str,
    key: PrivateKey,
    spec: KeySpec,
    operations: tuple[str, ...],
    changes: Changes,
    now: datetime,
) -> Version:
    """A version that holds a private key, which is not to leave the vault."""
    public = subject_public_key_info(key.public_key())
    fresh = Version(
        Kind.KEY,
        name,
        new_version(),
        changes.attributes(int(now.timestamp())),
        changes.tags or {},
        key=KeyFacts(spec.kty, spec.size, spec.curve, operations, exportable=False, public=public),
    )
    return replace(fresh, sealed=seal.close(fresh.identity(vault_id), keystore.encode(key)))


def change_version(
    transaction: SQLTransaction,
    caller: Caller,
    vault_id: int,
    kind: Kind,
    name: str,
    version: str,
    changes: Changes,
    now: datetime,
) -> Version:
    """Change the attributes, tags or content type of a version; return it as it is then.

    Raises NotFound, and Forbidden for what belongs to a certificate.
    """
    found = transaction.objects.get(vault_id, kind, name, version)
    if found is None:
        raise not_found(kind, name, version)
    usable(transaction, vault_id, kind, name)
    transaction.audit(record(caller, now, object_path(kind, found.name, found.version)))
    changed = transaction.objects.change(vault_id, kind, found, changes, int(now.timestamp()))
    if kind is Kind.KEY:
        follow_key(transaction, vault_id, name, now)
    return changed
