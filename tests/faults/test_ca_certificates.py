"""A CA that serves another certificate than it was asked for: refused or contained, visible, and not ordered again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import ca_faults as faults
from tests.support.acme_bench import ACMEBench
from tests.support.certificates import Authority
from tests.support.fault_proxy import FaultProxy

Chain = Sequence[x509.Certificate]
ROGUE = Authority("Rogue CA")
NOW = datetime.now(UTC)


def like(
    leaf: x509.Certificate,
    *,
    names: Sequence[str] | None = None,
    key: ec.EllipticCurvePublicKey | None = None,
    start: datetime = NOW - timedelta(hours=1),
    end: datetime = NOW + timedelta(days=90),
) -> x509.Certificate:
    """A certificate like the one that the CA made, but for what is given."""
    public = key or leaf.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    sans = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ROGUE.certificate.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(sans if names is None else x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=True)
        .sign(ROGUE.key, hashes.SHA256())
    )


def another_key() -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(ec.SECP256R1()).public_key()


REFUSED: dict[str, tuple[Callable[[x509.Certificate], Chain], str, str]] = {
    "for another name": (
        lambda leaf: [like(leaf, names=["elsewhere.example.org"])],
        "CertificateMismatch",
        "without the name n.example.org",
    ),
    "for some of the names": (
        lambda leaf: [like(leaf, names=["n.example.org"])],
        "CertificateMismatch",
        "without the name m.example.org",
    ),
    "for a wildcard that covers them": (
        lambda leaf: [like(leaf, names=["*.example.org"])],
        "CertificateMismatch",
        "without the name n.example.org",
    ),
    "for no name": (lambda leaf: [ROGUE.certificate], "CertificateMismatch", "for another key"),
    "for another key": (lambda leaf: [like(leaf, key=another_key())], "CertificateMismatch", "for another key"),
    "expired": (
        lambda leaf: [like(leaf, start=NOW - timedelta(days=90), end=NOW - timedelta(days=1))],
        "IssuedCertificateInvalid",
        "Check the clocks",
    ),
    "nearly over": (
        lambda leaf: [like(leaf, end=NOW + timedelta(seconds=30))],
        "IssuedCertificateInvalid",
        "Check the clocks",
    ),
    "for next year": (
        lambda leaf: [like(leaf, start=NOW + timedelta(days=365), end=NOW + timedelta(days=455))],
        "IssuedCertificateInvalid",
        "Check the clocks",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_certificate_that_was_not_asked_for_is_refused_once_and_for_all(
    bench: ACMEBench, proxy: FaultProxy, what: str
) -> None:
    make, code, complaint = REFUSED[what]
    proxy.script("certificate", faults.chain(make), times=float("inf"))
    operation = bench.ask(bench.issuer(proxy.directory_url), "n.example.org", "m.example.org")

    problem = bench.problem(operation)

    assert code == problem.code
    assert complaint in problem.message
    assert bench.stored(operation) is None
    assert (1, 1) == (proxy.count("newOrder"), proxy.count("finalize"))
    assert bench.broker.operations.next_due() is None


def test_what_serves_already_goes_on_serving(bench: ACMEBench, proxy: FaultProxy) -> None:
    issuer = bench.issuer(proxy.directory_url)
    first = bench.ask(issuer)
    bench.certificate(first)
    before = bench.stored(first)
    proxy.script("certificate", faults.chain(REFUSED["expired"][0]))

    bench.problem(bench.ask(issuer, name=first.name))

    assert before is not None
    assert before == bench.stored(first)


def test_one_that_is_short_lived_is_kept_with_its_dates_and_ordered_once(bench: ACMEBench, proxy: FaultProxy) -> None:
    """A loop of renewals begins with orders that nobody asked for."""
    proxy.script("certificate", faults.chain(lambda leaf: [like(leaf, end=NOW + timedelta(hours=1))]))

    leaf = bench.certificate(bench.ask(bench.issuer(proxy.directory_url)))[0]

    assert leaf.not_valid_after_utc < NOW + timedelta(hours=1, seconds=1)
    assert bench.broker.operations.next_due() is None
    assert 1 == proxy.count("newOrder")


def test_what_does_not_belong_to_the_chain_is_left_out(bench: ACMEBench, proxy: FaultProxy) -> None:
    junk = [ROGUE.certificate, Authority("Another CA").certificate]
    chain: list[x509.Certificate] = []

    def mixed(leaf: x509.Certificate, issuers: Chain) -> Chain:
        chain[:] = [leaf, *issuers]
        return [leaf, *junk, *issuers, *issuers, leaf]

    proxy.script("certificate", faults.whole_chain(mixed))

    assert bench.certificate(bench.ask(bench.issuer(proxy.directory_url))) == chain


@pytest.mark.parametrize(("number", "said"), [(0, "no"), (11, "more than 10"), (200, "more than 10")])
def test_a_chain_of_no_or_too_many_certificates_is_downloaded_again(
    bench: ACMEBench, proxy: FaultProxy, number: int, said: str
) -> None:
    proxy.script("certificate", faults.chain(lambda leaf: [leaf] * number))
    operation = bench.ask(bench.issuer(proxy.directory_url))

    problem = bench.until_failure(operation).problem
    bench.certificate(operation)

    assert problem is not None
    assert f"the chain has {said} certificates" in problem.message
    assert (1, 1) == (proxy.count("newOrder"), proxy.count("finalize"))
