"""Keys that stand alone, and the public part of those that stand behind certificates."""

from __future__ import annotations

from msgspec.structs import replace

from certbroker.domain.audit import Caller
from certbroker.domain.key_algorithms import USES, KeyUse
from certbroker.domain.keys import KeySpec, PrivateKey, spec_of
from certbroker.domain.objects import Changes, Kind, Vault, check_name
from certbroker.domain.records import Version
from certbroker.ports.clock import Clock
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.objects.naming import not_found, usable
from certbroker.services.objects.versions import add_version, change_version, key_version
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction


class Keys:
    """Make, import, read and change keys. What is behind a certificate is read here and changed through it."""

    def __init__(self, store: SQLiteStore, seal: Seal, keystore: KeyStore, clock: Clock) -> None:
        self._store = store
        self._seal = seal
        self._keystore = keystore
        self._clock = clock

    def create(
        self, caller: Caller, vault: Vault, name: str, spec: KeySpec, uses: tuple[KeyUse, ...] | None, changes: Changes
    ) -> Version:
        """Make a key as a new version; without `uses` it may do all that keys of its kind can. Takes up to a second.

        Raises Invalid, DeletedButRecoverable, Forbidden for a certificate's key.
        """
        spec = self._wanted(vault, name, spec)
        return self._add(caller, vault, name, self._keystore.generate(spec), spec, uses, changes)

    def import_(
        self, caller: Caller, vault: Vault, name: str, encoded: bytes, uses: tuple[KeyUse, ...] | None, changes: Changes
    ) -> Version:
        """Store a key that exists already, in PKCS#8, as a new version. Raises the same."""
        key = self._keystore.load(encoded)
        return self._add(caller, vault, name, key, self._wanted(vault, name, spec_of(key.public_key())), uses, changes)

    def get(self, vault: Vault, name: str, version: str) -> Version:
        """The public part of a key version. Raises NotFound."""
        found = self._store.glance().objects.get(vault.id, Kind.KEY, name, version)
        if found is None:
            raise not_found("key", name, version)
        return found

    def update(
        self,
        caller: Caller,
        vault: Vault,
        name: str,
        version: str,
        uses: tuple[KeyUse, ...] | None,
        changes: Changes,
    ) -> Version:
        """Change the attributes or tags of a version, or what it may be used for.

        Raises NotFound, and Forbidden for a certificate's key.
        """
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> Version:
            changed = change_version(transaction, caller, vault.id, Kind.KEY, name, version, changes, now)
            if uses is None or changed.key is None:
                return changed
            return transaction.objects.change_key(vault.id, changed, replace(changed.key, operations=uses))

        return self._store.write(work)

    def _wanted(self, vault: Vault, name: str, spec: KeySpec) -> KeySpec:
        """The whole spec, if the name can be had: before the work, to spare it. Raises as `create`."""
        check_name(name)
        with self._store.read() as transaction:
            usable(transaction, vault.id, Kind.KEY, name)
        return spec.complete()

    def _add(
        self,
        caller: Caller,
        vault: Vault,
        name: str,
        key: PrivateKey,
        spec: KeySpec,
        uses: tuple[KeyUse, ...] | None,
        changes: Changes,
    ) -> Version:
        now = self._clock.now()
        operations = USES[spec.family] if uses is None else uses
        fresh = key_version(self._seal, self._keystore, vault.id, name, key, spec, operations, changes, now)
        return self._store.write(lambda transaction: add_version(transaction, caller, vault.id, fresh, now))
