"""What keys sign and encrypt is understood by others, and the other way round."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from certbroker.domain.errors import Invalid
from certbroker.domain.key_algorithms import decrypt, encrypt, sign, verify
from certbroker.domain.keys import CURVES, PrivateKey

RSA = rsa.generate_private_key(65537, 2048)
ODD = rsa.generate_private_key(65537, 2056)  # One byte more than a power of two.
EC = {name: ec.generate_private_key(curve()) for name, curve in CURVES.items()}

SIGNATURES = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), RSA),
    "ES256": EC["P-256"],
    "ES256K": EC["P-256K"],
    "ES384": EC["P-384"],
    "ES512": EC["P-521"],
}
ENCRYPTIONS = ("RSA1_5", "RSA-OAEP", "RSA-OAEP-256")


def digest(algorithm: str, data: bytes) -> bytes:
    return hashlib.new(f"sha{algorithm.removesuffix('K')[-3:]}", data).digest()


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", SIGNATURES)
def test_a_signature_makes_a_jws_that_others_accept(algorithm: str) -> None:
    key = SIGNATURES[algorithm]
    signed = f"{encoded(json.dumps({'alg': algorithm}).encode())}.{encoded(b'payload')}"
    signature = sign(key, algorithm, digest(algorithm, signed.encode()))
    reader = (RSAKey if isinstance(key, rsa.RSAPrivateKey) else ECKey).import_key(key.public_key())

    read = jws.deserialize_compact(f"{signed}.{encoded(signature)}", reader, algorithms=[algorithm])

    assert b"payload" == read.payload
    assert verify(key.public_key(), algorithm, digest(algorithm, signed.encode()), signature)


@pytest.mark.parametrize("algorithm", SIGNATURES)
def test_what_others_have_signed_is_verified_and_nothing_else(algorithm: str) -> None:
    key = SIGNATURES[algorithm]
    writer = (RSAKey if isinstance(key, rsa.RSAPrivateKey) else ECKey).import_key(key)
    made = jws.serialize_compact({"alg": algorithm}, b"payload", writer, algorithms=[algorithm])
    signed, _, last = made.rpartition(".")
    signature = base64.urlsafe_b64decode(last + "==")
    right = digest(algorithm, signed.encode())

    assert verify(key.public_key(), algorithm, right, signature)
    assert not verify(key.public_key(), algorithm, right[::-1], signature)
    for wrong in (b"", signature[:-1], signature + b"\0", bytes(len(signature)), b"\xff" * len(signature)):
        assert not verify(key.public_key(), algorithm, right, wrong)


@pytest.mark.parametrize("algorithm", ENCRYPTIONS)
@pytest.mark.parametrize("key", [RSA, ODD], ids=["2048", "2056"])
def test_the_longest_value_is_encrypted_and_a_longer_one_is_refused(algorithm: str, key: rsa.RSAPrivateKey) -> None:
    longest = key.key_size // 8 - {"RSA1_5": 11, "RSA-OAEP": 42, "RSA-OAEP-256": 66}[algorithm]
    value = bytes(longest)

    assert value == decrypt(key, algorithm, encrypt(key.public_key(), algorithm, value))
    assert b"" == decrypt(key, algorithm, encrypt(key.public_key(), algorithm, b""))
    with pytest.raises(Invalid, match=f"takes {longest} at most"):
        encrypt(key.public_key(), algorithm, value + b"\0")


def test_oaep_is_that_of_others() -> None:
    for algorithm, made in (("RSA-OAEP", hashes.SHA1()), ("RSA-OAEP-256", hashes.SHA256())):
        scheme = padding.OAEP(padding.MGF1(made), made, None)

        assert b"x" == RSA.decrypt(encrypt(RSA.public_key(), algorithm, b"x"), scheme)
        assert b"x" == decrypt(RSA, algorithm, RSA.public_key().encrypt(b"x", scheme))


@pytest.mark.parametrize("algorithm", ["RSA-OAEP", "RSA-OAEP-256"])
@pytest.mark.parametrize("garbage", [b"", bytes(256), b"\xff" * 256, bytes(255), bytes(10_000)])
def test_garbage_is_not_decrypted(algorithm: str, garbage: bytes) -> None:
    with pytest.raises(Invalid, match="cannot be decrypted"):
        decrypt(RSA, algorithm, garbage)


def test_the_answer_to_a_wrong_padding_tells_an_attacker_nothing() -> None:
    """Bleichenbacher: whether PKCS #1 v1.5 padding is right must not show. What comes out is the same each time."""
    forged = (3).to_bytes(256)

    assert decrypt(RSA, "RSA1_5", forged) == decrypt(RSA, "RSA1_5", forged)


@pytest.mark.parametrize(
    ("key", "algorithm", "message"),
    [
        (RSA, "ES256", "RS256 or RS384"),
        (RSA, "RSNULL", "'RSNULL' cannot be used to sign with an RSA key"),
        (EC["P-256"], "ES384", "key on P-256: use ES256\\."),
        (EC["P-256K"], "ES256", "use ES256K"),
        (EC["P-256"], "RS256", "key on P-256"),
        (RSA, "RS256", "takes a digest of 32 bytes; 5 were given"),
        (EC["P-384"], "ES384", "takes a digest of 48 bytes; 5 were given"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(key: PrivateKey, algorithm: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        sign(key, algorithm, b"short")
    with pytest.raises(Invalid, match=message):
        verify(key.public_key(), algorithm, b"short", b"")


def test_keys_that_cannot_encrypt_say_so() -> None:
    with pytest.raises(Invalid, match="EC keys sign and verify"):
        encrypt(EC["P-256"].public_key(), "RSA-OAEP", b"x")
    with pytest.raises(Invalid, match="EC keys sign and verify"):
        decrypt(EC["P-256"], "RSA-OAEP", b"x")
    with pytest.raises(Invalid, match="use RSA1_5 or RSA-OAEP or RSA-OAEP-256"):
        encrypt(RSA.public_key(), "A128GCM", b"x")
