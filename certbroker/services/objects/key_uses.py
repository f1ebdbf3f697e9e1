"""Using keys: what is asked of a key is checked against what its owner allows, and the key stays inside."""

from __future__ import annotations

from functools import lru_cache

from cryptography.hazmat.primitives.serialization import load_der_public_key

from certbroker.domain import key_algorithms as algorithms
from certbroker.domain.errors import Disabled, Forbidden, Invalid
from certbroker.domain.key_algorithms import PRIVATE_USES, KeyUse
from certbroker.domain.keys import PrivateKey, PublicKey
from certbroker.domain.objects import Kind, Vault
from certbroker.domain.records import Version
from certbroker.ports.clock import Clock
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.objects.naming import not_found
from certbroker.store.database import SQLiteStore

# A key that is not valid yet, or any more, makes nothing new; what it has made can still be read and checked.
_NEEDS_VALIDITY = (KeyUse.ENCRYPT, KeyUse.SIGN, KeyUse.WRAP)


class KeyUses:
    """Signs, verifies, encrypts and decrypts with keys, those of certificates too."""

    def __init__(self, store: SQLiteStore, seal: Seal, keystore: KeyStore, clock: Clock) -> None:
        self._store = store
        self._seal = seal
        self._keystore = keystore
        self._clock = clock

    def find(self, vault: Vault, name: str, version: str, use: KeyUse) -> Version:
        """A version that may be used so now, by one read that is quick enough for the event loop.

        Raises NotFound; Disabled; Forbidden where the key's operations or its times do not allow it.
        """
        key = (vault.id, Kind.KEY, name, version)
        found = self._store.recall(key, lambda transaction: transaction.objects.get(*key))
        if found is None or found.key is None:
            raise not_found("key", name, version)
        if found.managed and use in PRIVATE_USES and self._is_a_ca(vault, name):
            raise Forbidden(
                f"The key {name} is that of a CA, which signs only what it has checked: use `certbroker ca sign`."
            )
        life = found.attributes
        if not life.enabled and use in PRIVATE_USES:
            raise Disabled("key", f"Operation {use} is not allowed on a disabled key. Enable {name} to use it.")
        if use not in found.key.operations:
            allowed = ", ".join(found.key.operations) or "none"
            raise Forbidden(f"Operation {use} is not permitted on this key: its key_ops are {allowed}.")
        now = self._clock.now().timestamp()
        if use in _NEEDS_VALIDITY and not (life.not_before or 0) <= now < (life.expires or now + 1):
            raise Forbidden(
                f"Operation {use} is not allowed before attributes.nbf of the key, nor from its attributes.exp on. "
                "Change them, or use another version."
            )
        return found

    def sign(self, vault: Vault, found: Version, algorithm: str, digest: bytes) -> bytes:
        """The signature of a digest. Raises Invalid."""
        return algorithms.sign(self._private(vault, found), algorithm, digest)

    def verify(self, found: Version, algorithm: str, digest: bytes, signature: bytes) -> bool:
        """Whether a signature is that of the digest. Raises Invalid."""
        return algorithms.verify(_public(found), algorithm, digest, signature)

    def encrypt(self, found: Version, algorithm: str, plain: bytes) -> bytes:
        """The bytes, so that only this version can decrypt them. Raises Invalid."""
        return algorithms.encrypt(_public(found), algorithm, plain)

    def decrypt(self, vault: Vault, found: Version, algorithm: str, encrypted: bytes) -> bytes:
        """What was encrypted for this version. Raises Invalid."""
        return algorithms.decrypt(self._private(vault, found), algorithm, encrypted)

    def _is_a_ca(self, vault: Vault, name: str) -> bool:
        return bool(self._store.glance().authorities.generations(vault.id, name))

    def _private(self, vault: Vault, found: Version) -> PrivateKey:
        if found.sealed is None:
            raise not_found("key", found.name, found.version)
        return self._keystore.load(self._seal.open(found.identity(vault.id), found.sealed))


def _public(found: Version) -> PublicKey:
    assert found.key is not None
    key = _parsed(found.key.public)
    if not isinstance(key, PublicKey):
        raise Invalid("The key is of a kind that Key Vault has no algorithms for.")
    return key


@lru_cache(maxsize=1024)
def _parsed(public: bytes) -> object:
    return load_der_public_key(public)
