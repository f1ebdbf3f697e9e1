"""Private keys in software: standard tier."""

from __future__ import annotations

from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from certbroker.domain.errors import Invalid
from certbroker.domain.keys import CURVES, KeySpec, PrivateKey


class SoftwareKeyStore:
    """Keys as PKCS#8 in DER."""

    def generate(self, spec: KeySpec) -> PrivateKey:
        spec = spec.complete()
        if spec.hsm:
            raise Invalid(f"{spec.kty} keys need a vault of tier premium with an HSM; use {spec.family}.")
        if spec.curve is not None:
            return ec.generate_private_key(CURVES[spec.curve]())
        return rsa.generate_private_key(65537, spec.size or 2048)

    def encode(self, key: PrivateKey) -> bytes:
        return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def load(self, encoded: bytes) -> PrivateKey:
        return _load(encoded)


@lru_cache(maxsize=256)
def _load(encoded: bytes) -> PrivateKey:
    # The bytes come from `encode` and were authenticated by the seal. Checking the primes again costs 49 to 450 ms in
    # which the interpreter stands still.
    key = load_der_private_key(encoded, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise Invalid("The stored key is of a kind that is not supported.")
    return key
