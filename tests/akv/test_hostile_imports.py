"""Imports that cannot be used: each is refused in time, says why, leaves nothing, and keeps nobody waiting."""

from __future__ import annotations

import asyncio
import base64
import time
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

from tests.support.certificates import Authority, Identity, costly_pfx, pem, self_signed, weak_rsa_key
from tests.support.memory_broker import VaultClient, self_signed_policy

pytestmark = pytest.mark.anyio


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def _refusal(vault: VaultClient, value: str, **body: Any) -> str:
    """Why an import is refused. Nothing of it may be there afterwards."""
    answer = await vault.post("/certificates/c/import", {"value": value} | body)
    assert (400, "BadParameter") == (answer.status_code, answer.json()["error"]["code"]), answer.text
    for path in ("/certificates?includePending=true", "/secrets", "/keys"):
        assert [] == (await vault.get(path)).json()["value"]
    assert 404 == (await vault.get("/certificates/c/policy")).status_code
    return str(answer.json()["error"]["message"])


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Authority().issue()


async def test_a_wrong_or_missing_password(vault: VaultClient, identity: Identity) -> None:
    value = _b64(identity.pfx("right"))

    assert "password" in await _refusal(vault, value, pwd="wrong-word")
    assert "wrong-word" not in await _refusal(vault, value, pwd="wrong-word")
    assert "password" in await _refusal(vault, value)
    assert "password" in await _refusal(vault, identity.pem("right"), pwd="wrong-word")
    assert "encrypted" in await _refusal(vault, identity.pem("right"))


async def test_no_private_key(vault: VaultClient, identity: Identity) -> None:
    bare = pkcs12.serialize_key_and_certificates(None, None, identity.certificate, None, NoEncryption())

    assert "no private key" in await _refusal(vault, _b64(bare))
    assert "no private key" in await _refusal(vault, pem(identity.certificate))


async def test_more_than_one_private_key(vault: VaultClient, identity: Identity) -> None:
    assert "2 private keys" in await _refusal(vault, identity.key_pem() + identity.pem())


async def test_no_certificate_or_one_for_another_key(vault: VaultClient, identity: Identity) -> None:
    assert "no certificate" in await _refusal(vault, identity.key_pem())
    assert "public keys differ" in await _refusal(vault, identity.key_pem() + pem(Authority().certificate))


async def test_weak_and_unsupported_keys(vault: VaultClient) -> None:
    weak = self_signed(weak_rsa_key())
    edwards = self_signed(ed25519.Ed25519PrivateKey.generate())
    small = self_signed(ec.generate_private_key(ec.SECP224R1()))
    brainpool = self_signed(ec.generate_private_key(ec.BrainpoolP256R1()))

    for identity in (weak, edwards, small, brainpool):
        for value in (_b64(identity.pfx()), identity.pem()):
            assert "key" in await _refusal(vault, value)


async def test_an_expired_certificate(vault: VaultClient) -> None:
    identity = Authority().issue(life=-timedelta(days=1))

    assert "expired" in await _refusal(vault, _b64(identity.pfx()))


async def test_a_chain_without_end(vault: VaultClient, identity: Identity) -> None:
    assert "at most 16" in await _refusal(vault, identity.pem() + pem(identity.certificate) * 15)


async def test_a_certificate_with_broken_extensions(vault: VaultClient) -> None:
    """Names that are not in IA5String are found only when somebody asks for them."""
    broken = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x03\x82\x01\xff")
    identity = Authority().issue(extensions=[(broken, False)])

    assert "not an X.509 certificate" in await _refusal(vault, _b64(identity.pfx()))


@pytest.mark.parametrize(
    "value",
    [
        *("", "!", "AAAA", "MAA=", "MIID", "\0", "é" * 10, _b64(b"\x30" * 1000), _b64(b"-----BEGIN PRIVATE KEY-----")),
        *("-----BEGIN", "-----BEGIN X-----", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"),
    ],
    ids=lambda value: repr(value[:12]),
)
async def test_garbage(vault: VaultClient, value: str) -> None:
    assert await _refusal(vault, value)


async def test_a_garbled_pfx(vault: VaultClient, identity: Identity) -> None:
    pfx = identity.pfx("word")
    for garbled in (pfx[:-1], pfx[: len(pfx) // 2], pfx[:40] + b"\xff" * 40 + pfx[80:]):
        assert await _refusal(vault, _b64(garbled), pwd="word")


async def test_more_than_we_look_at(vault: VaultClient) -> None:
    answer = await vault.post("/certificates/c/import", {"value": _b64(b"\x30" * 300_000)})

    assert 413 == answer.status_code
    assert 404 == (await vault.get("/certificates/c")).status_code


async def test_policies_are_checked_for_imports_too(vault: VaultClient, identity: Identity) -> None:
    for policy in (
        {"issuer": {"name": "nobody"}},
        {"secret_props": {"contentType": "text/plain"}},
        {"x509_props": {"key_usage": ["everything"]}},
        {"x509_props": {"subject": "nonsense"}},
    ):
        assert await _refusal(vault, _b64(identity.pfx()), policy=policy)


async def test_what_takes_too_long_is_cut_off_and_keeps_nobody_waiting(vault: VaultClient) -> None:
    """Ten imports that want hours each, beside people who read and write secrets."""
    begun = time.monotonic()
    value = _b64(costly_pfx(10_000_001))
    imports = [asyncio.ensure_future(vault.post(f"/certificates/c{n}/import", {"value": value})) for n in range(10)]
    waits = []
    for number in range(10):
        await asyncio.sleep(0.05)
        start = time.monotonic()
        assert 200 == (await vault.put(f"/secrets/n{number}", {"value": "v"})).status_code
        assert 200 == (await vault.get("/secrets")).status_code
        assert 200 == (await vault.get(f"/secrets/n{number}")).status_code
        assert (
            202 == (await vault.post(f"/certificates/d{number}/create", {"policy": self_signed_policy()})).status_code
        )
        waits.append(time.monotonic() - start)

    assert max(waits) < 3
    assert 400 == (await imports[0]).status_code
    assert time.monotonic() - begun < 30
    for each in imports[2:]:
        each.cancel()
    await asyncio.gather(*imports, return_exceptions=True)


async def test_a_pfx_that_would_take_hours_is_given_up(vault: VaultClient) -> None:
    begun = time.monotonic()

    assert "too much time" in await _refusal(vault, _b64(costly_pfx(2**31 - 1)))
    assert time.monotonic() - begun < 35


async def test_a_signature_algorithm_of_another_time_in_the_chain_is_no_hindrance(vault: VaultClient) -> None:
    """The root of a chain is trusted for itself: nobody checks its signature."""
    authority = Authority()
    identity = authority.issue()
    stranger = self_signed(ed25519.Ed25519PrivateKey.generate(), "Other root")
    answer = await vault.post("/certificates/c/import", {"value": identity.pem() + pem(stranger.certificate)})

    assert 200 == answer.status_code
    assert identity.certificate.fingerprint(hashes.SHA1()) == base64.urlsafe_b64decode(answer.json()["x5t"] + "=")
