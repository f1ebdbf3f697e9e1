"""Where private keys are made and used."""

from __future__ import annotations

from typing import Protocol

from certbroker.domain.keys import KeySpec, PrivateKey, SigningKey


class KeyStore(Protocol):
    """Makes private keys, and turns them into bytes that the seal protects and back.

    Thread-safe. `generate` takes up to a second for RSA and releases the interpreter meanwhile: never call it on the
    event loop.
    """

    def generate(self, spec: KeySpec) -> PrivateKey: ...

    def generate_signing(self, spec: KeySpec) -> SigningKey:
        """The same for a key that only signs, such as a CA's, which may be of a kind that Key Vault does not know."""
        ...

    def encode(self, key: SigningKey) -> bytes:
        """The key as bytes to be sealed. Raises Invalid for a key that may not leave its place."""
        ...

    def load(self, encoded: bytes) -> PrivateKey:
        """The key again, from bytes that `encode` made and the seal has authenticated."""
        ...

    def load_signing(self, encoded: bytes) -> SigningKey:
        """The same for a key that `generate_signing` may have made."""
        ...
