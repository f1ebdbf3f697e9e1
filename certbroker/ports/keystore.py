"""Where private keys are made and used."""

from __future__ import annotations

from typing import Protocol

from certbroker.domain.keys import KeySpec, PrivateKey


class KeyStore(Protocol):
    """Makes private keys, and turns them into bytes that the seal protects and back.

    Thread-safe. `generate` takes up to a second for RSA and releases the interpreter meanwhile: never call it on the
    event loop.
    """

    def generate(self, spec: KeySpec) -> PrivateKey: ...

    def encode(self, key: PrivateKey) -> bytes:
        """The key as bytes to be sealed. Raises Invalid for a key that may not leave its place."""
        ...

    def load(self, encoded: bytes) -> PrivateKey:
        """The key again, from bytes that `encode` made and the seal has authenticated."""
        ...
