"""Backup and restore of single objects, as opaque blobs that only this broker can open."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec.structs import replace

from certbroker.domain.audit import Caller, record
from certbroker.domain.errors import Conflict, Invalid
from certbroker.domain.objects import Kind, Vault
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import Identity, SealedBytes, Version
from certbroker.domain.rotation import RotationPolicy
from certbroker.ports.clock import Clock
from certbroker.ports.seal import Seal, Unreadable
from certbroker.services.objects import succession
from certbroker.services.objects.naming import deleted_but_recoverable, live, managed, usable, with_backing
from certbroker.services.objects.vaults import BACKUP
from certbroker.store.database import SQLiteStore
from certbroker.store.rotations import Rotation
from certbroker.store.transaction import SQLTransaction

MAX_VERSIONS: Final = 500
MAX_BYTES: Final = 24 * 1024 * 1024
"""Of a backup. Secrets have 25 KB at most, so that 500 versions of one fit."""

_MAGIC: Final = b"CBB1"

# What a database takes as an integer; the blob comes from outside.
_Number = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class _Saved(msgspec.Struct, frozen=True):
    """One version, with what was sealed in the clear; the whole is sealed again."""

    version: Version
    value: bytes | None


class _Contents(msgspec.Struct, frozen=True):
    kind: Kind
    name: str
    current: str
    saved: tuple[_Saved, ...]
    policy: CertificatePolicy | None = None
    rotation: RotationPolicy | None = None


class Backups:
    """Makes and restores backups. A certificate's backup holds its keys and secrets too."""

    def __init__(self, store: SQLiteStore, seal: Seal, clock: Clock) -> None:
        self._store = store
        self._seal = seal
        self._clock = clock

    def backup(self, caller: Caller, vault: Vault, kind: Kind, name: str) -> bytes:
        """All versions of an object in one sealed blob. Raises NotFound; Forbidden for a part of a certificate."""
        with self._store.read() as transaction:
            head = live(transaction, vault.id, kind, name)
            if head.managed:
                raise managed(kind, name)
            versions = [
                version
                for each in with_backing(kind)
                for version in transaction.objects.all_versions(vault.id, each, name)
            ]
            policy = transaction.objects.policy(vault.id, name) if kind is Kind.CERTIFICATE else None
            rotation = transaction.rotations.get(vault.id, name) if kind is Kind.KEY else None
        if len(versions) > MAX_VERSIONS * len(with_backing(kind)):
            raise Invalid(f"{name} has more than {MAX_VERSIONS} versions, which is the most that a backup holds.")
        saved = tuple(_Saved(version, self._open(vault, version)) for version in versions)
        contents = _Contents(
            kind, head.name, head.current, saved, policy, None if rotation is None else rotation.policy
        )
        sealed = self._seal.close(_identity(kind), msgspec.msgpack.encode(contents))
        blob = _MAGIC + msgspec.msgpack.encode((sealed.kek, sealed.dek, sealed.payload))
        if len(blob) > MAX_BYTES:
            raise Invalid(
                f"A backup of {name} would have {len(blob)} bytes, and {MAX_BYTES} are the most that can be restored."
            )
        self._store.audit(record(caller, self._clock.now(), f"/{kind}s/{head.name}/backup"))
        return blob

    def restore(self, caller: Caller, vault: Vault, kind: Kind, blob: bytes) -> Version:
        """Store what a backup holds and return its current version. Raises Invalid, Conflict, Sealed."""
        contents = self._contents(kind, blob)
        now = self._clock.now()
        fresh = [replace(each.version, sealed=self._close(vault, each)) for each in contents.saved]

        def work(transaction: SQLTransaction) -> Version:
            for each in with_backing(kind):
                head = transaction.objects.head(vault.id, each, contents.name)
                if head is not None and head.deletion is not None:
                    raise deleted_but_recoverable(each, contents.name)
                if head is not None:
                    raise Conflict(f"The {each} {contents.name} cannot be restored: one of that name is there already.")
            usable(transaction, vault.id, kind, contents.name)
            transaction.objects.add(vault.id, *fresh)
            for each in with_backing(kind):
                transaction.objects.set_current(vault.id, each, contents.name, contents.current)
            if contents.policy is not None:
                transaction.objects.put_policy(vault.id, contents.name, contents.policy)
            if kind is Kind.CERTIFICATE:
                succession.resume(transaction, vault.id, contents.name, now)
            if contents.rotation is not None:
                transaction.rotations.put(Rotation(vault.id, contents.name, contents.rotation), None)
            if kind is Kind.KEY:
                succession.follow_key(transaction, vault.id, contents.name, now)
            restored = transaction.objects.get(vault.id, kind, contents.name)
            if restored is None:
                raise Invalid("The backup holds no version.")
            transaction.audit(record(caller, now, f"/{kind}s/{contents.name}"))
            return restored

        return self._store.write(work)

    def _contents(self, kind: Kind, blob: bytes) -> _Contents:
        if not blob.startswith(_MAGIC):
            raise Invalid("The value is not a backup that this broker has made.")
        try:
            kek, dek, payload = msgspec.msgpack.decode(blob[len(_MAGIC) :], type=tuple[_Number, bytes, bytes])
            plain = self._seal.open(_identity(kind), SealedBytes(kek, dek, payload))
            return msgspec.msgpack.decode(plain, type=_Contents)
        except (msgspec.MsgspecError, Unreadable):
            raise Invalid(
                f"The value is not a backup of a {kind} that this broker has made, or it was altered."
            ) from None

    def _open(self, vault: Vault, version: Version) -> bytes | None:
        if version.sealed is None:
            return None
        return self._seal.open(version.identity(vault.id), version.sealed)

    def _close(self, vault: Vault, saved: _Saved) -> SealedBytes | None:
        if saved.value is None:
            return None
        return self._seal.close(saved.version.identity(vault.id), saved.value)


def _identity(kind: Kind) -> Identity:
    return Identity(BACKUP, "backup", kind, "")
