"""Secrets: values under names, with versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from certbroker.domain.audit import Caller
from certbroker.domain.bundle import bundle
from certbroker.domain.errors import Disabled, Invalid
from certbroker.domain.objects import Changes, Kind, Vault, check_name
from certbroker.domain.policy import PKCS12
from certbroker.domain.records import Version
from certbroker.ports.clock import Clock
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.objects.naming import new_version, not_found
from certbroker.services.objects.versions import add_version, change_version, check_changes
from certbroker.store.database import SQLiteStore

MAX_VALUE_BYTES: Final = 25 * 1024


@dataclass(frozen=True, slots=True)
class Secret:
    """A version of a secret with its value in the clear."""

    version: Version
    value: str

    def __repr__(self) -> str:
        return f"Secret({self.version.name!r})"


class Secrets:
    """Set, read and change secrets. The secret of a certificate is read here and changed through the certificate."""

    def __init__(self, store: SQLiteStore, seal: Seal, keystore: KeyStore, clock: Clock) -> None:
        self._store = store
        self._seal = seal
        self._keystore = keystore
        self._clock = clock

    def set(self, caller: Caller, vault: Vault, name: str, value: str, changes: Changes) -> Version:
        """Store a new version. Raises Invalid, DeletedButRecoverable, Forbidden for a certificate's secret."""
        check_name(name)
        if len(value.encode("utf-8", "surrogatepass")) > MAX_VALUE_BYTES:
            raise Invalid(f"The value is longer than {MAX_VALUE_BYTES} bytes.")
        check_changes(changes)
        now = self._clock.now()
        fresh = Version(
            Kind.SECRET,
            name,
            new_version(),
            changes.attributes(int(now.timestamp())),
            changes.tags or {},
            changes.content_type,
        )
        fresh = replace(fresh, sealed=self._seal.close(fresh.identity(vault.id), value.encode()))
        return self._store.write(lambda transaction: add_version(transaction, caller, vault.id, fresh, now))

    def find(self, vault: Vault, name: str, version: str) -> Version:
        """A version without its value, by one read that is quick enough for the event loop.

        Raises NotFound, Disabled.
        """
        key = (vault.id, Kind.SECRET, name, version)
        found = self._store.recall(key, lambda transaction: transaction.objects.get(*key))
        if found is None:
            raise not_found("secret", name, version)
        if not found.attributes.enabled:
            raise Disabled("secret", f"Operation get is not allowed on a disabled secret. Enable {name} to read it.")
        return found

    def reveal(self, vault: Vault, found: Version) -> str:
        """The value of a version that `find` gave."""
        if found.sealed is not None:
            return self._seal.open(found.identity(vault.id), found.sealed).decode()
        return self._compose(vault, found)

    def _compose(self, vault: Vault, found: Version) -> str:
        """The secret of a certificate is not stored: it is made from the certificate and its key."""
        with self._store.read() as transaction:
            certificate = transaction.objects.get(vault.id, Kind.CERTIFICATE, found.name, found.version)
            key = transaction.objects.get(vault.id, Kind.KEY, found.name, found.version)
        if certificate is None or certificate.certificate is None or key is None or key.sealed is None:
            raise not_found("secret", found.name, found.version)
        exportable = certificate.certificate.exportable
        private = self._keystore.load(self._seal.open(key.identity(vault.id), key.sealed)) if exportable else None
        return bundle(found.content_type or PKCS12, certificate.certificate, private)

    def update(self, caller: Caller, vault: Vault, name: str, version: str, changes: Changes) -> Version:
        """Change the attributes, tags or content type of a version. Raises NotFound, Invalid."""
        check_changes(changes)
        now = self._clock.now()
        return self._store.write(
            lambda transaction: change_version(transaction, caller, vault.id, Kind.SECRET, name, version, changes, now)
        )
