"""Asking for a new version of a certificate: what that depends on, and the operation that makes it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from certbroker.domain import operation as states
from certbroker.domain.audit import Caller, record
from certbroker.domain.csr import check_expressible
from certbroker.domain.errors import Invalid, OperationInProgress
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.domain.policy import SELF, UNKNOWN, CertificatePolicy
from certbroker.domain.records import Head, Operation
from certbroker.services.issuance.operations import Operations
from certbroker.services.issuance.steps import Settlement
from certbroker.services.objects.naming import check_not_a_ca, usable_for_certificate
from certbroker.store.transaction import SQLTransaction

Revise = Callable[[CertificatePolicy | None], CertificatePolicy]
"""Makes the new policy out of the one that is stored, or out of nothing. Raises Invalid."""


class Ground(Struct, frozen=True):
    """What is there under the name of a certificate: all that a new operation depends on.

    `settled` means that there is an operation that has ended, which makes room for the new one.
    """

    head: Head | None = None
    settled: bool = False
    policy: CertificatePolicy | None = None


class Creation(Struct, frozen=True):
    """A request for a new version."""

    operations: Operations
    caller: Caller
    vault: Vault
    name: str
    revise: Revise
    changes: Changes
    preserve_order: bool
    now: datetime

    def begin(self, transaction: SQLTransaction) -> Operation:
        """Store an operation, with which the engine goes on.

        Raises Invalid, OperationInProgress, Conflict, DeletedButRecoverable.
        """
        ground = ground_of(transaction, self.vault, self.name)
        operation = self._planned(transaction, ground)
        if ground.head is None:
            transaction.objects.reserve(self.vault.id, Kind.CERTIFICATE, self.name)
        self._store(transaction, ground, operation)
        return operation

    def at_once(self, seen: SQLTransaction) -> Callable[[SQLTransaction], Settlement | None] | None:
        """Make the certificate already, where that is quick, and return what stores it together with its operation.

        That does nothing and returns None when what has been `seen` has changed. Raises as `begin` does.
        """
        ground = ground_of(seen, self.vault, self.name)
        operation = self._planned(seen, ground)
        settlement = self.operations.steps.at_once(operation)
        if settlement is None:
            return None

        def work(transaction: SQLTransaction) -> Settlement | None:
            if ground_of(transaction, self.vault, self.name) != ground:
                return None
            self._store(transaction, ground, settlement.after or operation)
            settlement.write(transaction)
            return settlement

        return work

    def _planned(self, transaction: SQLTransaction, ground: Ground) -> Operation:
        policy = revised(transaction, self.vault, self.name, ground.policy, self.revise, self.now)
        return self.operations.plan(
            self.vault.id,
            ground.head.name if ground.head else self.name,
            policy,
            self.now,
            tags=self.changes.tags or {},
            enabled=self.changes.enabled is not False,
            preserve_order=self.preserve_order,
        )

    def _store(self, transaction: SQLTransaction, ground: Ground, operation: Operation) -> None:
        if ground.settled:
            transaction.operations.retire(self.vault.id, self.name)
        transaction.objects.put_policy(self.vault.id, self.name, operation.policy)
        self.operations.add(transaction, operation)
        transaction.audit(record(self.caller, self.now, f"/certificates/{self.name}/pending", status=202))


def ground_of(transaction: SQLTransaction, vault: Vault, name: str) -> Ground:
    """What there is. Raises OperationInProgress, Conflict, DeletedButRecoverable."""
    head = usable_for_certificate(transaction, vault.id, name)
    if head is None:  # Policies and operations go together with the object.
        return Ground()
    settled = refuse_second(transaction, vault, name)
    return Ground(head, settled, transaction.objects.policy(vault.id, name))


def refuse_second(transaction: SQLTransaction, vault: Vault, name: str) -> bool:
    """A name has one unfinished operation at most. Returns whether it has a finished one."""
    operation = transaction.operations.pending(vault.id, name)
    if operation is not None and not states.is_finished(operation.state):
        raise OperationInProgress(
            f"A new certificate for {name} cannot be made while its pending operation is in progress: wait for it, "
            "cancel it, or delete it."
        )
    return operation is not None


def revised(
    transaction: SQLTransaction,
    vault: Vault,
    name: str,
    stored: CertificatePolicy | None,
    revise: Revise,
    now: datetime,
) -> CertificatePolicy:
    """The new policy, checked, with its times. Raises Invalid, and Forbidden for the certificate of a CA."""
    seconds = int(now.timestamp())
    wanted = revise(stored)
    created = stored.created if stored else seconds
    policy = replace(wanted, key=wanted.key.complete("key_props."), created=created, updated=seconds)
    check(transaction, vault, policy)
    if stored is not None:
        check_renewable(transaction, vault.id, name, now)
    if stored is not None and policy.exportable and policy.reuse_key:
        key = transaction.objects.get(vault.id, Kind.KEY, name)
        if key is not None and key.key is not None and not key.key.exportable:
            raise Invalid(
                "key_props.exportable cannot become true together with key_props.reuse_key: the key that is there was "
                "made to stay in the vault. Set reuse_key to false, and the next version has another key."
            )
    return policy


def check_renewable(transaction: SQLTransaction, vault_id: int, name: str, now: datetime) -> None:
    """Raise Forbidden for the certificate of a CA, which only the CA itself renews."""
    advice = f"renew it with `certbroker ca renew {name}`, or choose another name"
    check_not_a_ca(transaction, vault_id, name, now, advice)


def check(transaction: SQLTransaction, vault: Vault, policy: CertificatePolicy) -> None:
    """Raise Invalid where nothing could be issued by this policy, rather than let the engine find out."""
    policy.check()
    check_expressible(policy)
    if is_manual(policy) or policy.issuer.lower() == SELF.lower():
        return
    for name in policy.issuers:
        if transaction.issuers.get(vault.id, name) is None:
            raise Invalid(
                f"issuer.name {name[:64]!r} is neither Self nor Unknown nor an issuer of this vault; set it first."
            )


def is_manual(policy: CertificatePolicy) -> bool:
    """Whether a person is the issuer."""
    return policy.issuer.lower() == UNKNOWN.lower()
