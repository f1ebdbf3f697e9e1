"""The seal: nothing secret is at rest in the clear.

Seal key → the key-encryption key of a vault → one data key for each sealed value → AES-256-GCM over the value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from certbroker.domain.records import Identity, SealedBytes


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A key-encryption key of a vault, wrapped by the seal key named `seal_id`."""

    id: int
    vault_id: int
    seal_id: str
    wrapped: bytes


class SealKey(Protocol):
    """The key at the top, which never leaves its place. May block (an HSM does). Raises Sealed when it is not at hand."""

    id: str
    """Names the key; the same key has the same name at every start."""

    def wrap(self, key: bytes, context: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Raises Sealed when `wrapped` was not made by this key for this context."""
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
        """The value again. Raises Sealed when the key is not at hand, or when the bytes are not those of that row."""
        ...

    def new_kek(self, vault_id: int) -> tuple[str, bytes]:
        """A fresh key-encryption key for a vault: the seal key's id and the wrapped key. Raises Sealed."""
        ...
