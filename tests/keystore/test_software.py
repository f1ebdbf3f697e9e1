"""Keys in software."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certbroker.domain.errors import Invalid
from certbroker.domain.keys import KeySpec, spec_of
from certbroker.keystore.software import SoftwareKeyStore


@pytest.mark.parametrize(
    "spec",
    [KeySpec("EC", curve=curve) for curve in ("P-256", "P-384", "P-521", "P-256K")] + [KeySpec("RSA"), KeySpec("EC")],
    ids=lambda spec: f"{spec.kty} {spec.curve or spec.size or ''}",
)
def test_a_key_is_what_was_asked_for_and_survives_storage(spec: KeySpec) -> None:
    keystore = SoftwareKeyStore()
    key = keystore.generate(spec)
    again = keystore.load(keystore.encode(key))

    assert spec.complete() == spec_of(key.public_key())
    assert key.private_numbers() == again.private_numbers()


def test_two_keys_are_never_the_same() -> None:
    keystore = SoftwareKeyStore()

    assert 4 == len({keystore.encode(keystore.generate(KeySpec("EC"))) for _ in range(4)})


def test_keys_of_an_hsm_are_refused() -> None:
    with pytest.raises(Invalid, match="HSM"):
        SoftwareKeyStore().generate(KeySpec("EC-HSM"))


def test_other_kinds_of_key_are_refused() -> None:
    edwards = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(Invalid, match="only signs"):
        SoftwareKeyStore().load(edwards)
