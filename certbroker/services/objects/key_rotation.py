"""Rotation: keys are made anew by their policy or because somebody asks, and people are told of their end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from certbroker import background
from certbroker.domain.audit import Caller, engine_caller, record
from certbroker.domain.events import EventType, version_event
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.domain.records import Head, Version
from certbroker.domain.rotation import DEFAULT, Deed, Due, RotationPolicy, next_due
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.notification.outbox import publish
from certbroker.services.objects.naming import live, managed, not_found
from certbroker.services.objects.succession import follow_key
from certbroker.services.objects.versions import add_version, key_version
from certbroker.store.database import SQLiteStore
from certbroker.store.rotations import Rotation
from certbroker.store.transaction import SQLTransaction

# Longer than making a key takes, by far.
_LEASE: Final = timedelta(minutes=5)
_EVENTS: Final = {Deed.TELL_OF_END: EventType.KEY_NEAR_EXPIRY, Deed.TELL_IT_ENDED: EventType.KEY_EXPIRED}


class KeyRotation:
    """Keeps rotation policies, and does what they ask for."""

    def __init__(self, store: SQLiteStore, seal: Seal, keystore: KeyStore, clock: Clock) -> None:
        self._store = store
        self._seal = seal
        self._keystore = keystore
        self._clock = clock

    def policy(self, vault: Vault, name: str) -> RotationPolicy:
        """The policy of a key, or what holds where none was set. Raises NotFound."""
        with self._store.read() as transaction:
            live(transaction, vault.id, Kind.KEY, name)
            stored = transaction.rotations.get(vault.id, name)
        return DEFAULT if stored is None or stored.policy is None else stored.policy

    def set_policy(self, caller: Caller, vault: Vault, name: str, policy: RotationPolicy) -> RotationPolicy:
        """Replace the policy of a key. Raises NotFound, Invalid, and Forbidden for the key of a certificate."""
        policy.check()
        now = self._clock.now()
        seconds = int(now.timestamp())

        def work(transaction: SQLTransaction) -> RotationPolicy:
            head = _own(transaction, vault, name)
            stored = transaction.rotations.get(vault.id, name) or Rotation(vault.id, name)
            created = seconds if stored.policy is None else stored.policy.created
            kept = replace(policy, created=created, updated=seconds)
            transaction.rotations.put(replace(stored, policy=kept), None)
            follow_key(transaction, vault.id, name, now)
            transaction.audit(record(caller, now, f"/keys/{head.name}/rotationpolicy"))
            return kept

        return self._store.write(work)

    def rotate(self, caller: Caller, vault: Vault, name: str) -> Version:
        """Make another key of the same kind as a new version. Takes up to a second.

        Raises NotFound, and Forbidden for the key of a certificate.
        """
        with self._store.read() as transaction:
            _own(transaction, vault, name)
            current = transaction.objects.get(vault.id, Kind.KEY, name)
        if current is None:
            raise not_found(Kind.KEY, name)
        now = self._clock.now()
        fresh = self._successor(vault.id, current, self.policy(vault, name), now)
        return self._store.write(lambda transaction: add_version(transaction, caller, vault.id, fresh, now))

    def claim(self, count: int) -> list[Rotation]:
        """Take keys for which something is due; nobody else does before the lease is over."""
        now = self._clock.now()
        if not self._store.glance().rotations.has_due(now):
            return []
        return self._store.write(lambda transaction: transaction.rotations.claim(now, now + _LEASE, count))

    def attend(self, rotation: Rotation) -> None:
        """Do what is due for a key that was claimed, and plan what comes next."""
        now = self._clock.now()
        with self._store.read() as transaction:
            current = transaction.objects.get(rotation.vault_id, Kind.KEY, rotation.name)
        due = None if current is None else _due(rotation, current, now)
        if current is None or due is None or due.at > now:
            self._store.write(lambda transaction: follow_key(transaction, rotation.vault_id, rotation.name, now))
            return
        deed = self._deed(rotation, current, due, now)

        def work(transaction: SQLTransaction) -> None:
            """Do it, if it is still due for this version: somebody may have been here meanwhile."""
            stored = transaction.rotations.get(rotation.vault_id, rotation.name)
            found = transaction.objects.get(rotation.vault_id, Kind.KEY, rotation.name)
            if stored is not None and found is not None and found.version == current.version:
                still = _due(stored, found, now)
                if still is not None and still.deed is due.deed and still.at <= now:
                    deed(transaction, stored)
            follow_key(transaction, rotation.vault_id, rotation.name, now)

        failpoint("rotation.before")
        self._store.write(work)
        failpoint("rotation.after")

    def _deed(
        self, rotation: Rotation, current: Version, due: Due, now: datetime
    ) -> Callable[[SQLTransaction, Rotation], object]:
        """What does what is due, given the rotation as it is stored then."""
        vault_id = rotation.vault_id
        if due.deed is Deed.ROTATE:
            fresh = self._successor(vault_id, current, rotation.policy or DEFAULT, now)
            caller = engine_caller("KeyRotate", str(vault_id), "")
            return lambda transaction, _: add_version(transaction, caller, vault_id, fresh, now)
        event = version_event(_EVENTS[due.deed], vault_id, current, now)

        def tell(transaction: SQLTransaction, stored: Rotation) -> None:
            publish(transaction, event)
            transaction.rotations.put(replace(stored, version=current.version, told=due.deed), None)

        return tell

    def _successor(self, vault_id: int, current: Version, policy: RotationPolicy, now: datetime) -> Version:
        """A version with another key of the same kind, for the same uses. Raises Invalid."""
        facts = current.key
        if facts is None:
            raise not_found(Kind.KEY, current.name)
        spec = KeySpec(facts.kty, facts.size, facts.curve)
        with background.waiting():
            key = self._keystore.generate(spec)
        expires = None if policy.expiry is None else int(policy.expiry.after(now).timestamp())
        changes = Changes(expires=expires, tags=current.tags)
        return key_version(
            self._seal, self._keystore, vault_id, current.name, key, spec, facts.operations, changes, now
        )


def _own(transaction: SQLTransaction, vault: Vault, name: str) -> Head:
    """A key that is no certificate's. Raises NotFound, Forbidden."""
    head = live(transaction, vault.id, Kind.KEY, name)
    if head.managed:
        raise managed(Kind.KEY, name)
    return head


def _due(rotation: Rotation, current: Version, now: datetime) -> Due | None:
    return next_due(rotation.policy or DEFAULT, current.attributes, rotation.told_of(current.version), now)
