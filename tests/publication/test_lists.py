"""CRLs: what is on them, when there is another one, and that nothing revoked is ever missing."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from certbroker.domain.authority import KEY_KINDS, Authority
from certbroker.domain.errors import Sealed
from certbroker.ports.authority import Signer
from certbroker.services.pki.authorities import SettingsChanges
from tests.support.judges import lint_crl
from tests.support.publishing_bench import CALLER, DAY, URL, PublishingBench, certificate_of, openssl, write_pem

MINUTE = timedelta(minutes=1)


def serials(crl: x509.CertificateRevocationList) -> list[int]:
    return [each.serial_number for each in crl]


def number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def places(crl: x509.CertificateRevocationList) -> list[str] | None:
    """The URLs that a list says it is for; None when it says nothing."""
    try:
        found = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    except x509.ExtensionNotFound:
        return None
    assert found.critical
    assert found.value.full_name is not None
    return [name.value for name in found.value.full_name]


@pytest.mark.parametrize("kind", [kind for kind in KEY_KINDS if kind not in ("RSA-3072", "RSA-4096")])
def test_a_list_of_every_kind_of_key_holds(bench: PublishingBench, kind: str) -> None:
    ca = bench.ca("ca", kind)
    leaf = bench.issue(ca)
    bench.revoke(ca, leaf, 4)
    bench.publish()
    crl = bench.crl(ca)
    (entry,) = crl

    assert crl.is_signature_valid(certificate_of(ca).public_key())
    assert certificate_of(ca).subject == crl.issuer
    assert leaf.serial_number == entry.serial_number
    assert bench.clock.now().replace(microsecond=0) == entry.revocation_date_utc
    assert x509.ReasonFlags.superseded is entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    identifier = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    own = certificate_of(ca).extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert own.digest == identifier
    assert [] == lint_crl(crl.public_bytes(Encoding.DER))


def test_openssl_believes_the_list(bench: PublishingBench, tmp_path: Path) -> None:
    ca = bench.ca("ca")
    good, bad = bench.issue(ca), bench.issue(ca)
    bench.revoke(ca, bad)
    bench.publish()
    anchor = write_pem(tmp_path / "ca.pem", certificate_of(ca))
    crl = write_pem(tmp_path / "crl.pem", bench.crl(ca))
    check = ("verify", "-x509_strict", "-crl_check", "-CAfile", anchor, "-CRLfile", crl)

    assert "verify OK" in openssl("crl", "-verify", "-noout", "-in", crl, "-CAfile", anchor)
    assert "OK" in openssl(*check, write_pem(tmp_path / "good.pem", good))
    with pytest.raises(AssertionError, match="certificate revoked"):
        openssl(*check, write_pem(tmp_path / "bad.pem", bad))


def test_each_shard_has_its_own_and_says_so(bench: PublishingBench, tmp_path: Path) -> None:
    ca = bench.ca("ca", shards=3)
    leaves = [bench.issue(ca) for _ in range(9)]
    for leaf in leaves[:6]:
        bench.revoke(ca, leaf)
    bench.publish()
    lists = [bench.crl(ca, shard) for shard in range(3)]

    assert {leaf.serial_number for leaf in leaves[:6]} == {serial for crl in lists for serial in serials(crl)}
    assert all(serial % 3 == shard for shard, crl in enumerate(lists) for serial in serials(crl))
    assert [f"{URL}/crl/{ca.id}/1.crl"] == places(lists[1])
    anchor = write_pem(tmp_path / "ca.pem", certificate_of(ca))
    assert [] == lint_crl(lists[1].public_bytes(Encoding.DER))
    everything = write_pem(tmp_path / "crl.pem", *lists)
    for leaf in leaves:
        points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        assert points[0].full_name is not None
        assert points[0].full_name[0].value in (places(lists[leaf.serial_number % 3]) or ())
        check = ("verify", "-crl_check", "-CAfile", anchor, "-CRLfile", everything)
        if leaf in leaves[:6]:
            with pytest.raises(AssertionError, match="certificate revoked"):
                openssl(*check, write_pem(tmp_path / "leaf.pem", leaf))
        else:
            assert "OK" in openssl(*check, write_pem(tmp_path / "leaf.pem", leaf))


def test_a_list_that_has_everything_says_nothing_else(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    bench.publish()
    complete = bench.crl(ca)
    bench.authorities.set(CALLER, bench.vault, "ca", SettingsChanges(shards=2))
    bench.publish()

    assert None is places(complete)
    assert [f"{URL}/crl/{ca.id}.crl", f"{URL}/crl/{ca.id}/0.crl"] == places(bench.crl(ca))
    assert bench.crl(ca) == bench.crl(ca, 0)
    assert [f"{URL}/crl/{ca.id}/1.crl"] == places(bench.crl(ca, 1))


def test_generations_with_the_same_key_tell_their_lists_apart(bench: PublishingBench) -> None:
    """Whoever reads one of them cannot tell by the issuer and the key that there is another."""
    ca = bench.ca("ca")
    bench.publish()
    complete = bench.crl(ca)
    renewed = replace(ca, id="f" * 32, sha256="0" * 64)
    bench.store.write(lambda transaction: transaction.authorities.add(renewed))
    bench.clock.forward(timedelta(hours=1))
    bench.publish()

    assert None is places(complete)
    for each in (ca, renewed):
        assert f"{URL}/crl/{each.id}.crl" in (places(bench.crl(each)) or ())


def test_a_revocation_is_published_at_once_and_many_make_one_list(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    leaves = [bench.issue(ca) for _ in range(5)]
    bench.publish()
    first = bench.crl(ca)
    for leaf in leaves:
        bench.revoke(ca, leaf)
    turns = bench.publish()
    second = bench.crl(ca)

    assert 1 == turns
    assert [] == serials(first)
    assert sorted(leaf.serial_number for leaf in leaves) == sorted(serials(second))
    assert number(first) + 1 == number(second)


def test_an_idle_ca_has_a_new_list_in_time(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    bench.publish()
    first = bench.crl(ca)
    assert first.next_update_utc is not None
    for _ in range(2 * 24):
        bench.clock.forward(timedelta(hours=1))
        bench.publish()
    early = bench.crl(ca)
    for _ in range(36):
        bench.clock.forward(timedelta(hours=1))
        bench.publish()
    second = bench.crl(ca)

    assert timedelta(days=7) == first.next_update_utc - (first.last_update_utc + timedelta(minutes=10))
    assert first == early
    assert number(first) + 1 == number(second)
    assert bench.clock.now() < first.next_update_utc


def test_what_has_expired_leaves_once_it_was_on_a_list_afterwards(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    short, long = bench.issue(ca, DAY), bench.issue(ca, 90 * DAY)
    for leaf in (short, long):
        bench.revoke(ca, leaf)
    bench.publish()
    bench.clock.forward(4 * DAY)
    bench.publish()
    after_expiry = bench.crl(ca)
    bench.clock.forward(4 * DAY)
    bench.publish()
    later = bench.crl(ca)

    assert {short.serial_number, long.serial_number} == set(serials(after_expiry))
    assert [long.serial_number] == serials(later)


def test_a_clock_that_was_wrong_for_a_while_loses_no_revocation(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    revoked = bench.issue(ca)
    bench.revoke(ca, revoked)
    bench.publish()
    for _ in range(3):
        bench.clock.forward(365 * DAY)
        bench.publish()
    assert [] == serials(bench.crl(ca))
    bench.clock.forward(-3 * 365 * DAY)
    bench.publish()
    crl = bench.crl(ca)

    assert [revoked.serial_number] == serials(crl)
    assert crl.last_update_utc <= bench.clock.now()
    assert 5 == number(crl)
    assert bench.status(ca, revoked).this_update_utc <= bench.clock.now()


def test_a_list_whose_file_is_gone_is_made_again(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    bench.publish()
    (file,) = bench.directory.iterdir()
    file.unlink()
    bench.clock.forward(timedelta(hours=1))
    bench.publish()

    assert 2 == number(bench.crl(ca))


def test_files_of_old_lists_go_after_a_while(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    bench.publish()
    bench.revoke(ca, bench.issue(ca))
    bench.publish()
    assert 2 == len(list(bench.directory.iterdir()))
    bench.publishing.tidy()
    assert 2 == len(list(bench.directory.iterdir()))
    for file in bench.directory.iterdir():
        os.utime(file, (1, 1))
    bench.publishing.tidy()

    assert 1 == len(list(bench.directory.iterdir()))
    assert 2 == number(bench.crl(ca))


def test_a_ca_whose_key_is_away_delays_no_other_and_is_told(
    bench: PublishingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick, well = bench.ca("sick"), bench.ca("well")
    bench.publish()
    before = bench.crl(sick)
    opening = bench.signers.open

    def away(authority: Authority) -> Signer:
        if authority.id == sick.id:
            raise Sealed("The token is not there.")
        return opening(authority)

    monkeypatch.setattr(bench.signers, "open", away)
    bench.revoke(well, bench.issue(well))
    bench.clock.forward(5 * DAY)
    bench.publish()
    (problem,) = bench.store.glance().publications.problems(10)

    assert before == bench.crl(sick)
    assert 1 == len(serials(bench.crl(well)))
    assert sick.id == problem.authority
    assert "The token is not there." == problem.problem
    standings = {each.name: each for each in bench.store.glance().publications.standings(bench.clock.now(), 10)}
    assert (None, before.next_update_utc) == (standings["well"].problem, standings["sick"].next_update)
    assert problem.problem == standings["sick"].problem
    # Once it can, nothing is wrong with it any more.
    monkeypatch.undo()
    bench.clock.forward(timedelta(hours=1))
    bench.publish()
    assert [] == bench.store.glance().publications.problems(10)
    assert 2 == number(bench.crl(sick))


def test_what_a_ca_that_is_gone_has_published_stays_until_it_is_over(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    bench.revoke(ca, bench.issue(ca))
    bench.publish()
    bench.store.write(lambda transaction: transaction.authorities.remove(ca.id))
    bench.publishing.tidy()
    while_it_holds = bench.ask("GET", f"/crl/{ca.id}.crl").status_code
    bench.clock.forward(8 * DAY)
    bench.publish()
    bench.publishing.tidy()

    assert (200, 404) == (while_it_holds, bench.ask("GET", f"/crl/{ca.id}.crl").status_code)
