"""Revocation at the CA (RFC 8555 section 7.6): by the account, with the certificate's key, and what a CA may say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certbroker.domain.errors import Invalid
from certbroker.ports.issuer import IssuerUnavailable
from pebble.launcher import Pebble
from tests.support import ca_faults as faults
from tests.support.acme_ports import Board, MemoryJournal, Surroundings, drive, issued, loopback_egress, request_for
from tests.support.certificates import der
from tests.support.fault_proxy import Fault, FaultProxy


def made(ca: Surroundings, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate that the CA has issued, with its key."""
    request = request_for(name)
    leaf, *_ = issued(drive(ca.issuer(), request, MemoryJournal()))
    assert isinstance(request.key, ec.EllipticCurvePrivateKey)
    return leaf, request.key


def reason_at_ca(pebble: Pebble, leaf: x509.Certificate) -> int | None:
    """The reason of the revocation; -1 where there is none."""
    status = pebble.management.certificate_status(leaf.serial_number)
    assert status is not None
    return status.reason if status.status == "Revoked" else -1


def test_the_certificates_key_serves_where_there_is_no_account_and_none_is_made(
    pebble: Pebble, ca: Surroundings
) -> None:
    leaf, key = made(ca, "own-key.example.org")
    stranger = Surroundings(ca.egress, ca.board, ca.directory_url).issuer()
    stranger.revoke(der(leaf), 4, key)

    assert 4 == reason_at_ca(pebble, leaf)
    assert stranger.account().account is None


@pytest.mark.parametrize("gone", ["deactivated", "another"])
def test_the_certificates_key_serves_where_the_account_may_not(pebble: Pebble, ca: Surroundings, gone: str) -> None:
    leaf, key = made(ca, f"{gone}.example.org")
    other = Surroundings(ca.egress, ca.board, ca.directory_url)
    if gone == "deactivated":
        ca.issuer().deactivate()
        other = ca
    else:
        made(other, "other.example.org")
    other.issuer().revoke(der(leaf), 1, key)

    assert 1 == reason_at_ca(pebble, leaf)


def test_a_wrong_key_revokes_nothing(pebble: Pebble, ca: Surroundings) -> None:
    leaf, _ = made(ca, "wrong-key.example.org")
    stranger = Surroundings(ca.egress, ca.board, ca.directory_url).issuer()

    with pytest.raises(Invalid, match="refused the revocation"):
        stranger.revoke(der(leaf), 1, ec.generate_private_key(ec.SECP256R1()))
    assert -1 == reason_at_ca(pebble, leaf)


def test_a_key_that_acme_has_no_signatures_for_leaves_it_to_the_account(pebble: Pebble, ca: Surroundings) -> None:
    leaf, _ = made(ca, "odd-key.example.org")
    ca.issuer().revoke(der(leaf), 5, ec.generate_private_key(ec.SECP256K1()))

    assert 5 == reason_at_ca(pebble, leaf)


@pytest.fixture
def proxy(tmp_path: Path, pebble: Pebble) -> Iterator[FaultProxy]:
    with FaultProxy(tmp_path / "proxy", pebble) as proxy:
        yield proxy


@pytest.fixture
def between(pebble: Pebble, proxy: FaultProxy) -> Iterator[Surroundings]:
    """What an issuer needs that asks through the proxy."""
    egress = loopback_egress(str(proxy.ca_path), str(pebble.ca_path))
    with Board(pebble.http_port) as board:
        yield Surroundings(egress, board, proxy.directory_url)
    egress.close()


@pytest.mark.parametrize(
    ("status", "kind", "error", "message"),
    [
        (400, "badRevocationReason", Invalid, "no, never .*Give another reason"),
        (403, "unauthorized", Invalid, "no, never .*in the CA's own way"),
        (503, "serverInternal", IssuerUnavailable, "no, never"),
        (429, "rateLimited", IssuerUnavailable, "no, never"),
    ],
)
def test_a_ca_that_says_no_is_quoted_and_revokes_nothing(
    pebble: Pebble,
    proxy: FaultProxy,
    between: Surroundings,
    status: int,
    kind: str,
    error: type[Exception],
    message: str,
) -> None:
    leaf, key = made(between, f"no-{kind.lower()}.example.org")
    proxy.script("revokeCert", faults.problem(status, kind, "no, never"), times=10)

    with pytest.raises(error, match=message):
        between.issuer().revoke(der(leaf), 9, key)
    assert -1 == reason_at_ca(pebble, leaf)


@pytest.mark.parametrize(("reason", "at_ca"), [(1, 1), (4, -1)])
def test_a_compromise_of_what_is_revoked_already_is_told_with_the_certificates_key(
    pebble: Pebble, proxy: FaultProxy, between: Surroundings, reason: int, at_ca: int
) -> None:
    """The account is told that it is revoked; a CA that takes the reason from the key alone has not heard of it yet."""
    leaf, key = made(between, f"again-{reason}.example.org")
    proxy.script("revokeCert", faults.problem(400, "alreadyRevoked", "It is revoked."))
    between.issuer().revoke(der(leaf), reason, key)

    assert at_ca == reason_at_ca(pebble, leaf)


@pytest.mark.parametrize("fault", [faults.lose_request, faults.lose_reply])
def test_what_got_lost_is_asked_for_again(
    pebble: Pebble, proxy: FaultProxy, between: Surroundings, fault: Fault
) -> None:
    leaf, key = made(between, f"{fault.__name__.replace('_', '-')}.example.org")
    proxy.script("revokeCert", fault)
    with pytest.raises(IssuerUnavailable):
        between.issuer().revoke(der(leaf), 3, key)
    between.issuer().revoke(der(leaf), 3, key)

    assert 3 == reason_at_ca(pebble, leaf)
