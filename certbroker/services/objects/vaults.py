"""Vaults: made, listed and found by name."""

from __future__ import annotations

from typing import Final

from certbroker.domain.audit import Caller, record
from certbroker.domain.errors import Conflict, Invalid, NotFound
from certbroker.domain.objects import VAULT_NAME, Recovery, Vault
from certbroker.ports.clock import Clock
from certbroker.ports.seal import Seal
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

TIERS: Final = ("standard", "premium")
SYSTEM: Final = 0

# Not a vault, but a key-encryption key of its own: backups are outside of the database, so the keys that have sealed
# them are kept when all others are destroyed after a rotation.
BACKUP: Final = -1


class Vaults:
    """The vaults of this broker. Found ones are remembered: a vault never changes its id, name or recovery period."""

    def __init__(self, store: SQLiteStore, seal: Seal, clock: Clock) -> None:
        self._store = store
        self._seal = seal
        self._clock = clock
        self._found: dict[str, Vault] = {}

    def create(
        self, caller: Caller, name: str, *, tier: str = "standard", days: int = 90, purge_protection: bool = False
    ) -> Vault:
        """Make a vault with a key-encryption key of its own. Raises Invalid, Conflict."""
        if VAULT_NAME.fullmatch(name) is None:
            raise Invalid(
                f"The vault name {name[:64]!r} is not allowed: 3 to 24 letters, digits and single hyphens; it begins "
                "with a letter and ends with a letter or digit."
            )
        if tier not in TIERS:
            raise Invalid(f"The tier is one of {', '.join(TIERS)}.")
        if not 7 <= days <= 90:
            raise Invalid("Deleted objects are kept for 7 to 90 days.")
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> Vault:
            if transaction.vaults.find(name) is not None:
                raise Conflict(f"There is a vault named {name} already.")
            wanted = Vault(0, name, tier, Recovery(days, purge_protection), int(now.timestamp()))
            vault_id = transaction.vaults.add(wanted)
            transaction.vaults.add_kek(vault_id, *self._seal.new_kek(vault_id), wanted.created)
            transaction.audit(record(caller, now, f"/vaults/{name}"))
            return Vault(vault_id, name, tier, wanted.recovery, wanted.created)

        return self._store.write(work)

    def ensure_system(self) -> None:
        """Make the broker's own key-encryption keys at the first start."""
        now = int(self._clock.now().timestamp())

        def work(transaction: SQLTransaction) -> None:
            for own in (SYSTEM, BACKUP):
                if transaction.vaults.current_kek(own) is None:
                    transaction.vaults.add_kek(own, *self._seal.new_kek(own), now)

        self._store.write(work)

    def listing(self) -> list[Vault]:
        return self._store.glance().vaults.listing()

    def find(self, name: str) -> Vault:
        """The vault of this name, without regard to case. Raises NotFound."""
        key = name.lower()
        vault = self._found.get(key)
        if vault is None:
            vault = self._store.glance().vaults.find(key)
            if vault is None:
                raise NotFound("vault", f"There is no vault named {name[:64]} here.")
            self._found[key] = vault
        return vault
