"""What is put together by hand is what the builders of `cryptography` make, octet for octet."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from certbroker.domain import der
from certbroker.domain.csr import build_csr, general_names, names_for
from certbroker.domain.keys import KEY_USAGES, PrivateKey, VerifyingKey, key_identifier
from certbroker.domain.policy import CertificatePolicy, parse_oid, parse_subject, written_subject
from certbroker.ports.issuer import CertificateIssued, IssuanceRequest
from issuers.self_signed import SelfSigned
from tests.domain.strategies import policies
from tests.support.clock import SteppedClock

Signer = tuple[PrivateKey, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]

SIGNERS: list[Signer] = [
    (ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()),
    (ec.generate_private_key(ec.SECP256K1()), hashes.SHA256()),
    (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
    (ec.generate_private_key(ec.SECP521R1()), hashes.SHA512()),
    (rsa.generate_private_key(65537, 2048), hashes.SHA256()),
]


def extensions(policy: CertificatePolicy) -> list[tuple[x509.ExtensionType, bool]]:
    """What the policy asks for, as objects of the library."""
    found: list[tuple[x509.ExtensionType, bool]] = [(x509.BasicConstraints(ca=False, path_length=None), True)]
    if policy.key_usage:
        found.append((x509.KeyUsage(*(usage in policy.key_usage for usage in KEY_USAGES)), True))
    if policy.ekus:
        found.append((x509.ExtendedKeyUsage([parse_oid(oid) for oid in policy.ekus]), False))
    names = general_names(names_for(policy))
    if names:
        found.append((x509.SubjectAlternativeName(names), not policy.subject))
    return found


@pytest.mark.parametrize(
    "key", [*(key.public_key() for key, _ in SIGNERS), ed25519.Ed25519PrivateKey.generate().public_key()]
)
def test_the_identifier_of_a_key_is_the_librarys(key: VerifyingKey) -> None:
    public = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    assert x509.SubjectKeyIdentifier.from_public_key(key).digest == key_identifier(public)


@given(policies(), st.sampled_from(SIGNERS), st.booleans())
def test_a_request_is_what_the_builder_makes(policy: CertificatePolicy, signer: Signer, named: bool) -> None:
    policy = policy if named else replace(policy, subject="")
    key, digest = signer
    builder = x509.CertificateSigningRequestBuilder().subject_name(parse_subject(policy.subject))
    for extension, critical in extensions(policy):
        builder = builder.add_extension(extension, critical)
    built, ours = builder.sign(key, digest), x509.load_der_x509_csr(build_csr(policy, key))

    assert built.tbs_certrequest_bytes == ours.tbs_certrequest_bytes
    assert built.signature_algorithm_oid == ours.signature_algorithm_oid
    assert ours.is_signature_valid


@given(
    policies(),
    st.sampled_from(SIGNERS),
    st.datetimes(datetime(2026, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),
)
def test_a_certificate_is_what_the_builder_makes(policy: CertificatePolicy, signer: Signer, now: datetime) -> None:
    key, digest = signer
    clock = SteppedClock()
    clock.moment = now
    request = IssuanceRequest("operation", b"", policy, key)
    reply = SelfSigned(clock).advance(request, journal=None)  # type: ignore[arg-type]  # It writes none.
    assert isinstance(reply, CertificateIssued)
    ours = x509.load_der_x509_certificate(reply.chain[0])
    subject = parse_subject(policy.subject)
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), ours.serial_number)
        .not_valid_before(ours.not_valid_before_utc)
        .not_valid_after(ours.not_valid_after_utc)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    for extension, critical in extensions(policy):
        builder = builder.add_extension(extension, critical)
    built = builder.sign(key, digest)

    assert built.tbs_certificate_bytes == ours.tbs_certificate_bytes
    assert built.signature_algorithm_oid == ours.signature_algorithm_oid
    assert ours.issuer.rfc4514_string() == written_subject(policy.subject)
    ours.verify_directly_issued_by(ours)


@given(st.integers(0, 2**200))
def test_an_integer_is_not_negative_and_has_no_octet_too_many(number: int) -> None:
    octets = der.unsigned(number)[2:]

    assert number == int.from_bytes(octets, "big", signed=True)
    assert len(octets) == 1 or octets[0] or octets[1] & 0x80


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65_535, 65_536])
def test_a_length_is_in_its_shortest_form(size: int) -> None:
    encoded = der.octet_string(bytes(size))
    head = encoded[1 : len(encoded) - size]
    length = head[0] if size < 128 else int.from_bytes(head[1:], "big")

    assert size == length
    assert len(head) == 1 if size < 128 else (head[0] & 0x7F == len(head) - 1 and head[1])


@given(st.tuples(st.integers(0, 2), st.integers(0, 39), st.integers(0, 2**70)))
def test_an_object_identifier_is_what_the_library_reads(arcs: tuple[int, int, int]) -> None:
    dotted = ".".join(map(str, arcs))
    name = der.sequence(der.set_of_one(der.sequence(der.object_identifier(dotted), b"\x0c\x01x")))
    public = SIGNERS[0][0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    body = der.sequence(der.unsigned(0), name, public, der.tagged(0, b""))
    algorithm = der.sequence(der.object_identifier("1.2.840.10045.4.3.2"))
    csr = x509.load_der_x509_csr(der.sequence(body, algorithm, der.bit_string(b"")))

    assert [dotted] == [attribute.oid.dotted_string for attribute in csr.subject]
