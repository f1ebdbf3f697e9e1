"""Azure's own client for certificates, unmodified."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.keyvault.certificates import (
    AdministratorContact,
    CertificateClient,
    CertificateContact,
    CertificateOperation,
    CertificatePolicy,
    CertificatePolicyAction,
    KeyVaultCertificate,
    LifetimeAction,
)
from azure.keyvault.keys import KeyClient
from azure.keyvault.secrets import SecretClient
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs12

from tests.support.certificates import Authority, der, pem

pytestmark = pytest.mark.xdist_group("sdk")


@pytest.fixture
def client(connect: Callable[[type], Any]) -> CertificateClient:
    return connect(CertificateClient)


def policy(issuer: str = "Self", **changes: Any) -> CertificatePolicy:
    """A policy for an EC key, which is made quickly."""
    values = {"subject": "CN=www.example.com", "san_dns_names": ["www.example.com"], "key_type": "EC"}
    return CertificatePolicy(issuer, **(values | {"key_curve_name": "P-256"} | changes))


def create(client: CertificateClient, name: str, wanted: CertificatePolicy | None = None, **options: Any) -> Any:
    poller = client.begin_create_certificate(name, wanted or policy(), _polling_interval=0.1, **options)
    return poller.result()


def test_the_default_policy_makes_a_self_signed_certificate(client: CertificateClient, name: str) -> None:
    poller = client.begin_create_certificate(name, CertificatePolicy.get_default())

    assert poller.status() == "inprogress"
    made = poller.result()
    assert isinstance(made, KeyVaultCertificate)
    assert (name, True) == (made.name, made.properties.enabled)
    assert f"{client.vault_url}/certificates/{name}/{made.properties.version}" == made.id
    assert f"{client.vault_url}/keys/{name}/{made.properties.version}" == made.key_id
    assert f"{client.vault_url}/secrets/{name}/{made.properties.version}" == made.secret_id
    leaf = x509.load_der_x509_certificate(bytes(made.cer))
    assert "CN=DefaultPolicy" == leaf.subject.rfc4514_string() == leaf.issuer.rfc4514_string()
    assert (made.properties.not_before, made.properties.expires_on) == (
        leaf.not_valid_before_utc,
        leaf.not_valid_after_utc,
    )
    assert ("Self", "RSA", 2048) == (made.policy.issuer_name, made.policy.key_type, made.policy.key_size)
    assert (True, 12, "application/x-pkcs12") == (
        made.policy.exportable,
        made.policy.validity_in_months,
        made.policy.content_type,
    )
    assert ("AutoRenew", 80) == (
        made.policy.lifetime_actions[0].action,
        made.policy.lifetime_actions[0].lifetime_percentage,
    )
    assert "completed" == poller.status()


def test_the_operation_can_be_read_after_it_is_completed_and_then_be_forgotten(
    client: CertificateClient, name: str
) -> None:
    create(client, name)
    operation = client.get_certificate_operation(name)

    assert ("completed", "Self", False) == (operation.status, operation.issuer_name, operation.cancellation_requested)
    assert operation.target.endswith(f"/certificates/{name}")
    assert x509.load_der_x509_csr(bytes(operation.csr)).is_signature_valid
    assert "completed" == client.delete_certificate_operation(name).status
    with pytest.raises(ResourceNotFoundError, match="not found"):
        client.get_certificate_operation(name)
    with pytest.raises(ResourceNotFoundError, match="not found"):
        client.delete_certificate_operation(name)
    assert client.get_certificate(name).properties.version


def test_the_key_and_the_secret_of_a_certificate_can_be_read(
    client: CertificateClient, connect: Callable[[type], Any], name: str
) -> None:
    made = create(client, name, policy(key_usage=["digitalSignature", "keyAgreement"]))
    key = connect(KeyClient).get_key(name)
    secret = connect(SecretClient).get_secret(name)

    assert (made.key_id, True, "EC", "P-256") == (key.id, key.properties.managed, key.key.kty, key.key.crv)
    assert ["sign", "verify"] == [str(each) for each in key.key_operations]
    assert (made.secret_id, made.key_id, True) == (secret.id, secret.properties.key_id, secret.properties.managed)
    assert "application/x-pkcs12" == secret.properties.content_type
    private, leaf, others = pkcs12.load_key_and_certificates(base64.b64decode(secret.value), None)
    assert bytes(made.cer) == leaf.public_bytes(Encoding.DER)
    assert leaf.public_key() == private.public_key()
    assert int.from_bytes(key.key.x) == private.public_key().public_numbers().x
    assert [] == others
    assert [made.properties.version] == [
        each.version for each in connect(KeyClient).list_properties_of_key_versions(name)
    ]
    assert name in {each.name for each in connect(SecretClient).list_properties_of_secrets() if each.managed}


def test_pem_secrets_hold_the_key_and_then_the_chain(
    client: CertificateClient, connect: Callable[[type], Any], name: str
) -> None:
    made = create(client, name, policy(content_type="application/x-pem-file"))
    value = connect(SecretClient).get_secret(name).value

    assert value.startswith("-----BEGIN PRIVATE KEY-----")
    assert load_pem_private_key(value.encode(), None)
    assert bytes(made.cer) == x509.load_pem_x509_certificate(value.encode()).public_bytes(Encoding.DER)


def test_an_unknown_issuer_waits_for_a_merge(client: CertificateClient, name: str) -> None:
    operation = create(client, name, policy("Unknown"), tags={"a": "1"})

    assert isinstance(operation, CertificateOperation)
    assert ("inProgress", "Unknown") == (operation.status, operation.issuer_name)
    assert "merge" in operation.status_details.lower()
    authority = Authority()
    leaf = authority.answer(bytes(operation.csr))
    merged = client.merge_certificate(name, [der(leaf), der(authority.certificate)])
    assert (der(leaf), {"a": "1"}) == (bytes(merged.cer), merged.properties.tags)
    assert "completed" == client.get_certificate_operation(name).status
    assert merged.id == client.get_certificate(name).id


def test_a_merge_takes_base64_text_in_place_of_bytes(client: CertificateClient, name: str) -> None:
    """Azure's own sample passes the lines of a PEM file joined as bytes, which the client encodes once more."""
    operation = create(client, name, policy("Unknown"))
    leaf = Authority().answer(bytes(operation.csr))
    lines = pem(leaf).strip().splitlines()[1:-1]
    merged = client.merge_certificate(name, ["".join(lines).encode()], enabled=True, tags={"b": "2"})

    assert (der(leaf), {"b": "2"}) == (bytes(merged.cer), merged.properties.tags)


def test_an_operation_can_be_cancelled(client: CertificateClient, name: str) -> None:
    create(client, name, policy("Unknown"))
    cancelled = client.cancel_certificate_operation(name)

    assert cancelled.cancellation_requested
    for _ in range(100):
        if (operation := client.get_certificate_operation(name)).status == "cancelled":
            break
        time.sleep(0.05)
    assert ("cancelled", True) == (operation.status, operation.cancellation_requested)
    with pytest.raises(HttpResponseError) as refusal:
        client.cancel_certificate_operation(name)
    assert 403 == refusal.value.status_code
    assert "cancelled" == client.delete_certificate_operation(name).status


def test_a_second_request_waits_for_the_first(client: CertificateClient, name: str) -> None:
    create(client, name, policy("Unknown"))

    with pytest.raises(ResourceExistsError, match="in progress"):
        create(client, name, policy("Unknown"))


@pytest.mark.parametrize("password", [None, "pässword"])
def test_a_pfx_is_imported_with_its_chain(
    client: CertificateClient, connect: Callable[[type], Any], name: str, password: str | None
) -> None:
    identity = Authority("Intermediate", above=Authority("Root")).issue("imported.example.com")
    made = client.import_certificate(name, identity.pfx(password), password=password, tags={"a": "1"})

    assert (der(identity.certificate), {"a": "1"}) == (bytes(made.cer), made.properties.tags)
    assert ("Unknown", "EC", "P-256") == (made.policy.issuer_name, made.policy.key_type, made.policy.key_curve_name)
    assert ("CN=imported.example.com", ["imported.example.com"], 3) == (
        made.policy.subject,
        made.policy.san_dns_names,
        made.policy.validity_in_months,
    )
    assert ("EmailContacts", 80) == (
        made.policy.lifetime_actions[0].action,
        made.policy.lifetime_actions[0].lifetime_percentage,
    )
    value = base64.b64decode(connect(SecretClient).get_secret(name).value)
    private, leaf, others = pkcs12.load_key_and_certificates(value, None)
    assert identity.chain == (leaf, *others)
    assert identity.key.private_numbers() == private.private_numbers()


def test_pem_is_imported(client: CertificateClient, connect: Callable[[type], Any], name: str) -> None:
    identity = Authority().issue("pem.example.com")
    made = client.import_certificate(
        name, identity.pem().encode(), policy=CertificatePolicy(content_type="application/x-pem-file")
    )

    assert der(identity.certificate) == bytes(made.cer)
    assert identity.pem() == connect(SecretClient).get_secret(name).value


def test_versions_are_listed_and_read_without_the_policy(client: CertificateClient, name: str) -> None:
    first, second = create(client, name), create(client, name)
    listed = list(client.list_properties_of_certificate_versions(name, max_page_size=1))

    assert sorted([first.properties.version, second.properties.version]) == [each.version for each in listed]
    assert first.cer == client.get_certificate_version(name, first.properties.version).cer
    assert second.id == client.get_certificate(name).id
    assert {first.properties.x509_thumbprint, second.properties.x509_thumbprint} == {
        each.x509_thumbprint for each in listed
    }
    assert name in {each.name for each in client.list_properties_of_certificates(max_page_size=2)}


def test_a_policy_is_changed_in_parts(client: CertificateClient, name: str) -> None:
    create(client, name, policy(key_usage=["digitalSignature"], enhanced_key_usage=["1.3.6.1.5.5.7.3.1"]))
    changed = client.update_certificate_policy(
        name,
        CertificatePolicy(
            lifetime_actions=[LifetimeAction(CertificatePolicyAction.email_contacts, days_before_expiry=30)],
            validity_in_months=24,
        ),
    )
    found = client.get_certificate_policy(name)

    assert (24, "CN=www.example.com", ["www.example.com"]) == (
        found.validity_in_months,
        found.subject,
        found.san_dns_names,
    )
    assert ["digitalSignature"] == [each.value for each in found.key_usage]
    assert ["1.3.6.1.5.5.7.3.1"] == found.enhanced_key_usage
    assert [("EmailContacts", 30)] == [(each.action, each.days_before_expiry) for each in found.lifetime_actions]
    assert 24 == changed.validity_in_months


def test_properties_are_updated(client: CertificateClient, connect: Callable[[type], Any], name: str) -> None:
    made = create(client, name)
    time.sleep(1.1)
    changed = client.update_certificate_properties(name, tags={"a": "1"}, enabled=False)

    assert ({"a": "1"}, False) == (changed.properties.tags, changed.properties.enabled)
    assert made.properties.updated_on < changed.properties.updated_on
    with pytest.raises(HttpResponseError, match="disabled"):
        connect(SecretClient).get_secret(name)
    version = client.update_certificate_properties(name, made.properties.version, enabled=True)
    assert (True, {"a": "1"}) == (version.properties.enabled, version.properties.tags)
    assert connect(SecretClient).get_secret(name).value


def test_contacts_are_set_read_and_deleted(client: CertificateClient) -> None:
    wanted = [
        CertificateContact(email="admin@example.com", name="John Doe", phone="1111111111"),
        CertificateContact(email="admin2@example.com"),
    ]
    facts = [(each.email, each.name, each.phone) for each in wanted]

    assert facts == [(each.email, each.name, each.phone) for each in client.set_contacts(wanted)]
    assert facts == [(each.email, each.name, each.phone) for each in client.get_contacts()]
    assert facts == [(each.email, each.name, each.phone) for each in client.delete_contacts()]
    with pytest.raises(ResourceNotFoundError, match="not found"):
        client.get_contacts()


def test_issuers_are_made_changed_listed_and_deleted(client: CertificateClient, name: str) -> None:
    admin = AdministratorContact(first_name="Jane", last_name="Doe", email="admin@example.com", phone="4255555555")
    made = client.create_issuer(name, "Test", account_id="keyvaultuser", admin_contacts=[admin], enabled=True)

    assert (name, "Test", "keyvaultuser", True) == (made.name, made.provider, made.account_id, made.enabled)
    assert f"{client.vault_url}/certificates/issuers/{name}" == made.id
    assert made.created_on == made.updated_on
    person = made.admin_contacts[0]
    assert ("Jane", "Doe", "admin@example.com", "4255555555") == (
        person.first_name,
        person.last_name,
        person.email,
        person.phone,
    )
    client.create_issuer(f"{name}-2", "Test", account_id="other", password="hidden")
    listed = {each.name: each.provider for each in client.list_properties_of_issuers()}
    assert {name: "Test", f"{name}-2": "Test"}.items() <= listed.items()
    changed = client.update_issuer(name, admin_contacts=[AdministratorContact(email="new@example.com")], enabled=False)
    assert ("keyvaultuser", False, ["new@example.com"]) == (
        changed.account_id,
        changed.enabled,
        [each.email for each in changed.admin_contacts],
    )
    assert changed.updated_on == client.get_issuer(name).updated_on
    assert name == client.delete_issuer(name).name
    with pytest.raises(ResourceNotFoundError, match="not found"):
        client.get_issuer(name)


def test_an_issuer_that_nobody_knows_how_to_ask_fails_and_says_why(client: CertificateClient, name: str) -> None:
    client.create_issuer(name, "Test")
    operation = create(client, name, policy(name))

    assert isinstance(operation, CertificateOperation)
    assert "failed" == operation.status
    assert "'Test' is not one that is installed" in operation.error.message
    with pytest.raises(HttpResponseError) as refusal:
        create(client, name, policy("nobody-set-this-up"))
    assert 400 == refusal.value.status_code


def test_a_backup_brings_certificate_policy_key_and_secret_back(
    client: CertificateClient, connect: Callable[[type], Any], name: str
) -> None:
    create(client, name)
    made = create(client, name)
    before = connect(SecretClient).get_secret(name).value
    blob = client.backup_certificate(name)

    with pytest.raises(ResourceExistsError):
        client.restore_certificate_backup(blob)

    client.begin_delete_certificate(name, _polling_interval=0.1).wait()
    client.purge_deleted_certificate(name)
    restored = client.restore_certificate_backup(blob)

    assert (made.id, made.cer) == (restored.id, restored.cer)
    assert "CN=www.example.com" == restored.policy.subject
    assert made.properties.created_on == restored.properties.created_on
    assert 2 == len(list(client.list_properties_of_certificate_versions(name)))
    assert pkcs12.load_pkcs12(base64.b64decode(before), None).key.private_numbers() == (
        pkcs12.load_pkcs12(base64.b64decode(connect(SecretClient).get_secret(name).value), None).key.private_numbers()
    )


def test_a_deleted_certificate_takes_its_key_and_secret_along_and_brings_them_back(
    client: CertificateClient, connect: Callable[[type], Any], name: str
) -> None:
    secrets, keys = connect(SecretClient), connect(KeyClient)
    made = create(client, name)
    deleted = client.begin_delete_certificate(name).result()

    assert (name, made.id, made.cer) == (deleted.name, deleted.id, deleted.cer)
    assert (made.key_id, made.secret_id, "CN=www.example.com") == (
        deleted.key_id,
        deleted.secret_id,
        deleted.policy.subject,
    )
    assert f"{client.vault_url}/deletedcertificates/{name}" == deleted.recovery_id
    assert 90 == (deleted.scheduled_purge_date - deleted.deleted_on).days
    for read in (client.get_certificate, secrets.get_secret, keys.get_key, secrets.get_deleted_secret):
        with pytest.raises(ResourceNotFoundError):
            read(name)
    assert name in {each.name for each in client.list_deleted_certificates(include_pending=True)}
    assert name not in {each.name for each in secrets.list_deleted_secrets()}
    with pytest.raises(ResourceExistsError):
        create(client, name)

    recovered = client.begin_recover_deleted_certificate(name).result()

    assert (made.id, "CN=www.example.com") == (recovered.id, recovered.policy.subject)
    assert made.key_id == keys.get_key(name).id
    assert secrets.get_secret(name).value
    client.begin_delete_certificate(name).wait()
    client.purge_deleted_certificate(name)
    with pytest.raises(ResourceNotFoundError):
        client.get_deleted_certificate(name)
    assert create(client, name).properties.version != made.properties.version


def test_a_certificate_that_is_not_there_is_not_found(client: CertificateClient, name: str) -> None:
    for read in (client.get_certificate, client.get_certificate_policy, client.begin_delete_certificate):
        with pytest.raises(ResourceNotFoundError, match="not found"):
            read(name)
