"""A private CA under Azure's own client, which knows only that there is an issuer."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from azure.keyvault.certificates import AdministratorContact, CertificateClient, CertificatePolicy
from azure.keyvault.keys import KeyClient
from azure.keyvault.secrets import SecretClient
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.support.broker import DevBroker
from tests.support.wire import Wire

pytestmark = pytest.mark.xdist_group("sdk")


@pytest.fixture
def client(connect: Callable[[type], Any]) -> CertificateClient:
    return connect(CertificateClient)


@pytest.fixture(params=["P-256", "ML-DSA-65"])
def ca(broker: DevBroker, name: str, request: pytest.FixtureRequest) -> str:
    """A root with a CA below it, whose keys may be of a kind that the client has never heard of."""
    wire = Wire(broker)
    wire.ok("POST", f"/authorities/root-{name}/create", {"subject": "CN=Root", "key": request.param})
    body = {"subject": "CN=Issuing", "parent": f"root-{name}", "key": request.param}
    wire.ok("POST", f"/authorities/ca-{name}/create", body)
    return f"ca-{name}"


def test_the_client_makes_an_issuer_and_a_certificate_of_a_private_ca(
    client: CertificateClient, connect: Callable[[type], Any], name: str, ca: str
) -> None:
    issuer = client.create_issuer(
        name, "PrivateCA", organization_id=f"ca={ca}", admin_contacts=[AdministratorContact(email="pki@example.org")]
    )
    policy = CertificatePolicy(name, subject="CN=www.corp.example", san_dns_names=["www.corp.example"], key_type="EC")
    made = client.begin_create_certificate(name, policy, _polling_interval=0.1).result()
    leaf = x509.load_der_x509_certificate(bytes(made.cer))
    secret = connect(SecretClient).get_secret(name)
    bundle = pkcs12.load_pkcs12(base64.b64decode(secret.value), None)

    assert ("PrivateCA", f"ca={ca}") == (issuer.provider, issuer.organization_id)
    assert name == made.policy.issuer_name
    assert "CN=Issuing" == leaf.issuer.rfc4514_string()
    assert ["CN=Issuing"] == [each.certificate.subject.rfc4514_string() for each in bundle.additional_certs]
    leaf.verify_directly_issued_by(bundle.additional_certs[0].certificate)


def test_the_client_reads_a_vault_that_holds_cas(
    client: CertificateClient, connect: Callable[[type], Any], ca: str
) -> None:
    read = client.get_certificate(ca)
    policy = client.get_certificate_policy(ca)

    assert "CN=Issuing" == x509.load_der_x509_certificate(bytes(read.cer)).subject.rfc4514_string()
    assert not policy.exportable
    assert ca in [each.name for each in client.list_properties_of_certificates()]
    keys = connect(KeyClient)
    for key in keys.list_properties_of_keys():
        assert keys.get_key(key.name).key_type in ("EC", "RSA")
