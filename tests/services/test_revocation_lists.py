"""CRLs are read by a process of their own, believed only where they may be, and looked up in microseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certbroker.domain.crl import CRLFacts, Scope, not_covered, refusal
from certbroker.domain.errors import Invalid
from certbroker.services.revocation.lists import RevocationLists
from certbroker.store.crl_index import Damaged
from certbroker.store.crl_process import Refused, read
from tests.support.certificates import Authority, der
from tests.support.revocation import Entries, OpenSSLCA, crl, distribution_point

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def lists(tmp_path: Path) -> RevocationLists:
    return RevocationLists(tmp_path / "crls")


def take_in(lists: RevocationLists, data: bytes, issuer: x509.Certificate) -> tuple[CRLFacts, str]:
    with lists.incoming() as file:
        file.write(data)
        file.flush()
        return lists.take_in(Path(file.name), der(issuer))


def entries(*serials: int) -> Entries:
    return [(serial, x509.ReasonFlags.superseded) for serial in serials]


def test_a_list_of_openssl_says_what_openssl_says(tmp_path: Path, lists: RevocationLists, authority: Authority) -> None:
    peer = OpenSSLCA(tmp_path / "ca", authority)
    good, bad, held = (authority.issue(f"{name}.example").certificate for name in ("good", "bad", "held"))
    peer.know(good)
    peer.know(bad, "keyCompromise")
    peer.know(held, "certificateHold")
    listed = peer.crl()
    facts, file = take_in(lists, listed, authority.certificate)

    assert (1, 2, None) == (facts.number, facts.entries, facts.base)
    assert lists.find(file, good.serial_number) is None
    found = {leaf: lists.find(file, leaf.serial_number) for leaf in (bad, held)}
    assert ["keyCompromise", "certificateHold"] == [entry.reason_name if entry else "" for entry in found.values()]
    assert "OK" in peer.verifies(good, listed)
    assert "certificate revoked" in peer.verifies(bad, listed)


def test_every_entry_is_found_and_no_other(lists: RevocationLists, authority: Authority) -> None:
    serials = [1, 127, 128, 255, 256, 2**64, 2**127 + 1, 2**159 - 1, *range(1000, 1100)]
    _, file = take_in(lists, crl(authority.certificate, authority.key, entries(*serials)), authority.certificate)

    assert all(lists.find(file, serial) is not None for serial in serials)
    neighbours = {serial + step for serial in serials for step in (-1, 1)} - set(serials)
    assert [] == [serial for serial in neighbours | {0, -5, 2**300} if lists.find(file, serial) is not None]


def test_an_empty_list_revokes_nothing(lists: RevocationLists, authority: Authority) -> None:
    facts, file = take_in(lists, crl(authority.certificate, authority.key), authority.certificate)

    assert 0 == facts.entries
    assert lists.find(file, 1) is None


def _other_name() -> tuple[bytes, Authority]:
    other = Authority("Somebody else")
    return crl(other.certificate, other.key), other


REFUSED: dict[str, tuple[Callable[[Authority], bytes], str]] = {
    "another issuer": (lambda mine: _other_name()[0], "of another issuer"),
    "a wrong key": (lambda mine: crl(mine.certificate, Authority().key), "signature is wrong"),
    "an unknown critical extension": (
        lambda mine: crl(
            mine.certificate,
            mine.key,
            extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)],
        ),
        "critical extension that is not known: 1.2.3.4",
    ),
    "no list at all": (lambda mine: b"<html>404 Not Found</html>", "not a CRL"),
    "nothing": (lambda mine: b"", "not a CRL"),
    "half a list": (lambda mine: crl(mine.certificate, mine.key, entries(1, 2, 3))[:-40], "not a CRL"),
    "a certificate": (lambda mine: der(mine.certificate), "not a CRL"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_may_not_be_believed_is_refused(tmp_path: Path, authority: Authority, case: str) -> None:
    make, message = REFUSED[case]

    with pytest.raises(Refused, match=message):
        read(make(authority), der(authority.certificate), tmp_path)
    assert [] == [*tmp_path.iterdir()]


def test_a_list_whose_signature_can_be_forged_is_refused(
    tmp_path: Path, lists: RevocationLists, authority: Authority
) -> None:
    with pytest.raises(Invalid, match="sha1, which can be forged"):
        take_in(lists, OpenSSLCA(tmp_path / "ca", authority).crl("sha1"), authority.certificate)


def test_an_issuer_that_may_not_sign_lists_does_so_only_where_the_operator_says_so(tmp_path: Path) -> None:
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    mine = Authority(more=[(usage, True)])
    listed = crl(mine.certificate, mine.key)

    with pytest.raises(Refused, match="does not allow it to sign CRLs"):
        read(listed, der(mine.certificate), tmp_path)
    assert read(listed, der(mine.certificate), tmp_path, named=True).facts is not None


def test_an_index_that_was_changed_on_disk_is_not_used(
    tmp_path: Path, lists: RevocationLists, authority: Authority
) -> None:
    _, file = take_in(lists, crl(authority.certificate, authority.key, entries(7)), authority.certificate)
    path = tmp_path / "crls" / file
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")

    assert not lists.is_whole(file)
    with pytest.raises(Damaged):
        lists.find(file, 7)
    path.unlink()
    assert not lists.is_whole(file)


def test_what_nobody_needs_is_removed_after_an_hour(
    tmp_path: Path, lists: RevocationLists, authority: Authority
) -> None:
    _, kept = take_in(lists, crl(authority.certificate, authority.key, entries(1)), authority.certificate)
    _, gone = take_in(lists, crl(authority.certificate, authority.key, entries(2)), authority.certificate)
    (tmp_path / "crls" / "123.new").touch()
    lists.keep({kept}, NOW)
    soon = {path.name for path in (tmp_path / "crls").iterdir()}
    lists.keep({kept}, NOW + DAY)
    lists.clear()

    assert {kept, gone, "123.new"} == soon
    assert {kept} == {path.name for path in (tmp_path / "crls").iterdir()}


def test_a_look_up_takes_microseconds(lists: RevocationLists, authority: Authority) -> None:
    serials = [(number * 2654435761) % 2**100 + 1 for number in range(20_000)]
    _, file = take_in(lists, crl(authority.certificate, authority.key, entries(*serials)), authority.certificate)
    lists.find(file, 1)
    began = time.perf_counter()
    for serial in serials[:1000]:
        lists.find(file, serial)

    assert (time.perf_counter() - began) / 1000 < 0.001


def facts(number: int | None = 5, made: timedelta = -DAY, life: timedelta = 7 * DAY, **more: object) -> CRLFacts:
    return CRLFacts(NOW + made, NOW + made + life, number, 0, **more)  # type: ignore[arg-type]  # named as the fields


@pytest.mark.parametrize(
    ("new", "held", "message"),
    [
        (facts(), None, None),
        (facts(made=DAY), None, "from the future"),
        (facts(made=-8 * DAY), None, "has expired"),
        (facts(4), facts(5), "older than the one held: its number is 4, after 5"),
        (facts(None, made=-2 * DAY), facts(None), "older than the one held"),
        (facts(4), facts(5, made=-30 * DAY), None),
        (facts(5), facts(5), None),
        (facts(base=3), None, "should be is a delta"),
    ],
)
def test_a_list_is_taken_in_or_refused_by_its_times_and_number(
    new: CRLFacts, held: CRLFacts | None, message: str | None
) -> None:
    found = refusal(new, held, NOW)

    assert (found is None) == (message is None)
    assert (message or "") in (found or "")


@pytest.mark.parametrize(
    ("delta", "base", "message"),
    [
        (facts(6, base=5), facts(5), None),
        (facts(6, base=4), facts(5), None),
        (facts(7, base=6), facts(5), "not held"),
        (facts(6), facts(5), "is a complete one"),
        (facts(6, base=5, scope=Scope(only_users=True)), facts(5), "about other certificates"),
        (facts(6, base=5), facts(None), "not held"),
    ],
)
def test_a_delta_is_added_only_to_what_it_starts_from(delta: CRLFacts, base: CRLFacts, message: str | None) -> None:
    found = refusal(delta, None, NOW, delta=True, base=base)

    assert (found is None) == (message is None)
    assert (message or "") in (found or "")


@pytest.mark.parametrize(
    ("scope", "authority", "covered"),
    [
        (Scope(), False, True),
        (Scope(("http://a/1",)), False, True),
        (Scope(("http://a/2",)), False, False),
        (Scope(only_users=True), False, True),
        (Scope(only_users=True), True, False),
        (Scope(only_authorities=True), False, False),
        (Scope(only_authorities=True), True, True),
        (Scope(only_attributes=True), False, False),
        (Scope(indirect=True), False, False),
    ],
)
def test_a_shard_says_nothing_of_what_belongs_to_another(scope: Scope, authority: bool, covered: bool) -> None:
    assert covered == (not_covered(scope, ["http://a/1"], is_authority=authority) is None)


def test_a_scope_is_read_from_the_list(tmp_path: Path, authority: Authority) -> None:
    points = x509.DistributionPoint([x509.UniformResourceIdentifier("http://a/delta")], None, None, None)
    extensions = [distribution_point("http://a/1", only_contains_user_certs=True), (x509.FreshestCRL([points]), False)]
    listed = crl(authority.certificate, authority.key, extensions=extensions)
    found = read(listed, der(authority.certificate), tmp_path).facts

    assert found is not None
    assert Scope(("http://a/1",), only_users=True) == found.scope
    assert ("http://a/delta",) == found.fresher
