"""Certificates of a private CA, made by the engine as any other."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from certbroker.domain.authority import KEY_KINDS, AuthoritySettings, serial_text
from certbroker.domain.keys import KeySpec
from tests.private_ca.conftest import PUBLISHED, Site, certificate, names
from tests.support.judges import lint, openssl_verify, verify_client, verify_server

RSA, EC = KeySpec("RSA", 2048), KeySpec("EC", None, "P-256")
PROFILES = {
    "server": ({}, "sslserver"),
    "client": ({"subject": "CN=alice", "sans": names(upns=("alice@corp.example",))}, "sslclient"),
    "code-signing": ({"subject": "CN=Example Ltd,O=Example", "sans": names()}, "any"),
    "smime": ({"subject": "CN=Alice", "sans": names(emails=("alice@corp.example",))}, "smimesign"),
    "custom;ekus=server,client;usages=digitalSignature,keyEncipherment;sans=dns,uri": (
        {"subject": "", "sans": names(dns_names=("a.corp.example",), uris=("https://corp.example/web",))},
        "any",
    ),
}


@pytest.mark.parametrize("key", [RSA, EC], ids=["RSA", "EC"])
@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_clean_and_verified_by_others(site: Site, tmp_path: Path, profile: str, key: KeySpec) -> None:
    policy, purpose = PROFILES[profile]
    root, issuing = site.two()
    site.issuer(f"ca=issuing;profile={profile}")
    chain = site.issue(key=key, **policy)

    assert [certificate(issuing)] == chain[1:]
    for each in (*chain, certificate(root)):
        assert [] == lint(each)
    assert (True, "") == _openssl(tmp_path, certificate(root), chain, purpose)


def test_wildcards_and_workload_identities_are_certified(site: Site, tmp_path: Path) -> None:
    root, _ = site.two()
    site.issuer("ca=issuing;profile=custom;ekus=server;usages=digitalSignature;sans=dns,uri")
    chain = site.issue(subject="", sans=names(dns_names=("*.corp.example",), uris=("spiffe://corp.example/web",)))

    # pkilint knows neither the wildcard of RFC 9525 nor the scheme of SPIFFE; there is nothing else that it minds.
    assert [".0.dNSName", ".1.uniformResourceIdentifier"] == [
        found.partition("subjectAltName")[2].partition(":")[0] for found in lint(chain[0])
    ]
    assert (True, "") == _openssl(tmp_path, certificate(root), chain, "sslserver")
    verify_server(certificate(root), chain, "b.corp.example", datetime.now(UTC))


def _openssl(directory: Path, root: x509.Certificate, chain: list[x509.Certificate], purpose: str) -> tuple[bool, str]:
    good, said = openssl_verify(directory, root, chain, "-purpose", purpose)
    return good, "" if good else said


@pytest.mark.parametrize("kind", [kind for kind in KEY_KINDS if kind not in ("RSA-3072", "RSA-4096")])
def test_every_kind_of_ca_key_makes_chains_that_hold(site: Site, tmp_path: Path, kind: str) -> None:
    root, _ = site.two(kind)
    site.issuer("ca=issuing;chain=full")
    chain = site.issue()

    assert 3 == len(chain)
    for each, above in zip(chain, [*chain[1:], certificate(root)], strict=True):
        each.verify_directly_issued_by(above)
        assert [] == lint(each)
    if not kind.startswith("ML-DSA"):  # The openssl of today does not know it.
        assert openssl_verify(tmp_path, certificate(root), chain[:-1])[0]


@pytest.mark.parametrize("kind", ["RSA-2048", "P-256", "P-384"])
def test_the_verifier_of_python_takes_servers_and_clients(site: Site, kind: str) -> None:
    root, _ = site.two(kind)
    now = datetime.now(UTC)
    site.issuer("ca=issuing")
    verify_server(certificate(root), site.issue(), "www.corp.example", now)
    site.issuer("ca=issuing;profile=client", "clients")
    client = site.issue("alice", issuer="clients", subject="", sans=names(emails=("alice@corp.example",)))
    verify_client(certificate(root), client, now)


def test_a_certificate_and_its_entry_are_stored_together(site: Site) -> None:
    _, issuing = site.two()
    site.issuer()
    leaf = site.issue()[0]
    version = site.core.broker.certificates.get(site.vault, "www", "").version
    entry = site.core.broker.store.glance().authorities.issued(issuing.id, serial_text(leaf.serial_number))

    assert entry is not None
    assert version.certificate is not None
    assert (version.certificate.sha256, version.certificate.not_after) == (entry.sha256, entry.not_after)
    assert (site.vault.id, "www", version.version, "server") == (
        entry.vault_id,
        entry.name,
        entry.version,
        entry.profile,
    )
    assert entry.revoked is None


def test_a_certificate_says_where_to_ask_about_it(site: Site) -> None:
    _, issuing = site.two()
    site.issuer()
    leaf = site.issue()[0]
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value

    assert [f"{PUBLISHED}/ocsp/{issuing.id}", f"{PUBLISHED}/ca/{issuing.id}.cer"] == [
        each.access_location.value for each in access
    ]
    assert [f"{PUBLISHED}/crl/{issuing.id}.crl"] == [name.value for point in points for name in point.full_name or ()]


def test_each_certificate_names_the_shard_that_its_entry_has(site: Site) -> None:
    _, issuing = site.two(settings=AuthoritySettings(shards=4))
    site.issuer()
    seen = set()
    for number in range(8):
        leaf = site.issue(f"c{number}")[0]
        points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        entry = site.core.broker.store.glance().authorities.issued(issuing.id, serial_text(leaf.serial_number))
        assert entry is not None
        seen.add(entry.shard)
        assert f"{PUBLISHED}/crl/{issuing.id}/{entry.shard}.crl" == next(iter(points)).full_name[0].value  # type: ignore[index]

    assert 1 < len(seen) <= 4


def test_serial_numbers_have_128_random_bits(site: Site) -> None:
    site.two()
    site.issuer()
    serials = {site.issue(f"c{number}")[0].serial_number for number in range(5)}

    assert 5 == len(serials)
    assert {129} == {serial.bit_length() for serial in serials}


def test_the_profile_decides_on_usages_whatever_the_policy_asks_for(site: Site) -> None:
    site.two()
    site.issuer()
    leaf = site.issue(ekus=("1.3.6.1.5.5.7.3.3", "2.5.29.37.0"), key_usage=("keyCertSign", "cRLSign", "keyAgreement"))[
        0
    ]
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value

    assert [ExtendedKeyUsageOID.SERVER_AUTH] == list(
        leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    )
    assert (True, False, False, False) == (
        usage.digital_signature,
        usage.key_cert_sign,
        usage.crl_sign,
        usage.key_agreement,
    )
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize(
    ("options", "months", "days"), [("", 6, 184), ("", 24, 398), (";days=30", 12, 30), (";profile=client", 60, 825)]
)
def test_a_certificate_lives_for_the_shortest_of_all_limits(site: Site, options: str, months: int, days: int) -> None:
    site.two()
    site.issuer(f"ca=issuing{options}")
    leaf = site.issue(validity_months=months)[0]
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc

    assert life.days <= days
    assert days - 4 <= life.days


def test_a_certificate_does_not_outlive_its_ca(site: Site) -> None:
    short = site.ca("short", days=20)
    site.issuer("ca=short")
    leaf = site.issue()[0]

    assert short.not_after == int(leaf.not_valid_after_utc.timestamp())


def test_keys_of_both_families_are_certified(site: Site) -> None:
    site.two()
    site.issuer()

    assert isinstance(site.issue("a", key=RSA)[0].public_key(), rsa.RSAPublicKey)
    assert isinstance(site.issue("b", key=KeySpec("EC", None, "P-521"))[0].public_key(), ec.EllipticCurvePublicKey)
