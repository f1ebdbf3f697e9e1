"""The broker's own CAs: made, found again, and what their certificates say."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from certbroker.app import Core, open_core
from certbroker.config import build
from certbroker.domain.audit import Caller
from certbroker.domain.authority import KEY_KINDS, Authority, AuthoritySettings, AuthorityState, serial_text
from certbroker.domain.errors import Conflict, Invalid
from certbroker.domain.objects import Kind, Vault
from certbroker.services.pki.authorities import NewAuthority

ROOT = NewAuthority("CN=Example Root CA,O=Example")
ISSUING = NewAuthority("CN=Example Issuing CA,O=Example", days=1826, parent="root")


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    """One broker for all: each test has a vault of its own."""
    directory: Path = tmp_path_factory.mktemp("authorities")
    core = open_core(build({"data": {"directory": directory}}))
    yield core
    core.close()


@pytest.fixture
def vault(core: Core, caller: Caller) -> Vault:
    return core.broker.vaults.create(caller, f"v{secrets.token_hex(6)}")


@pytest.fixture
def root(core: Core, caller: Caller, vault: Vault) -> Authority:
    return core.broker.authorities.create(caller, vault, "root", ROOT)


def _certificate(authority: Authority) -> x509.Certificate:
    return x509.load_der_x509_certificate(authority.certificate)


def test_a_root_is_an_ordinary_certificate_of_its_vault(core: Core, vault: Vault, root: Authority) -> None:
    found = core.broker.certificates.get(vault, "root", "")
    key = core.broker.keys.get(vault, "root", "")

    assert found.version.certificate is not None
    assert root.certificate == found.version.certificate.leaf
    assert root.version == found.version.version == key.version
    assert key.key is not None
    assert not key.key.exportable
    assert found.policy is not None
    assert ("Unknown", False) == (found.policy.issuer, found.policy.exportable)
    assert AuthorityState.ACTIVE is root.state
    assert root.crl_act_at is not None


def test_a_root_says_that_it_is_a_ca(root: Authority) -> None:
    certificate = _certificate(root)
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)

    assert (True, True, None) == (basic.critical, basic.value.ca, basic.value.path_length)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    certificate.verify_directly_issued_by(certificate)


def test_a_ca_below_a_root_is_in_the_ledger_of_the_root(
    core: Core, caller: Caller, vault: Vault, root: Authority
) -> None:
    issuing = core.broker.authorities.create(caller, vault, "issuing", ISSUING)
    certificate = _certificate(issuing)
    certificate.verify_directly_issued_by(_certificate(root))
    glance = core.broker.store.glance().authorities
    entry = glance.issued(root.id, serial_text(certificate.serial_number))

    assert root.id == issuing.parent
    assert entry is not None
    assert (issuing.sha256, "ca", issuing.not_after) == (entry.sha256, entry.profile, entry.not_after)
    assert [issuing] == glance.children(root.id)
    assert [issuing, root] == core.broker.authorities.listing(vault)
    found = core.broker.certificates.get(vault, "issuing", "").version.certificate
    assert found is not None
    assert (issuing.certificate, root.certificate) == found.chain


def test_path_lengths_are_kept_to_and_filled_in(core: Core, caller: Caller, vault: Vault) -> None:
    create = core.broker.authorities.create
    create(caller, vault, "root", NewAuthority("CN=Root", settings=AuthoritySettings(path_length=1)))
    middle = create(caller, vault, "middle", NewAuthority("CN=Middle", parent="root"))

    assert 0 == middle.settings.path_length
    with pytest.raises(Invalid, match="path length 0"):
        create(caller, vault, "low", NewAuthority("CN=Low", parent="middle"))
    with pytest.raises(Invalid, match="path length of at most 0"):
        create(caller, vault, "deep", NewAuthority("CN=Deep", parent="root", settings=AuthoritySettings(path_length=1)))


def test_a_ca_does_not_outlive_the_one_above_it(core: Core, caller: Caller, vault: Vault, root: Authority) -> None:
    issuing = core.broker.authorities.create(caller, vault, "issuing", NewAuthority("CN=I", days=9000, parent="root"))

    assert root.not_after == issuing.not_after


@pytest.mark.parametrize("kind", [kind for kind in KEY_KINDS if kind not in ("RSA-3072", "RSA-4096")])
def test_every_kind_of_key_signs(core: Core, caller: Caller, vault: Vault, kind: str) -> None:
    create = core.broker.authorities.create
    root = create(caller, vault, "root", NewAuthority("CN=Root", key=kind))
    issuing = create(caller, vault, "issuing", NewAuthority("CN=Issuing", key=kind, parent="root"))
    _certificate(issuing).verify_directly_issued_by(_certificate(root))
    signer = core.broker.signers.open(issuing)
    families = {
        "RSA": rsa.RSAPrivateKey,
        "EC": ec.EllipticCurvePrivateKey,
        "OKP": ed25519.Ed25519PrivateKey,
        "AKP": (mldsa.MLDSA44PrivateKey, mldsa.MLDSA65PrivateKey, mldsa.MLDSA87PrivateKey),
    }

    assert isinstance(signer.key, families[KEY_KINDS[kind].kty])
    assert signer.key.public_key() == _certificate(issuing).public_key()
    assert (issuing.certificate, root.certificate) == tuple(map(_der, signer.path))


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize("kind", ["Ed25519", "ML-DSA-65"])
def test_a_key_that_key_vault_does_not_know_is_sealed_with_the_ca(
    core: Core, caller: Caller, vault: Vault, kind: str
) -> None:
    root = core.broker.authorities.create(caller, vault, "root", NewAuthority("CN=Root", key=kind))
    glance = core.broker.store.glance()
    found = glance.authorities.get(root.id)

    assert found == root
    assert root.sealed_key is not None
    assert glance.objects.get(vault.id, Kind.KEY, "root") is None
    assert glance.objects.get(vault.id, Kind.SECRET, "root") is None
    assert glance.objects.get(vault.id, Kind.CERTIFICATE, "root") is not None


def test_keys_of_cas_are_rewrapped_with_all_others(core: Core, caller: Caller, vault: Vault) -> None:
    root = core.broker.authorities.create(caller, vault, "root", NewAuthority("CN=Root", key="Ed25519"))
    core.broker.rotation.rotate(caller, timedelta())
    now = core.broker.store.glance().authorities.get(root.id)

    assert now is not None
    assert now.sealed_key is not None
    assert root.sealed_key is not None
    assert root.sealed_key.kek != now.sealed_key.kek
    assert core.broker.signers.open(now).key is not None


def test_a_name_that_is_taken_is_not_taken_over(core: Core, caller: Caller, vault: Vault, root: Authority) -> None:
    with pytest.raises(Conflict, match="already"):
        core.broker.authorities.create(caller, vault, "ROOT", ROOT)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (NewAuthority(""), "subject is missing"),
        (NewAuthority("CN=x", key="RSA-1024"), "no kind of key"),
        (NewAuthority("CN=x", key="P-256K"), "no kind of key"),
        (NewAuthority("CN=x", days=0), "days is between"),
        (NewAuthority("CN=x", parent="nobody"), "There is no CA named 'nobody'"),
        (NewAuthority("CN=x", parent="other/root"), "There is no CA named 'other/root'"),
        (NewAuthority("CN=x", settings=AuthoritySettings(path_length=-1)), "path_length"),
        (NewAuthority("CN=x", settings=AuthoritySettings(shards=0)), "shards"),
        (NewAuthority("CN=x", settings=AuthoritySettings(crl_hours=0)), "crl_hours"),
        (NewAuthority("CN=x", settings=AuthoritySettings(permitted=("ip:10.0.0.1/8",))), "no name that a constraint"),
        (NewAuthority("CN=x", settings=AuthoritySettings(permitted=("fax:1",))), "no name that a constraint"),
    ],
)
def test_what_cannot_be_a_ca_is_refused_with_a_reason(
    core: Core, caller: Caller, vault: Vault, wanted: NewAuthority, said: str
) -> None:
    with pytest.raises(Invalid, match=said):
        core.broker.authorities.create(caller, vault, "ca", wanted)

    assert [] == core.broker.authorities.listing(vault)


def test_a_ca_of_another_vault_is_used_only_where_it_is_lent(core: Core, caller: Caller, vault: Vault) -> None:
    other = core.broker.vaults.create(caller, f"o{secrets.token_hex(6)}")
    create = core.broker.authorities.create
    create(caller, vault, "private", NewAuthority("CN=Private"))
    create(caller, vault, "lent", NewAuthority("CN=Lent", settings=AuthoritySettings(lent_to=(other.name.upper(),))))
    create(caller, vault, "open", NewAuthority("CN=Open", settings=AuthoritySettings(lent_to=("*",))))
    signers = core.broker.signers.of(other.id)

    assert "CN=Lent" == signers.signer(f"{vault.name}/lent").authority.subject
    assert "CN=Open" == signers.signer(f"{vault.name}/open").authority.subject
    with pytest.raises(Invalid, match="not lent"):
        signers.signer(f"{vault.name}/private")
