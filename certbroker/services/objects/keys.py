"""Keys, as far as certificates have them: the public part of each version."""

from __future__ import annotations

from certbroker.domain.objects import Kind, Vault
from certbroker.domain.records import Version
from certbroker.services.objects.naming import not_found
from certbroker.store.database import SQLiteStore


class Keys:
    """Reads the keys behind certificates."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store

    def get(self, vault: Vault, name: str, version: str) -> Version:
        """The public part of a key version. Raises NotFound."""
        found = self._store.glance().objects.get(vault.id, Kind.KEY, name, version)
        if found is None:
            raise not_found("key", name, version)
        return found
