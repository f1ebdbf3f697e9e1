"""The seal: nothing secret is at rest in the clear.

Seal key → the key-encryption key of a vault → one data key for each sealed value → AES-256-GCM over the value.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from certbroker.domain.errors import Sealed
from certbroker.domain.records import Identity, SealedBytes


class Unreadable(Sealed):
    """These bytes never open again, whatever key turns up: they were altered, moved, or their key was destroyed."""


class WrappedKey(Struct, frozen=True):
    """A key-encryption key of a vault, wrapped by the seal key named `seal_id`."""

    id: int
    vault_id: int
    seal_id: str
    wrapped: bytes


class SealKey(Protocol):
    """The key at the top, which never leaves its place. Thread-safe. May block (an HSM does).

    Raises Sealed when it is not at hand.
    """

    @property
    def id(self) -> str:
        """Names the key; the same key has the same name at every start."""
        ...

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """The key in a form that only `unwrap` with the same context undoes."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Raises Unreadable when `wrapped` was not made by this key for this context."""
        ...


class WrappedKeys(Protocol):
    """Where the wrapped key-encryption keys are kept."""

    def get(self, kek_id: int) -> WrappedKey | None: ...

    def current(self, vault_id: int) -> WrappedKey | None: ...


class Seal(Protocol):
    """Closes and opens sealed values. Thread-safe; fast enough for the event loop once a vault's key is cached."""

    def close(self, identity: Identity, plaintext: bytes) -> SealedBytes:
        """Seal a value for the row that `identity` names. Raises Sealed."""
        ...

    def open(self, identity: Identity, sealed: SealedBytes) -> bytes:
        """The value again. Raises Unreadable when the bytes are not those of that row; Sealed as any does."""
        ...

    def new_kek(self, vault_id: int) -> tuple[str, bytes]:
        """A fresh key-encryption key for a vault: the seal key's id and the wrapped key. Raises Sealed."""
        ...


class RotatableSeal(Seal, Protocol):
    """A seal whose keys change while it is in use."""

    @property
    def key_id(self) -> str:
        """The seal key that new key-encryption keys are wrapped with."""
        ...

    def rewrap(self, identity: Identity, sealed: SealedBytes) -> SealedBytes:
        """The same payload, its data key wrapped by the vault's current key-encryption key. Raises as `open` does.

        The payload is not looked at, so it need not be given.
        """
        ...

    def reseal(self, kek: WrappedKey) -> tuple[str, bytes]:
        """A key-encryption key, wrapped by the current seal key instead of an earlier one. Raises Sealed."""
        ...

    def forget_current(self) -> None:
        """The vaults have new key-encryption keys: use those from now on."""
        ...

    def discard(self, kek_id: int) -> None:
        """The key-encryption key has been destroyed: keep no copy."""
        ...
