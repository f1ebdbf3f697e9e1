"""Private keys in software: standard tier."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from certbroker.domain.errors import Invalid
from certbroker.domain.keys import CURVES, KeySpec, PrivateKey, SigningKey

# Kinds that Key Vault does not know: no policy asks for them, only a CA does.
_SIGNING_ONLY: Final[dict[str, Callable[[], SigningKey]]] = {
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "ML-DSA-44": mldsa.MLDSA44PrivateKey.generate,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate,
    "ML-DSA-87": mldsa.MLDSA87PrivateKey.generate,
}


class SoftwareKeyStore:
    """Keys as PKCS#8 in DER."""

    def generate(self, spec: KeySpec) -> PrivateKey:
        spec = spec.complete()
        if spec.hsm:
            raise Invalid(f"{spec.kty} keys need a vault of tier premium with an HSM; use {spec.family}.")
        if spec.curve is not None:
            return ec.generate_private_key(CURVES[spec.curve]())
        return rsa.generate_private_key(65537, spec.size or 2048)

    def generate_signing(self, spec: KeySpec) -> SigningKey:
        make = _SIGNING_ONLY.get(spec.curve or "")
        return self.generate(spec) if make is None else make()

    def encode(self, key: SigningKey) -> bytes:
        return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def load(self, encoded: bytes) -> PrivateKey:
        key = _load(encoded)
        if not isinstance(key, PrivateKey):
            raise Invalid("The stored key is of a kind that only signs.")
        return key

    def load_signing(self, encoded: bytes) -> SigningKey:
        return _load(encoded)


@lru_cache(maxsize=256)
def _load(encoded: bytes) -> SigningKey:
    # The bytes come from `encode` and were authenticated by the seal. Checking the primes again costs 49 to 450 ms in
    # which the interpreter stands still.
    key = load_der_private_key(encoded, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, SigningKey):
        raise Invalid("The stored key is of a kind that is not supported.")
    return key
