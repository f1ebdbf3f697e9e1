"""The key of an operation: made or reused, and safe before anybody outside knows it."""

from __future__ import annotations

from msgspec.structs import replace

from certbroker import background
from certbroker.domain import operation as states
from certbroker.domain.csr import build_csr
from certbroker.domain.keys import PrivateKey, subject_public_key_info
from certbroker.domain.objects import Kind
from certbroker.domain.records import Operation
from certbroker.domain.renewal import Trigger
from certbroker.domain.revocation import key_digest
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.issuer import IssuerKind
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.issuance.journal import LEASE
from certbroker.store.database import SQLiteStore


class OperationKeys:
    """Makes the keys of operations, and finds them again."""

    def __init__(self, store: SQLiteStore, seal: Seal, keystore: KeyStore, clock: Clock) -> None:
        self._store = store
        self._seal = seal
        self._keystore = keystore
        self._clock = clock

    def make(self, operation: Operation, kind: IssuerKind) -> tuple[Operation, PrivateKey]:
        """Make or reuse the key and build the CSR.

        The step is saved at once if the key will be known outside. Where the issuer is local a crash just repeats it.
        """
        key = self._reusable(operation)
        if key is None:
            # The search for primes lets other threads have the interpreter.
            with background.waiting():
                key = self._keystore.generate(operation.policy.key)
        csr = build_csr(operation.policy, key)
        now = self._clock.now()
        made = replace(operation, state=states.advance(operation.state, states.KeyMade(csr, kind.manual), now))
        if kind.local and not kind.manual:
            return made, key
        made = replace(made, sealed_key=self._seal.close(operation.key_identity, self._keystore.encode(key)))
        if not kind.manual:
            failpoint("operation.key.before")
            self._store.write(lambda transaction: transaction.operations.save(made, now + LEASE))
            failpoint("operation.key.after")
        return made, key

    def load(self, operation: Operation) -> PrivateKey:
        """The key of an operation that is past its first step."""
        if operation.sealed_key is None:
            raise AssertionError("an operation past its first step has a key")
        return self._keystore.load(self._seal.open(operation.key_identity, operation.sealed_key))

    def is_compromised(self, key: PrivateKey) -> bool:
        """Whether somebody has reported that meanwhile."""
        public = subject_public_key_info(key.public_key())
        return self._store.glance().revocations.is_compromised(key_digest(public))

    def _reusable(self, operation: Operation) -> PrivateKey | None:
        """The key of the current version, where the policy wants it again, it still fits, and nobody has revoked it.

        One that was made to stay inside is not given to a version whose secret would hold it.
        """
        cause = operation.cause
        if not operation.policy.reuse_key or (cause and (cause.new_key or cause.trigger is Trigger.REVOKED)):
            return None
        current = self._store.glance().objects.get(operation.vault_id, Kind.KEY, operation.name)
        if current is None or current.sealed is None or current.key is None:
            return None
        if self._store.glance().revocations.is_compromised(key_digest(current.key.public)):
            return None
        if operation.policy.exportable and not current.key.exportable:
            return None
        spec = operation.policy.key
        if (current.key.kty, current.key.size, current.key.curve) != (spec.kty, spec.size, spec.curve):
            return None
        return self._keystore.load(self._seal.open(current.identity(operation.vault_id), current.sealed))
