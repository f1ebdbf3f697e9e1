"""The key hierarchy below the seal key.

Each sealed value has a data key of its own, used for exactly one AES-256-GCM message; the data key is wrapped by the
vault's key-encryption key, and that by the seal key. The identity of the row is authenticated data of both messages, so
bytes moved to another row do not open. Deleting the row's wrapped data key makes the value unreadable for good.
"""

from __future__ import annotations

import os
import threading
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certbroker.domain.errors import Sealed
from certbroker.domain.records import Identity, SealedBytes
from certbroker.ports.seal import SealKey, Unreadable, WrappedKey, WrappedKeys
from certbroker.randomness import random_bytes

_NONCE: Final = 12
_DATA: Final = b"certbroker data key 1\0"
_VALUE: Final = b"certbroker value 1\0"

# What AESGCM raises for bytes that it did not make: a tag that does not fit, or a nonce cut short.
_FOREIGN: Final = (InvalidTag, ValueError)


class EnvelopeSeal:
    """Seals values with the keys of their vaults, which it unwraps once and keeps.

    New keys are wrapped with `seal_key`; those that `previous` ones have wrapped are still opened.
    """

    def __init__(self, seal_key: SealKey, keys: WrappedKeys, previous: tuple[SealKey, ...] = ()) -> None:
        self._seal_key = seal_key
        self._seal_keys = {key.id: key for key in (*previous, seal_key)}
        self._keys = keys
        self._lock = threading.Lock()
        self._open: dict[int, AESGCM] = {}
        self._current: dict[int, int] = {}
        self._generation = 0

    @property
    def key_id(self) -> str:
        return self._seal_key.id

    def close(self, identity: Identity, plaintext: bytes) -> SealedBytes:
        kek_id = self._current.get(identity.vault_id)
        if kek_id is None:
            kek_id = self._find_current(identity.vault_id)
        row = identity.encoded()
        drawn = random_bytes(32 + 2 * _NONCE)
        data_key, wrap_nonce, nonce = drawn[:32], drawn[32:-_NONCE], drawn[-_NONCE:]
        dek = wrap_nonce + self._kek(kek_id).encrypt(wrap_nonce, data_key, _DATA + row)
        return SealedBytes(kek_id, dek, nonce + AESGCM(data_key).encrypt(nonce, plaintext, _VALUE + row))

    def open(self, identity: Identity, sealed: SealedBytes) -> bytes:
        row = identity.encoded()
        try:
            data_key = self._kek(sealed.kek).decrypt(sealed.dek[:_NONCE], sealed.dek[_NONCE:], _DATA + row)
            return AESGCM(data_key).decrypt(sealed.payload[:_NONCE], sealed.payload[_NONCE:], _VALUE + row)
        except _FOREIGN:
            raise _unreadable() from None

    def new_kek(self, vault_id: int) -> tuple[str, bytes]:
        return self._seal_key.id, self._seal_key.wrap(os.urandom(32), _context(vault_id))

    def rewrap(self, identity: Identity, sealed: SealedBytes) -> SealedBytes:
        kek_id = self._current.get(identity.vault_id)
        if kek_id is None:
            kek_id = self._find_current(identity.vault_id)
        row = _DATA + identity.encoded()
        nonce = random_bytes(_NONCE)
        try:
            data_key = self._kek(sealed.kek).decrypt(sealed.dek[:_NONCE], sealed.dek[_NONCE:], row)
        except _FOREIGN:
            raise _unreadable() from None
        return SealedBytes(kek_id, nonce + self._kek(kek_id).encrypt(nonce, data_key, row), sealed.payload)

    def reseal(self, kek: WrappedKey) -> tuple[str, bytes]:
        context = _context(kek.vault_id)
        return self._seal_key.id, self._seal_key.wrap(self._unwrapped(kek), context)

    def forget_current(self) -> None:
        with self._lock:
            self._generation += 1
            self._current.clear()

    def discard(self, kek_id: int) -> None:
        with self._lock:
            self._open.pop(kek_id, None)

    def _kek(self, kek_id: int) -> AESGCM:
        return self._open.get(kek_id) or self._unwrap(self._keys.get(kek_id))

    def _find_current(self, vault_id: int) -> int:
        generation = self._generation
        wrapped = self._keys.current(vault_id)
        self._unwrap(wrapped)
        assert wrapped is not None
        with self._lock:
            # A rotation may have come between the look into the database and here. Its key is found at the next call;
            # what is closed with the older one now is rewrapped by the rotation, which waits for those who were that
            # late.
            if generation == self._generation:
                self._current[vault_id] = wrapped.id
        return wrapped.id

    def _unwrap(self, wrapped: WrappedKey | None) -> AESGCM:
        if wrapped is None:
            raise Unreadable("The key-encryption key of the value has been destroyed, or the database is incomplete.")
        key = AESGCM(self._unwrapped(wrapped))
        with self._lock:
            self._open[wrapped.id] = key
        return key

    def _unwrapped(self, kek: WrappedKey) -> bytes:
        seal_key = self._seal_keys.get(kek.seal_id)
        if seal_key is None:
            raise Sealed(f"The key-encryption key needs seal key {kek.seal_id}; {self._seal_key.id} is configured.")
        return seal_key.unwrap(kek.wrapped, _context(kek.vault_id))


def _unreadable() -> Unreadable:
    return Unreadable("The stored value does not belong to its row or has been altered.")


def _context(vault_id: int) -> bytes:
    return b"certbroker vault key 1\0" + str(vault_id).encode()
