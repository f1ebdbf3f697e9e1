"""Certificates: asking for one, merging an answer, importing, reading, and their policies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from certbroker.domain import chain as chains
from certbroker.domain import operation as states
from certbroker.domain.audit import Caller, record
from certbroker.domain.errors import Forbidden, Invalid, NotFound
from certbroker.domain.objects import Attributes, Changes, Kind, Vault, check_name
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import Operation, Version
from certbroker.domain.revocation import Revocation, seen_from
from certbroker.ports.clock import Clock
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.issuance.completion import Completion, store
from certbroker.services.issuance.creation import (
    Creation,
    Revise,
    check,
    check_renewable,
    is_manual,
    refuse_second,
    revised,
)
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.issuance.operations import Operations
from certbroker.services.objects.foreign import Imported
from certbroker.services.objects.naming import live, new_version, not_found, usable_for_certificate
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction


@dataclass(frozen=True, slots=True)
class CertificateView:
    """A certificate as its owner sees it. `version` has no version number and no chain before the first issuance."""

    version: Version
    policy: CertificatePolicy | None = None
    operation: Operation | None = None
    revocation: Revocation | None = None


class Certificates:
    """What callers do with certificates. The `inbox` is the engine's."""

    def __init__(
        self,
        store: SQLiteStore,
        seal: Seal,
        keystore: KeyStore,
        clock: Clock,
        operations: Operations,
        inbox: Inbox,
    ) -> None:
        self._store = store
        self._seal = seal
        self._keystore = keystore
        self._clock = clock
        self._operations = operations
        self._inbox = inbox

    def create(
        self,
        caller: Caller,
        vault: Vault,
        name: str,
        revise: Revise,
        changes: Changes,
        *,
        preserve_order: bool = False,
        beside: Callable[[SQLTransaction], None] | None = None,
    ) -> Operation:
        """Ask for a new version; the engine makes it. Where a person is the issuer, the CSR is there on return.

        What is to be written `beside` it is so in the same transaction. Raises Invalid, OperationInProgress, Conflict,
        DeletedButRecoverable, and what `beside` raises.
        """
        creation = self._creation(caller, vault, name, revise, changes, preserve_order)

        def work(transaction: SQLTransaction) -> Operation:
            operation = creation.begin(transaction)
            if beside is not None:
                beside(transaction)
            return operation

        operation = self._store.write(work)
        if is_manual(operation.policy):
            self._operations.work(operation)
            return self._store.glance().operations.get(operation.id) or operation
        return self._handed_over(operation)

    async def create_soon(
        self, caller: Caller, vault: Vault, name: str, revise: Revise, changes: Changes, *, preserve_order: bool = False
    ) -> Operation:
        """The same on the event loop, for certificates that have an issuer: nothing but the commit is waited for.

        What is made at once is stored with the same commit.
        """
        creation = self._creation(caller, vault, name, revise, changes, preserve_order)
        with self._store.read() as seen:
            work = creation.at_once(seen)
        settlement = None if work is None else await self._store.write_soon(work)
        if settlement is None:
            return self._handed_over(await self._store.write_soon(creation.begin))
        self._operations.count(settlement)
        return settlement.operation

    def _creation(
        self, caller: Caller, vault: Vault, name: str, revise: Revise, changes: Changes, preserve_order: bool
    ) -> Creation:
        check_name(name)
        return Creation(self._operations, caller, vault, name, revise, changes, preserve_order, self._clock.now())

    def _handed_over(self, operation: Operation) -> Operation:
        """Let the engine go on with it."""
        if operation.fence:
            self._inbox.put(operation)
        else:
            self._inbox.wake()
        return operation

    def import_(
        self,
        caller: Caller,
        vault: Vault,
        name: str,
        imported: Imported,
        revise: Revise,
        changes: Changes,
        *,
        preserve_order: bool = False,
    ) -> CertificateView:
        """Store a certificate that exists already, with its key, as a new version.

        Raises Invalid, OperationInProgress, Conflict, DeletedButRecoverable.
        """
        check_name(name)
        now = self._clock.now()
        key = self._keystore.load(imported.key)
        parsed = chains.parse(imported.certificates)
        ordered = chains.in_order(parsed, key.public_key())
        chains.check_leaf(ordered[0], now)
        described = chains.policy_of(ordered[0])
        version = new_version()

        def work(transaction: SQLTransaction) -> CertificateView:
            head = usable_for_certificate(transaction, vault.id, name)
            refuse_second(transaction, vault, name)
            check_renewable(transaction, vault.id, name, now)
            stored = transaction.objects.policy(vault.id, name)
            base = replace(described, created=stored.created if stored else int(now.timestamp()))
            policy = replace(revise(base), key=described.key, updated=int(now.timestamp()))
            check(transaction, vault, policy)
            transaction.objects.put_policy(vault.id, name, policy)
            completion = Completion(
                vault.id,
                head.name if head else name,
                version,
                policy,
                chains.facts_of(ordered, exportable=policy.exportable, given=parsed if preserve_order else None),
                changes.enabled is not False,
                changes.tags or {},
            )
            versions = completion.versions(self._seal, self._keystore, key, now)
            certificate = store(transaction, vault.id, versions, now)
            transaction.audit(record(caller, now, f"/certificates/{name}/{version}"))
            return CertificateView(certificate, policy, transaction.operations.pending(vault.id, name))

        return self._store.write(work)

    def get(self, vault: Vault, name: str, version: str) -> CertificateView:
        """A version; without a number the current one with its policy and pending operation. Raises NotFound."""
        with self._store.read() as transaction:
            found = transaction.objects.get(vault.id, Kind.CERTIFICATE, name, version)
            revocation = _revocation(transaction, vault, found)
            if version and found is not None:
                return CertificateView(found, revocation=revocation)
            head = transaction.objects.head(vault.id, Kind.CERTIFICATE, name)
            if version or head is None or head.deletion is not None:
                raise not_found("certificate", name, version)
            policy = transaction.objects.policy(vault.id, name)
            operation = transaction.operations.pending(vault.id, name)
            return CertificateView(found or without_version(head.name, policy), policy, operation, revocation)

    def update(
        self, caller: Caller, vault: Vault, name: str, version: str, changes: Changes, revise: Revise | None = None
    ) -> CertificateView:
        """Change the attributes or tags of a version, its key and secret with it, and the policy where that is wanted.

        Raises NotFound, Invalid.
        """
        now = self._clock.now()
        # Validity is the certificate's own: it cannot be written, only enabled and tags can.
        changes = replace(changes, not_before=None, expires=None, content_type=None)
        backing = Changes(enabled=changes.enabled)

        def work(transaction: SQLTransaction) -> CertificateView:
            found = transaction.objects.get(vault.id, Kind.CERTIFICATE, name, version)
            if found is None:
                raise not_found("certificate", name, version)
            if revise is not None:
                stored = transaction.objects.policy(vault.id, name)
                transaction.objects.put_policy(vault.id, name, revised(transaction, vault, name, stored, revise, now))
            seconds = int(now.timestamp())
            changed = transaction.objects.change(vault.id, Kind.CERTIFICATE, found, changes, seconds)
            for kind in (Kind.KEY, Kind.SECRET):
                behind = transaction.objects.get(vault.id, kind, name, found.version)
                if behind is not None:
                    transaction.objects.change(vault.id, kind, behind, backing, seconds)
            transaction.lifecycles.disturb(vault.id, name, now)
            transaction.audit(record(caller, now, f"/certificates/{found.name}/{found.version}"))
            revocation = _revocation(transaction, vault, found)
            if version:
                return CertificateView(changed, revocation=revocation)
            policy = transaction.objects.policy(vault.id, name)
            return CertificateView(changed, policy, transaction.operations.pending(vault.id, name), revocation)

        return self._store.write(work)

    def policy(self, vault: Vault, name: str) -> CertificatePolicy:
        """The policy of a certificate. Raises NotFound."""
        with self._store.read() as transaction:
            live(transaction, vault.id, Kind.CERTIFICATE, name)
            policy = transaction.objects.policy(vault.id, name)
        if policy is None:
            raise not_found("certificate", name)
        return policy

    def update_policy(self, caller: Caller, vault: Vault, name: str, revise: Revise) -> CertificatePolicy:
        """Change the policy, which holds from the next issuance on. Raises NotFound, Invalid."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> CertificatePolicy:
            live(transaction, vault.id, Kind.CERTIFICATE, name)
            stored = transaction.objects.policy(vault.id, name)
            policy = revised(transaction, vault, name, stored, revise, now)
            transaction.objects.put_policy(vault.id, name, policy)
            transaction.lifecycles.disturb(vault.id, name, now)
            transaction.audit(record(caller, now, f"/certificates/{name}/policy"))
            return policy

        return self._store.write(work)

    def operation(self, vault: Vault, name: str, request_id: str | None = None) -> Operation:
        """The pending operation; only when it has this id, if one is given. Raises NotFound."""
        with self._store.read() as transaction:
            return _pending(transaction, vault, name, request_id)

    def cancel(self, caller: Caller, vault: Vault, name: str) -> Operation:
        """Ask that the operation end without a certificate. Raises NotFound, and Forbidden when it has ended."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> Operation:
            operation = _pending(transaction, vault, name, None)
            if states.is_finished(operation.state):
                raise Forbidden("The certificate operation has ended already and cannot be cancelled.")
            transaction.operations.request_cancellation(operation.id, now)
            transaction.audit(record(caller, now, f"/certificates/{name}/pending"))
            return replace(operation, cancellation_requested=True)

        operation = self._store.write(work)
        self._inbox.wake()
        return operation

    def forget_operation(self, caller: Caller, vault: Vault, name: str) -> Operation:
        """Delete the pending operation, whatever its state, with its unfinished key. Raises NotFound."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> Operation:
            operation = _pending(transaction, vault, name, None)
            transaction.operations.remove(vault.id, name, now)
            transaction.lifecycles.disturb(vault.id, name, now)
            transaction.audit(record(caller, now, f"/certificates/{name}/pending"))
            return operation

        operation = self._store.write(work)
        self._inbox.wake()
        return operation

    def merge(
        self, caller: Caller, vault: Vault, name: str, certificates: tuple[bytes, ...], changes: Changes
    ) -> CertificateView:
        """Complete an operation with the certificate that a person brought for its CSR.

        Raises NotFound, Invalid, and Forbidden when the operation is not one that waits for a merge.
        """
        now = self._clock.now()
        parsed = chains.parse(certificates)

        def work(transaction: SQLTransaction) -> CertificateView:
            operation = _pending(transaction, vault, name, None)
            if not isinstance(operation.state, states.AwaitingMerge) or operation.sealed_key is None:
                raise Forbidden(
                    "Only an operation that waits for a merge can be merged: this one has ended or has an issuer."
                )
            key = self._keystore.load(self._seal.open(operation.key_identity, operation.sealed_key))
            try:
                ordered = chains.in_order(parsed, key.public_key())
            except Invalid:
                raise Invalid(
                    "The public key of the end-entity certificate does not match the pending request: merge the "
                    "certificate that was issued for its CSR."
                ) from None
            chains.check_leaf(ordered[0], now)
            if changes.tags is not None or changes.enabled is not None:
                operation = replace(
                    operation,
                    tags=operation.tags if changes.tags is None else changes.tags,
                    enabled=operation.enabled if changes.enabled is None else changes.enabled,
                )
            versions = Completion.of(operation, ordered, parsed).versions(self._seal, self._keystore, key, now)
            certificate = store(transaction, vault.id, versions, now)
            done = replace(operation, state=states.advance(operation.state, states.Issued(), now), sealed_key=None)
            transaction.operations.save(done)
            transaction.audit(record(caller, now, f"/certificates/{name}/{operation.version}", status=201))
            return CertificateView(certificate, transaction.objects.policy(vault.id, name), done)

        return self._store.write(work)


def without_version(name: str, policy: CertificatePolicy | None) -> Version:
    """What stands for a certificate before its first issuance."""
    created, updated = (policy.created, policy.updated) if policy else (0, 0)
    return Version(Kind.CERTIFICATE, name, "", Attributes(created, updated, enabled=False))


def _revocation(transaction: SQLTransaction, vault: Vault, version: Version | None) -> Revocation | None:
    """What is known of the revocation of a version's certificate."""
    if version is None or version.certificate is None:
        return None
    return seen_from(vault.id, version.name, transaction.revocations.of(version.certificate.sha256))


def _pending(transaction: SQLTransaction, vault: Vault, name: str, request_id: str | None) -> Operation:
    operation = transaction.operations.pending(vault.id, name)
    if operation is None or request_id not in (None, operation.id):
        raise NotFound("pending certificate", f"Pending certificate not found: {name} has no such operation.")
    return operation
