"""Requests from outside: what is signed, and what is not, whatever they ask for."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from certbroker.domain.authority import AuthoritySettings
from certbroker.domain.errors import BrokerError, Invalid, NotFound, TooLarge
from certbroker.domain.objects import Kind
from certbroker.domain.revocation import Reason
from certbroker.keystore.software import SoftwareKeyStore
from certbroker.services.pki.outside_requests import SignedRequest, SigningWish
from tests.private_ca.conftest import Site, certificate
from tests.support.certificates import weak_rsa_key
from tests.support.judges import lint, openssl_verify

NAMES = x509.SubjectAlternativeName([x509.DNSName("www.corp.example")])


def request(*extensions: x509.ExtensionType, key: object = None, subject: str = "CN=whoever,O=Evil") -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name.from_rfc4514_string(subject))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    key = key or ec.generate_private_key(ec.SECP256R1())
    own_hash = isinstance(key, ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey)
    return builder.sign(key, None if own_hash else hashes.SHA256()).public_bytes(Encoding.PEM)  # type: ignore[arg-type]


def signed(site: Site, csr: bytes, subject: str = "", **options: str) -> SignedRequest:
    return site.core.broker.outside_requests.sign(
        site.caller, site.vault, "issuing", SigningWish(csr, options, subject)
    )


def leaf_of(found: SignedRequest) -> x509.Certificate:
    return x509.load_der_x509_certificate(found.chain[0])


@pytest.mark.parametrize("make", [None, ed25519.Ed25519PrivateKey.generate, mldsa.MLDSA65PrivateKey.generate])
def test_of_a_request_the_key_and_the_names_are_taken(
    site: Site, tmp_path: Path, make: Callable[[], object] | None
) -> None:
    root, issuing = site.two()
    key = make() if make else rsa.generate_private_key(65537, 2048)
    usage = x509.KeyUsage(True, True, False, False, False, False, False, False, False)
    csr = request(NAMES, usage, x509.ExtendedKeyUsage([x509.OID_CODE_SIGNING]), key=key)
    found = signed(site, csr, days="90")
    leaf = leaf_of(found)

    assert key.public_key() == leaf.public_key()  # type: ignore[attr-defined]
    assert NAMES == leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [] == list(leaf.subject)
    assert ["1.3.6.1.5.5.7.3.1"] == [
        each.dotted_string for each in leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    ]
    assert ("2.5.29.15", "2.5.29.37") == found.ignored
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(days=90)
    assert (certificate(issuing), certificate(root)) == tuple(
        x509.load_der_x509_certificate(each) for each in found.chain[1:]
    )
    assert [] == lint(leaf)
    if not isinstance(key, mldsa.MLDSA65PrivateKey):  # The openssl of today does not know it.
        assert openssl_verify(tmp_path, certificate(root), [leaf, certificate(issuing)])[0]


def test_the_subject_is_chosen_by_who_signs(site: Site) -> None:
    site.two()
    leaf = leaf_of(signed(site, request(NAMES), "CN=Example Ltd,O=Example", profile="client"))

    assert "CN=Example Ltd,O=Example" == leaf.subject.rfc4514_string()


def test_a_signed_request_is_kept_and_can_be_revoked(site: Site) -> None:
    _, issuing = site.two()
    found = signed(site, request(NAMES))
    outside = site.core.broker.outside_requests
    page = outside.ledger(site.vault, "issuing", "", "", 10)

    assert [replace(found.entry, replies=None)] == list(page.items)
    assert (found.chain[0], issuing.id) == (found.entry.certificate, found.entry.authority)
    assert outside.revoke(site.caller, site.vault, "issuing", found.entry.serial, Reason.SUPERSEDED).revoked


def test_the_ledger_has_pages(site: Site) -> None:
    site.two()
    made = {signed(site, request(NAMES)).entry.serial for _ in range(5)}
    outside, seen, after = site.core.broker.outside_requests, [], ""
    while True:
        page = outside.ledger(site.vault, "issuing", "", after, 2)
        seen += [entry.serial for entry in page.items]
        if page.next is None:
            break
        after = page.next

    assert sorted(made) == seen


@pytest.mark.parametrize(
    ("csr", "said"),
    [
        (lambda: b"", "no PKCS#10"),
        (lambda: b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "no PKCS#10"),
        (lambda: request(x509.BasicConstraints(ca=True, path_length=0), NAMES), "asks for the certificate of a CA"),
        (
            lambda: request(x509.KeyUsage(True, False, False, False, False, True, False, False, False), NAMES),
            "only CAs have",
        ),
        (request, "needs a name of a kind out of: dns, ip"),
        (lambda: request(NAMES, key=weak_rsa_key()), "1024 bits"),
        (lambda: request(NAMES, key=rsa.generate_private_key(3, 2048)), "exponent"),
        (lambda: request(NAMES, key=ec.generate_private_key(ec.SECP224R1())), "secp224r1"),
        (lambda: request(NAMES, key=dsa.generate_private_key(2048)), "kind that is not supported"),
        (lambda: _spoilt(request(NAMES)), "signature of the request"),
        (
            lambda: request(x509.SubjectAlternativeName([x509.DirectoryName(x509.Name([]))])),
            "name of a kind that is not certified",
        ),
        (lambda: request(x509.SubjectAlternativeName([x509.DNSName("not a name")])), "no DNS name"),
        (
            lambda: request(x509.SubjectAlternativeName([x509.DNSName(f"h{n}.example") for n in range(101)])),
            "at most 100",
        ),
        (lambda: request(x509.SubjectAlternativeName([x509.DNSName("www.evil.example")])), "not among the names"),
        (lambda: request(x509.SubjectAlternativeName([x509.RFC822Name("a@corp.example")])), "of the kind email"),
    ],
)
def test_what_a_request_may_not_have_is_refused_with_a_sentence(
    site: Site, csr: Callable[[], bytes], said: str
) -> None:
    _, issuing = site.two(settings=AuthoritySettings(permitted=("dns:corp.example",)))

    with pytest.raises(Invalid, match=said):
        signed(site, csr())
    assert [] == site.core.broker.store.glance().authorities.ledger(issuing.id, "", 1)


def _spoilt(pem: bytes) -> bytes:
    der = bytearray(x509.load_pem_x509_csr(pem).public_bytes(Encoding.DER))
    der[-1] ^= 1
    return bytes(der)


def test_huge_requests_are_refused_before_they_are_read(site: Site) -> None:
    site.two()
    huge = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), bytes(500_000))
    csr = request(NAMES, huge)
    started = time.monotonic()
    with pytest.raises(TooLarge, match="at most"):
        signed(site, csr)

    assert time.monotonic() - started < 0.1


def test_other_extensions_are_left_out_and_told_of(site: Site) -> None:
    site.two()
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(20_000))
    found = signed(site, request(NAMES, odd))

    assert ("1.2.3.4",) == found.ignored
    assert len(found.chain[0]) < 2000


def test_a_key_that_was_reported_is_not_certified_again(site: Site) -> None:
    site.two()
    site.issuer()
    site.issue("leaked")
    broker = site.core.broker
    version = broker.certificates.get(site.vault, "leaked", "").version
    assert version.certificate is not None
    serial = version.certificate.serial
    broker.outside_requests.revoke(site.caller, site.vault, "issuing", serial, Reason.KEY_COMPROMISE)
    stored = broker.store.glance().objects.get(site.vault.id, Kind.KEY, "leaked")
    assert stored is not None
    assert stored.sealed is not None
    key = SoftwareKeyStore().load(site.core.seal.open(stored.identity(site.vault.id), stored.sealed))

    with pytest.raises(Invalid, match="compromise of this private key"):
        signed(site, request(NAMES, key=key))


def test_only_a_ca_signs(site: Site) -> None:
    with pytest.raises(NotFound, match="no CA named issuing"):
        signed(site, request(NAMES))


@pytest.mark.parametrize("options", [{"profile": "root"}, {"days": "9999"}, {"days": "x"}, {"ekus": "server"}])
def test_options_that_make_no_sense_are_refused(site: Site, options: dict[str, str]) -> None:
    site.two()

    with pytest.raises(BrokerError):
        signed(site, request(NAMES), **options)
