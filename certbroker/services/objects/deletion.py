"""Deleting, recovering and purging, for all three kinds. A certificate takes its key and secret along."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from certbroker.domain.audit import Caller, engine_caller, record
from certbroker.domain.errors import Forbidden
from certbroker.domain.objects import Deletion, Kind, Vault
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import Version
from certbroker.ports.clock import Clock
from certbroker.services.objects import succession
from certbroker.services.objects.certificates import without_version
from certbroker.services.objects.naming import check_not_a_ca, live, managed, not_found, with_backing
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

_DAY: Final = 86_400
_PURGES_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Deleted:
    """A deleted object: its current version, and the policy if it is a certificate."""

    version: Version
    deletion: Deletion
    policy: CertificatePolicy | None = None


class Deletions:
    """Soft delete: a deleted object can be recovered until its vault's recovery period is over, or it is purged."""

    def __init__(self, store: SQLiteStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def delete(self, caller: Caller, vault: Vault, kind: Kind, name: str) -> Deleted:
        """Delete an object with all its versions. Raises NotFound, and Forbidden for what belongs to a certificate."""
        now = self._clock.now()
        seconds = int(now.timestamp())
        deletion = Deletion(seconds, seconds + vault.recovery.days * _DAY)

        def work(transaction: SQLTransaction) -> Deleted:
            head = live(transaction, vault.id, kind, name)
            if head.managed:
                raise managed(kind, name)
            if kind is Kind.CERTIFICATE:
                advice = f"its CRLs need its key, so delete the CA first, with `certbroker ca delete {head.name}`"
                check_not_a_ca(transaction, vault.id, head.name, now, advice)
            for each in with_backing(kind):
                transaction.objects.mark(vault.id, each, name, deletion)
            if kind is Kind.CERTIFICATE:
                transaction.operations.remove(vault.id, name, now)
                transaction.lifecycles.remove(vault.id, name)
                transaction.endpoints.rest(vault.id, name)
                transaction.deployments.disturb(vault.id, name, now)
                transaction.watches.remove(vault.id, name)
                transaction.sources.leave_all(vault.id, name.lower())
            if kind is Kind.KEY:
                succession.follow_key(transaction, vault.id, name, now)
            transaction.audit(record(caller, now, f"/{kind}s/{head.name}"))
            return _deleted(transaction, vault, kind, name)

        return self._store.write(work)

    def get(self, vault: Vault, kind: Kind, name: str) -> Deleted:
        """A deleted object. Raises NotFound."""
        with self._store.read() as transaction:
            return _deleted(transaction, vault, kind, name)

    def recover(self, caller: Caller, vault: Vault, kind: Kind, name: str) -> Version:
        """Make a deleted object live again. Raises NotFound."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> Version:
            found = _deleted(transaction, vault, kind, name).version
            for each in with_backing(kind):
                transaction.objects.mark(vault.id, each, name, None)
            if kind is Kind.CERTIFICATE:
                succession.resume(transaction, vault.id, name, now)
            if kind is Kind.KEY:
                succession.follow_key(transaction, vault.id, name, now)
            transaction.audit(record(caller, now, f"/deleted{kind}s/{found.name}"))
            return found

        return self._store.write(work)

    def purge(self, caller: Caller, vault: Vault, kind: Kind, name: str) -> None:
        """Delete for good. Raises NotFound, and Forbidden in a vault with purge protection."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> None:
            found = _deleted(transaction, vault, kind, name)
            if vault.recovery.purge_protection:
                raise Forbidden(
                    f"Operation purge is not allowed because purge protection is enabled for this vault: {name} goes "
                    f"by itself on {datetime.fromtimestamp(found.deletion.scheduled_purge, now.tzinfo):%Y-%m-%d}."
                )
            _remove(transaction, vault.id, kind, name, now)
            transaction.audit(record(caller, now, f"/deleted{kind}s/{found.version.name}", status=204))

        self._store.write(work)

    def purge_due(self) -> int:
        """Purge what has been deleted for its vault's whole recovery period; return how many objects went."""
        now = self._clock.now()
        seconds = int(now.timestamp())
        if not self._store.glance().objects.due_for_purge(seconds, 1):
            return 0

        def work(transaction: SQLTransaction) -> int:
            due = transaction.objects.due_for_purge(seconds, _PURGES_AT_ONCE)
            for vault_id, kind, name in due:
                _remove(transaction, vault_id, kind, name, now)
                transaction.audit(
                    record(
                        engine_caller(f"{kind.capitalize()}Purge", str(vault_id), ""), now, f"/deleted{kind}s/{name}"
                    )
                )
            return len(due)

        return self._store.write(work)


def _deleted(transaction: SQLTransaction, vault: Vault, kind: Kind, name: str) -> Deleted:
    head = transaction.objects.head(vault.id, kind, name)
    if head is None or head.deletion is None or head.managed:
        raise not_found(f"deleted {kind}", name)
    policy = transaction.objects.policy(vault.id, name) if kind is Kind.CERTIFICATE else None
    # A certificate may never have had a version, only an operation.
    found = transaction.objects.get_deleted(vault.id, kind, name) or without_version(head.name, policy)
    return Deleted(found, head.deletion, policy)


def _remove(transaction: SQLTransaction, vault_id: int, kind: Kind, name: str, now: datetime) -> None:
    for each in with_backing(kind):
        transaction.objects.remove(vault_id, each, name)
    if kind is Kind.KEY:
        transaction.rotations.remove(vault_id, name)
    if kind is Kind.CERTIFICATE:
        transaction.objects.remove_policy(vault_id, name)
        transaction.operations.remove(vault_id, name, now)
        transaction.endpoints.remove_all(vault_id, name)
