"""Azure's own clients for keys and for cryptography, unmodified."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.keyvault.keys import (
    JsonWebKey,
    KeyClient,
    KeyCurveName,
    KeyOperation,
    KeyRotationLifetimeAction,
    KeyRotationPolicy,
    KeyRotationPolicyAction,
    KeyType,
)
from azure.keyvault.keys.crypto import EncryptionAlgorithm, KeyWrapAlgorithm, SignatureAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

pytestmark = pytest.mark.xdist_group("sdk")

FAR = datetime(3000, 1, 1, 8, tzinfo=UTC)


@pytest.fixture
def client(connect: Callable[[type], Any]) -> KeyClient:
    return connect(KeyClient)


def test_keys_are_made_with_all_that_was_asked_for(client: KeyClient, name: str) -> None:
    made = client.create_rsa_key(name, size=3072, tags={"a": "1"}, expires_on=FAR, key_operations=["sign", "verify"])
    found = client.get_key(name)

    assert (KeyType.rsa, ["sign", "verify"], 3072) == (found.key_type, found.key_operations, len(found.key.n) * 8)
    assert made.id == found.id == f"{client.vault_url}/keys/{name}/{made.properties.version}"
    assert ({"a": "1"}, FAR, True) == (
        found.properties.tags,
        found.properties.expires_on,
        found.properties.enabled,
    )
    assert ("Recoverable+Purgeable", 90) == (found.properties.recovery_level, found.properties.recoverable_days)
    assert not found.properties.exportable
    assert found.key.d is None
    default = client.create_key(f"{name}-default", KeyType.rsa)
    assert 6 == len(default.key_operations)


@pytest.mark.parametrize("curve", KeyCurveName)
def test_ec_keys_are_made_and_imported_on_every_curve(client: KeyClient, name: str, curve: KeyCurveName) -> None:
    made = client.create_ec_key(name, curve=curve)
    kinds = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1, "P-256K": ec.SECP256K1}
    numbers = ec.generate_private_key(kinds[curve.value]()).private_numbers()
    length = (kinds[curve.value]().key_size + 7) // 8
    members = {"x": numbers.public_numbers.x, "y": numbers.public_numbers.y, "d": numbers.private_value}
    jwk = JsonWebKey(kty="EC", crv=curve, **{each: value.to_bytes(length) for each, value in members.items()})
    imported = client.import_key(name, jwk)

    assert curve == made.key.crv == imported.key.crv
    assert (jwk.x, jwk.y, None) == (imported.key.x, imported.key.y, imported.key.d)
    assert made.id != imported.id
    assert 2 == len(list(client.list_properties_of_key_versions(name)))


def test_what_the_server_signs_the_client_verifies(client: KeyClient, name: str) -> None:
    client.create_rsa_key(f"{name}-rsa")
    client.create_ec_key(f"{name}-ec")
    digest = hashlib.sha256(b"data").digest()
    for key, algorithm in (
        ("rsa", SignatureAlgorithm.rs256),
        ("rsa", SignatureAlgorithm.ps256),
        ("ec", SignatureAlgorithm.es256),
    ):
        use = client.get_cryptography_client(f"{name}-{key}")
        signed = use.sign(algorithm, digest)

        assert client.get_key(f"{name}-{key}").id == signed.key_id
        assert use.verify(algorithm, digest, signed.signature).is_valid
        assert not use.verify(algorithm, digest[::-1], signed.signature).is_valid


def test_what_the_client_encrypts_and_wraps_the_server_opens(client: KeyClient, name: str) -> None:
    client.create_rsa_key(name)
    use = client.get_cryptography_client(name)

    for algorithm in (EncryptionAlgorithm.rsa_oaep, EncryptionAlgorithm.rsa_oaep_256, EncryptionAlgorithm.rsa1_5):
        assert b"plain" == use.decrypt(algorithm, use.encrypt(algorithm, b"plain").ciphertext).plaintext
    for wrapping in (KeyWrapAlgorithm.rsa_oaep, KeyWrapAlgorithm.rsa_oaep_256, KeyWrapAlgorithm.rsa1_5):
        assert b"key" == use.unwrap_key(wrapping, use.wrap_key(wrapping, b"key").encrypted_key).key


def test_an_imported_rsa_key_opens_what_it_could_before(client: KeyClient, name: str) -> None:
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.private_numbers()
    values = {
        "n": numbers.public_numbers.n, "e": numbers.public_numbers.e, "d": numbers.d, "p": numbers.p, "q": numbers.q,
        "dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp,
    }  # fmt: skip
    members = {each: value.to_bytes((value.bit_length() + 7) // 8) for each, value in values.items()}
    client.import_key(name, JsonWebKey(kty="RSA", key_ops=[KeyOperation.decrypt], **members))
    scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    use = client.get_cryptography_client(name)

    encrypted = key.public_key().encrypt(b"before", scheme)
    assert b"before" == use.decrypt(EncryptionAlgorithm.rsa_oaep_256, encrypted).plaintext
    with pytest.raises(HttpResponseError, match="sign is not permitted"):
        use.sign(SignatureAlgorithm.rs256, bytes(32))


def test_an_update_changes_what_it_names(client: KeyClient, name: str) -> None:
    made = client.create_ec_key(name, tags={"a": "1"})
    changed = client.update_key_properties(
        name, enabled=False, expires_on=FAR, tags={"b": "2"}, key_operations=[KeyOperation.verify]
    )

    assert (False, FAR, {"b": "2"}, ["verify"], made.id) == (
        changed.properties.enabled,
        changed.properties.expires_on,
        changed.properties.tags,
        changed.key_operations,
        changed.id,
    )


def test_a_key_is_deleted_recovered_backed_up_purged_and_restored(client: KeyClient, name: str) -> None:
    made = client.create_ec_key(name)
    client.create_ec_key(name)
    backup = client.backup_key(name)
    assert backup
    deleted = client.begin_delete_key(name, _polling_interval=0.05).result()
    assert (name, f"{client.vault_url}/deletedkeys/{name}") == (deleted.name, deleted.recovery_id)
    with pytest.raises(ResourceExistsError, match="deleted but recoverable"):
        client.create_ec_key(name)
    assert name in [each.name for each in client.list_deleted_keys()]
    recovered = client.begin_recover_deleted_key(name, _polling_interval=0.05).result()
    assert recovered.id == client.get_key(name).id
    client.begin_delete_key(name, _polling_interval=0.05).wait()
    client.purge_deleted_key(name)
    with pytest.raises(ResourceNotFoundError):
        client.get_deleted_key(name)
    restored = client.restore_key_backup(backup)

    assert recovered.id == restored.id
    assert made.key.x == client.get_key(name, made.properties.version).key.x


def test_a_key_that_is_not_valid_yet_is_not_used(client: KeyClient, name: str) -> None:
    client.create_ec_key(name, not_before=datetime.now(UTC) + timedelta(days=1))

    with pytest.raises(HttpResponseError, match=r"attributes\.nbf") as refusal:
        client.get_cryptography_client(name).sign(SignatureAlgorithm.es256, bytes(32))

    assert 403 == refusal.value.status_code


def test_a_key_is_rotated_by_its_policy_and_at_once(client: KeyClient, name: str) -> None:
    made = client.create_rsa_key(name, tags={"a": "1"})
    default = client.get_key_rotation_policy(name)
    actions = [
        KeyRotationLifetimeAction(KeyRotationPolicyAction.rotate, time_after_create="P2M"),
        KeyRotationLifetimeAction(KeyRotationPolicyAction.notify, time_before_expiry="P30D"),
    ]
    stored = client.update_key_rotation_policy(name, KeyRotationPolicy(), expires_in="P90D", lifetime_actions=actions)
    rotated = client.rotate_key(name)

    assert [("Notify", "P30D")] == [(each.action, each.time_before_expiry) for each in default.lifetime_actions]
    found = client.get_key_rotation_policy(name)
    assert stored.expires_in == found.expires_in == "P90D"
    assert [("Rotate", "P2M", None), ("Notify", None, "P30D")] == [
        (each.action, each.time_after_create, each.time_before_expiry) for each in found.lifetime_actions
    ]
    assert (made.key_type, made.key_operations, {"a": "1"}) == (
        rotated.key_type,
        rotated.key_operations,
        rotated.properties.tags,
    )
    assert made.key.n != rotated.key.n
    assert 90 == round((rotated.properties.expires_on - rotated.properties.created_on) / timedelta(days=1))
