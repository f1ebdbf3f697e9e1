"""Policies: on the wire and back, and in the requests that are made from them."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from certbroker.domain.csr import build_csr, check_expressible, names_for
from certbroker.domain.errors import Invalid
from certbroker.domain.keys import KEY_USAGES
from certbroker.domain.policy import CertificatePolicy, is_address, is_dns_name, parse_subject
from certbroker.store.objects import decode_policy, encode_policy
from certbroker.web.akv.ids import Links
from certbroker.web.akv.policies import PolicyJSON, policy_json, reviser
from tests.domain.strategies import DNS_NAMES, policies

KEY = ec.generate_private_key(ec.SECP256R1())


@given(policies())
def test_what_a_client_reads_it_can_write_back(policy: CertificatePolicy) -> None:
    wire = msgspec.json.encode(policy_json(Links("https://v.example"), "n", policy))
    decoded = msgspec.json.decode(wire, type=PolicyJSON)

    assert policy == reviser(decoded, required=True)(None)
    assert policy == reviser(decoded, required=False)(policy)


@given(policies(), policies())
def test_written_over_another_policy_it_wins_in_all_but_absent_parts(
    policy: CertificatePolicy, stored: CertificatePolicy
) -> None:
    wire = msgspec.json.encode(policy_json(Links("https://v.example"), "n", policy))
    merged = reviser(msgspec.json.decode(wire, type=PolicyJSON), required=False)(stored)

    for name in ("key", "content_type", "subject", "ekus", "key_usage", "lifetime_actions", "issuer", "exportable"):
        assert getattr(policy, name) == getattr(merged, name)
    for kind in ("dns_names", "emails", "upns", "uris", "ip_addresses"):
        assert (getattr(policy.sans, kind) or getattr(stored.sans, kind)) == getattr(merged.sans, kind)


@given(policies())
def test_the_database_gives_back_what_it_was_given(policy: CertificatePolicy) -> None:
    assert policy == decode_policy(encode_policy(policy))


@given(policies())
def test_an_empty_change_changes_nothing(policy: CertificatePolicy) -> None:
    assert policy == reviser(PolicyJSON(), required=False)(policy)
    assert policy == reviser(None, required=True)(policy)


@given(policies())
def test_a_request_says_what_the_policy_says(policy: CertificatePolicy) -> None:
    policy.check()
    check_expressible(policy)
    csr = x509.load_der_x509_csr(build_csr(policy, KEY))

    assert csr.is_signature_valid
    assert parse_subject(policy.subject) == csr.subject
    assert not csr.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert set(policy.key_usage) == _usages(csr)
    assert policy.ekus == _ekus(csr)
    wanted = names_for(policy)
    names = _names(csr)
    assert list(wanted.dns_names) == names.get_values_for_type(x509.DNSName)
    assert list(wanted.emails) == names.get_values_for_type(x509.RFC822Name)
    assert list(wanted.uris) == names.get_values_for_type(x509.UniformResourceIdentifier)
    assert [ipaddress.ip_address(each) for each in wanted.ip_addresses] == names.get_values_for_type(x509.IPAddress)
    assert [upn.encode() for upn in wanted.upns] == [
        other.value[2:] for other in names.get_values_for_type(x509.OtherName)
    ]


def _usages(csr: x509.CertificateSigningRequest) -> set[str]:
    try:
        usage = csr.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return set()
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    flags = [getattr(usage, name) for name in (*names, "key_cert_sign", "crl_sign")]
    flags += [usage.key_agreement and usage.encipher_only, usage.key_agreement and usage.decipher_only]
    return {name for name, flag in zip(KEY_USAGES, flags, strict=True) if flag}


def _ekus(csr: x509.CertificateSigningRequest) -> tuple[str, ...]:
    try:
        found = csr.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(each.dotted_string for each in found)


def _names(csr: x509.CertificateSigningRequest) -> x509.SubjectAlternativeName:
    try:
        return csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])


ATTRIBUTES = st.sampled_from([NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.LOCALITY_NAME])
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(
    lambda value: value == value.strip()
)


@given(st.lists(st.tuples(ATTRIBUTES, VALUES), min_size=1, max_size=4))
def test_a_subject_is_read_as_it_is_written(attributes: list[tuple[x509.ObjectIdentifier, str]]) -> None:
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])

    assert name == parse_subject(name.rfc4514_string())


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("CN=a, O=b", "CN=a,O=b"),
        ("  CN=a  ", "CN=a"),
        ('CN="a, b", O=c', "CN=a\\, b,O=c"),
        ("E=a@example.com", "1.2.840.113549.1.9.1=a@example.com"),
        ("S=Bavaria", "ST=Bavaria"),
        ("CN=a+O=b", "CN=a+O=b"),
    ],
)
def test_other_spellings_of_a_subject_are_understood(written: str, meant: str) -> None:
    assert x509.Name.from_rfc4514_string(meant) == parse_subject(written)


@given(st.text(max_size=40))
def test_a_subject_is_read_or_refused(text: str) -> None:
    try:
        parse_subject(text).public_bytes()
    except Invalid:
        return
    except ValueError:
        with pytest.raises(Invalid):
            check_expressible(CertificatePolicy(subject=text))


@given(DNS_NAMES)
def test_host_names_are_dns_names(name: str) -> None:
    assert is_dns_name(name)


@given(st.text(max_size=20))
def test_text_is_a_dns_name_only_where_x509_takes_it(text: str) -> None:
    if is_dns_name(text):
        assert text == x509.DNSName(text).value
        assert "" not in text.split(".")
    if is_address(text):
        assert x509.IPAddress(ipaddress.ip_address(text))
