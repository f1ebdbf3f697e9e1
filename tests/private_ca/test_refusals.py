"""What a private CA does not sign, and how it says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import DNSName, GeneralName, IPAddress, RFC822Name, UniformResourceIdentifier
from msgspec import structs

from certbroker.domain import der
from certbroker.domain.authority import AuthoritySettings
from certbroker.domain.errors import Invalid
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Changes
from certbroker.domain.operation import Failed
from certbroker.domain.signing import scheme_of
from certbroker.ports.authority import Signer
from certbroker.ports.issuer import IssuerSettings
from certbroker.services.issuers.issuers import IssuerChanges
from issuers.private_ca.constraints import name_constraints, violation
from issuers.private_ca.lint import Linted, LintRefused, lint
from issuers.private_ca.prepare import Prepared, prepare_leaf
from issuers.private_ca.profiles import SERVER
from issuers.private_ca.settings import read_settings
from issuers.private_ca.signing import sign
from tests.private_ca.conftest import Site, certificate, names
from tests.support.judges import openssl_verify

YEAR = timedelta(days=365)
OID = x509.ObjectIdentifier("1.2.3.4")
Builder = x509.CertificateBuilder


def test_only_what_was_linted_can_be_signed(site: Site) -> None:
    linted = lint(_prepared(site))

    with pytest.raises(TypeError, match="lint"):
        Linted(linted.tbs, linted.prepared, object())
    with pytest.raises((TypeError, ValueError), match="mark"):
        replace(linted, tbs=b"other")
    assert linted.tbs == x509.load_der_x509_certificate(sign(linted)).tbs_certificate_bytes


def _prepared(site: Site) -> Prepared:
    signer = site.core.broker.signers.open(site.ca("root"))
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    sans = names(dns_names=("www.corp.example",))
    return prepare_leaf(signer, SERVER, x509.Name([]), sans, key, datetime.now(UTC), YEAR)


def _changed(prepared: Prepared, change: Callable[[Builder], Builder]) -> Prepared:
    """With what the library's builder makes of the same certificate after the change."""
    parts = prepared.tbs, scheme_of(prepared.key).algorithm, der.bit_string(b"")
    draft = x509.load_der_x509_certificate(der.sequence(*parts))
    builder = Builder(
        draft.issuer,
        draft.subject,
        draft.public_key(),  # type: ignore[arg-type]
        draft.serial_number,
        draft.not_valid_before_utc.replace(tzinfo=None),
        draft.not_valid_after_utc.replace(tzinfo=None),
        list(draft.extensions),
    )
    signed = change(builder).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return structs.replace(prepared, tbs=signed.tbs_certificate_bytes)


def test_what_is_prepared_is_what_the_librarys_builder_makes(site: Site) -> None:
    prepared = _prepared(site)

    assert prepared.tbs == _changed(prepared, _with()).tbs


def test_a_draft_that_names_another_algorithm_is_not_signed(site: Site) -> None:
    prepared = _prepared(site)
    another = scheme_of(ec.generate_private_key(ec.SECP384R1())).algorithm
    tbs = prepared.tbs.replace(scheme_of(prepared.key).algorithm, another)

    with pytest.raises(LintRefused, match="names another algorithm"):
        lint(structs.replace(prepared, tbs=tbs))


def _with(**fields: object) -> Callable[[Builder], Builder]:
    return lambda builder: Builder(**(_fields(builder) | fields))  # type: ignore[arg-type]


def _extended(value: x509.ExtensionType, *, critical: bool = False) -> Callable[[Builder], Builder]:
    """With this extension, in the place of the one of its kind if there is one."""

    def change(builder: Builder) -> Builder:
        rest = [each for each in builder._extensions if each.oid != value.oid]
        return Builder(**_fields(builder) | {"extensions": [*rest, x509.Extension(value.oid, critical, value)]})

    return change


def _without(oid: x509.ObjectIdentifier) -> Callable[[Builder], Builder]:
    return lambda builder: Builder(
        **_fields(builder) | {"extensions": [each for each in builder._extensions if each.oid != oid]}
    )


def _fields(builder: Builder) -> dict[str, Any]:
    names = ("subject_name", "issuer_name", "public_key", "serial_number", "not_valid_before", "not_valid_after")
    return {name: getattr(builder, f"_{name}") for name in (*names, "extensions")}


CN = x509.Name.from_rfc4514_string("CN=x")
LATER = datetime.now(UTC).replace(microsecond=0, tzinfo=None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_extended(x509.BasicConstraints(ca=True, path_length=None), critical=True), "cannot be a CA"),
        (_extended(x509.BasicConstraints(ca=False, path_length=None)), "2.5.29.19 is not critical"),
        (_without(x509.BasicConstraints.oid), "lacks the extension 2.5.29.19"),
        (_without(x509.AuthorityKeyIdentifier.oid), "lacks the extension 2.5.29.35"),
        (_without(x509.SubjectKeyIdentifier.oid), "lacks the extension 2.5.29.14"),
        (_without(x509.SubjectAlternativeName.oid), "names nobody"),
        (_extended(x509.AuthorityKeyIdentifier(b"x", None, None)), "key identifier is not"),
        (_extended(x509.ExtendedKeyUsage([OID])), "purposes are not"),
        (_extended(x509.UnrecognizedExtension(OID, b"\5\0")), "nobody asked for, 1.2.3.4"),
        (_extended(x509.UnrecognizedExtension(OID, bytes(50_000))), "more than 49152 bytes"),
        (_extended(x509.SubjectAlternativeName([DNSName("not a name")]), critical=True), "no DNS name"),
        (_extended(x509.SubjectAlternativeName([DNSName("a"), DNSName("a")]), critical=True), "same name twice"),
        (_with(subject_name=CN), "names are critical"),
        (_with(issuer_name=CN), "issuer is not written as"),
        (_with(serial_number=7), "serial number"),
        (_with(not_valid_after=LATER + 50 * YEAR), "while its issuer is not"),
        (_with(not_valid_before=LATER - 50 * YEAR), "while its issuer is not"),
        (_with(not_valid_after=LATER + 2 * YEAR), "more than 398 days"),
    ],
)
def test_a_draft_that_breaks_a_rule_is_not_signed(site: Site, change: Callable[[Builder], Builder], said: str) -> None:
    """The checks do not trust the code that puts certificates together."""
    prepared = _prepared(site)

    with pytest.raises(LintRefused, match=said):
        lint(_changed(prepared, change))


def test_a_leaf_for_the_key_of_the_ca_itself_is_not_signed(site: Site) -> None:
    prepared = _prepared(site)

    with pytest.raises(LintRefused, match="CA's own"):
        lint(_changed(prepared, _with(public_key=prepared.key.public_key())))


@pytest.mark.parametrize(
    ("options", "policy", "said"),
    [
        ("", {"key": KeySpec("EC", None, "P-256K")}, "secp256k1"),
        ("", {"subject": "CN=Alice", "sans": names(emails=("a@corp.example",))}, "takes no names of the kind email"),
        ("", {"subject": "CN=Alice", "sans": names()}, "needs a name of a kind out of: dns, ip"),
        (";profile=smime", {"subject": "CN=Alice", "sans": names()}, "needs a name of a kind out of: email"),
        (";profile=code-signing", {"subject": "", "sans": names(uris=("https://a.example",))}, "needs a subject"),
        (
            ";names=dns:corp.example",
            {"sans": names(dns_names=("www.evil.example",))},
            "'www.evil.example' is not among",
        ),
        (";names=dns:corp.example", {"sans": names(dns_names=("evilcorp.example",))}, "not among"),
        (";names=dns:corp.example", {"sans": names(ip_addresses=("10.0.0.1",))}, "'10.0.0.1' is not among"),
        (";names=ip:10.0.0.0/8", {"subject": "CN=www.corp.example", "sans": names()}, "not among"),
        (";names=dns:a.corp.example", {"sans": names(dns_names=("*.corp.example",)), "subject": ""}, "not among"),
    ],
)
def test_a_request_is_refused_with_a_sentence(site: Site, options: str, policy: dict[str, Any], said: str) -> None:
    site.two()
    site.issuer(f"ca=issuing{options}")

    assert said in site.refusal(**policy)


def test_a_request_that_is_refused_leaves_no_entry(site: Site) -> None:
    _, issuing = site.two()
    site.issuer("ca=issuing;names=dns:other.example")
    site.refusal()

    assert [] == site.core.broker.store.glance().authorities.ledger(issuing.id, "", 10)


@pytest.mark.parametrize("where", ["root", "issuing"])
def test_the_name_constraints_of_all_cas_on_the_path_are_kept(site: Site, where: str) -> None:
    constrained = AuthoritySettings(permitted=("dns:corp.example",), excluded=("dns:secret.corp.example",))
    site.ca("root", settings=constrained if where == "root" else AuthoritySettings())
    site.ca("issuing", parent="root", settings=constrained if where == "issuing" else AuthoritySettings())
    site.issuer()

    assert "not among the names that are permitted by the name constraints of the CA" in site.refusal(
        subject="", sans=names(dns_names=("www.corp.example.evil.example",))
    )
    assert "'db.secret.corp.example' is excluded by the name constraints" in site.refusal(
        subject="", sans=names(dns_names=("db.secret.corp.example",))
    )
    assert "'*.corp.example' is excluded" in site.refusal(subject="", sans=names(dns_names=("*.corp.example",)))
    site.issue()


# What is asked for, what is permitted and excluded, and whether that is good. openssl is asked the same.
CONSTRAINED: list[tuple[GeneralName, list[str], list[str], bool]] = [
    (DNSName("a.corp.example"), ["dns:corp.example"], [], True),
    (DNSName("corp.example"), ["dns:corp.example"], [], True),
    (DNSName("A.CORP.example"), ["dns:corp.EXAMPLE"], [], True),
    (DNSName("xcorp.example"), ["dns:corp.example"], [], False),
    (DNSName("corp.example.org"), ["dns:corp.example"], [], False),
    (DNSName("a.corp.example"), [], ["dns:corp.example"], False),
    (DNSName("a.corp.example"), ["ip:10.0.0.0/8"], [], True),
    (DNSName("a.b.example"), ["dns:corp.example", "dns:b.example"], [], True),
    (IPAddress(ip_address("10.1.2.3")), ["ip:10.0.0.0/8"], [], True),
    (IPAddress(ip_address("11.1.2.3")), ["ip:10.0.0.0/8"], [], False),
    (IPAddress(ip_address("10.1.2.3")), ["ip:10.0.0.0/8"], ["ip:10.1.0.0/16"], False),
    (IPAddress(ip_address("fd00::1")), ["ip:fd00::/8"], [], True),
    (IPAddress(ip_address("fe80::1")), ["ip:fd00::/8"], [], False),
    (RFC822Name("a@example.com"), ["email:example.com"], [], True),
    (RFC822Name("a@mail.example.com"), ["email:example.com"], [], False),
    (RFC822Name("a@mail.example.com"), ["email:.example.com"], [], True),
    (RFC822Name("a@example.com"), ["email:a@example.com"], [], True),
    (RFC822Name("b@example.com"), ["email:a@example.com"], [], False),
    (UniformResourceIdentifier("https://example.com/x"), ["uri:example.com"], [], True),
    (UniformResourceIdentifier("https://a.example.com/x"), ["uri:example.com"], [], False),
    (UniformResourceIdentifier("https://a.example.com/x"), ["uri:.example.com"], [], True),
]


@pytest.mark.parametrize(("name", "permitted", "excluded", "good"), CONSTRAINED)
def test_constraints_are_understood_as_openssl_does(
    site: Site, tmp_path: Path, name: GeneralName, permitted: list[str], excluded: list[str], good: bool
) -> None:
    constraints = name_constraints(permitted, excluded)
    assert constraints is not None
    root = site.ca("root", settings=AuthoritySettings(permitted=tuple(permitted), excluded=tuple(excluded)))
    leaf = _unchecked(site.core.broker.signers.open(root), name)

    assert good is (violation([name], constraints) == "")
    assert good is openssl_verify(tmp_path, certificate(root), [leaf])[0]


def _unchecked(signer: Signer, name: GeneralName) -> x509.Certificate:
    """A certificate for any name: ours would not let all of them pass."""
    key, own = signer.key, signer.certificate
    identifier = own.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = (
        Builder(own.subject, x509.Name([]), ec.generate_private_key(ec.SECP256R1()).public_key(), 1 << 70)
        .not_valid_before(own.not_valid_before_utc)
        .not_valid_after(own.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([name]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier(identifier.digest, None, None), critical=False)
        .add_extension(x509.SubjectKeyIdentifier(b"leaf"), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "lacks the option ca"),
        ("ca=", "no value"),
        ("ca=a/b/c", "neither a CA's name"),
        ("ca=x;ca=y", "twice"),
        ("ca=x;color=red", "known are ca, profile"),
        ("ca=x;profile=tls", "use one of server, client, code-signing, smime, custom"),
        ("ca=x;days=0", "days=0 is not a number"),
        ("ca=x;days=500", "between 1 and 398 for the profile server"),
        ("ca=x;ekus=server", "only with profile=custom"),
        ("ca=x;profile=custom;sans=dns", "usages are missing"),
        ("ca=x;profile=custom;usages=keyCertSign;sans=dns", "no usage for an end entity"),
        ("ca=x;profile=custom;usages=digitalSignature;ekus=2.5.29.37.0;sans=dns", "for any purpose"),
        ("ca=x;profile=custom;usages=digitalSignature;ekus=1.3.6.1.5.5.7.3.9;sans=dns", "who answers for a CA"),
        ("ca=x;profile=custom;usages=digitalSignature;ekus=timestamp,server;sans=dns", "time stamping"),
        ("ca=x;profile=custom;usages=digitalSignature;ekus=fun;sans=dns", "no purpose"),
        (f"ca=x;profile=custom;usages=digitalSignature;ekus={'1.2.3,' * 101};sans=dns", "at most 100 purposes; 101"),
        ("ca=x;profile=custom;usages=digitalSignature;sans=fax", "no kind of name"),
        ("ca=x;names=dns:*.corp.example", "no name that a constraint can have"),
        ("ca=x;names=ip:10.0.0.1/8", "no name that a constraint can have"),
        ("ca=x;chain=long", "chain is full or short"),
    ],
)
def test_options_that_make_no_sense_are_named(options: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        read_settings(IssuerSettings("ca", "PrivateCA", organization_id=options))


def test_an_issuer_has_no_credentials(site: Site) -> None:
    with pytest.raises(Invalid, match="credentials"):
        site.core.broker.issuers.set(
            site.caller, site.vault, "x", IssuerChanges("PrivateCA", "me", organization_id="ca=issuing")
        )


@pytest.mark.parametrize("options", ["ca=nobody", "ca=other/ca", "ca=root;over=issuing"])
def test_a_ca_that_is_not_there_is_a_fault_of_the_issuer(site: Site, options: str) -> None:
    site.two()
    site.issuer(options)
    state = site.ask().state

    assert isinstance(state, Failed)
    assert state.problem.code == "IssuerSettingsInvalid"


def test_a_ca_whose_certificate_is_disabled_signs_nothing(site: Site) -> None:
    _, issuing = site.two()
    site.issuer()
    certificates = site.core.broker.certificates
    certificates.update(site.caller, site.vault, "issuing", issuing.version, Changes(enabled=False))
    state = site.ask().state

    assert isinstance(state, Failed)
    assert "issuing is disabled" in state.problem.message
    certificates.update(site.caller, site.vault, "issuing", issuing.version, Changes(enabled=True))
    site.issue()


def test_an_expired_ca_signs_nothing_and_says_what_to_do(site: Site) -> None:
    signer = site.core.broker.signers.open(site.ca("root", days=1))
    key = ec.generate_private_key(ec.SECP256R1()).public_key()

    with pytest.raises(Invalid, match="certbroker ca renew root"):
        prepare_leaf(
            signer, SERVER, x509.Name([]), names(dns_names=("a.example",)), key, datetime.now(UTC) + YEAR, YEAR
        )
