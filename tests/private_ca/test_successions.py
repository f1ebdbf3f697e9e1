"""What becomes of CAs: renewed, cross-signed, adopted, retired, revoked, forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from msgspec.structs import replace

from certbroker.domain.authority import AuthoritySettings, AuthorityState
from certbroker.domain.errors import BrokerError, Conflict, Forbidden, Invalid, NotFound
from certbroker.domain.objects import Changes, Kind
from certbroker.domain.operation import Completed, Failed
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.revocation import Reason
from certbroker.keystore.software import SoftwareKeyStore
from certbroker.services.objects.foreign import Imported
from certbroker.services.pki.authorities import SettingsChanges
from certbroker.services.pki.successions import RenewalWish
from certbroker.services.revocation.revocations import RevocationWish
from tests.private_ca.conftest import Site, certificate
from tests.support.certificates import Authority as OutsideAuthority
from tests.support.certificates import der
from tests.support.judges import lint, openssl_verify


@pytest.mark.parametrize("key", ["P-256", "Ed25519"])
def test_a_ca_renewed_with_its_key_is_the_same_ca(site: Site, tmp_path: Path, key: str) -> None:
    root, issuing = site.two(key)
    site.issuer()
    before = site.issue("before")
    again = site.core.broker.successions.renew(site.caller, site.vault, "issuing", RenewalWish(days=3000))
    after = site.issue("after")
    old, new = certificate(issuing), certificate(again)

    assert old.public_key() == new.public_key()
    assert (issuing.subject, root.id) == (again.subject, again.parent)
    assert timedelta(days=1000) < new.not_valid_after_utc - old.not_valid_after_utc
    assert [new] == after[1:]
    assert [] == lint(new)
    for leaf in (before[0], after[0]):
        for above in (old, new):
            assert openssl_verify(tmp_path, certificate(root), [leaf, above])[0]
    found = {each.id: each for each in site.core.broker.authorities.generations(site.vault, "issuing")}
    assert {again.id: AuthorityState.ACTIVE, issuing.id: AuthorityState.RETIRED} == {
        generation: each.state for generation, each in found.items()
    }
    assert found[issuing.id].crl_act_at is not None  # It goes on to say what of its certificates is revoked.
    assert again.version == site.core.broker.certificates.get(site.vault, "issuing", "").version.version


def test_a_ca_renewed_with_a_new_key_of_another_kind_signs_with_that(site: Site) -> None:
    _, issuing = site.two()
    site.issuer()
    wish = RenewalWish(new_key=True, key="RSA-2048")
    again = site.core.broker.successions.renew(site.caller, site.vault, "issuing", wish)
    new = certificate(again)

    assert isinstance(new.public_key(), rsa.RSAPublicKey)
    assert isinstance(certificate(issuing).public_key(), ec.EllipticCurvePublicKey)
    assert 0 <= again.not_after - issuing.not_after <= 10
    site.issue()[0].verify_directly_issued_by(new)


def test_a_ca_is_renewed_under_the_certificate_that_the_one_above_has_now(site: Site) -> None:
    site.two()
    successions = site.core.broker.successions
    root = successions.renew(site.caller, site.vault, "root", RenewalWish(new_key=True))
    again = successions.renew(site.caller, site.vault, "issuing", RenewalWish())

    assert root.id == again.parent
    certificate(again).verify_directly_issued_by(certificate(root))


def test_who_trusts_the_old_root_trusts_the_new_key_over_a_cross_certificate(site: Site, tmp_path: Path) -> None:
    old, _ = site.two()
    successions = site.core.broker.successions
    new = successions.renew(site.caller, site.vault, "root", RenewalWish(new_key=True))
    link = successions.cross_sign(site.caller, site.vault, "root", "root")
    successions.renew(site.caller, site.vault, "issuing", RenewalWish())
    site.issuer("ca=issuing;over=root")
    chain = site.issue()

    assert AuthorityState.CROSS is link.state
    assert [] == lint(certificate(link))
    assert [certificate(link)] == chain[2:]
    assert openssl_verify(tmp_path, certificate(old), chain)[0]
    assert openssl_verify(tmp_path, certificate(new), chain[:2])[0]


def test_a_cross_certificate_by_another_ca_leads_to_that_one(site: Site, tmp_path: Path) -> None:
    mine = site.ca("mine")
    theirs = site.ca("theirs")
    successions = site.core.broker.successions
    link = successions.cross_sign(site.caller, site.vault, "mine", "theirs", days=100)
    site.issuer("ca=mine;over=theirs")
    site.issuer("ca=mine", "direct")
    chain = site.issue()

    assert (theirs.id, None) == (link.parent, link.crl_act_at)
    assert timedelta(days=101) > certificate(link).not_valid_after_utc - datetime.now(UTC)
    assert [certificate(link)] == chain[1:]
    assert openssl_verify(tmp_path, certificate(theirs), chain)[0]
    assert openssl_verify(tmp_path, certificate(mine), site.issue("direct", issuer="direct"))[0]


def test_a_ca_without_another_key_has_nobody_to_vouch_for_it(site: Site) -> None:
    site.ca("root")

    with pytest.raises(Invalid, match="has had no other key"):
        site.core.broker.successions.cross_sign(site.caller, site.vault, "root", "root")


def _import(site: Site, outside: OutsideAuthority, above: OutsideAuthority | None = None) -> None:
    chain = (outside.certificate,) if above is None else (outside.certificate, above.certificate)
    imported = Imported(SoftwareKeyStore().encode(outside.key), tuple(map(der, chain)))

    def revise(stored: CertificatePolicy | None) -> CertificatePolicy:
        assert stored is not None
        return replace(stored, exportable=False)

    site.core.broker.certificates.import_(site.caller, site.vault, "taken", imported, revise, Changes())


def test_a_ca_from_outside_is_adopted_and_signs(site: Site, tmp_path: Path) -> None:
    above = OutsideAuthority("Above")
    outside = OutsideAuthority("Taken over", above)
    _import(site, outside, above)
    adopted = site.core.broker.successions.adopt(site.caller, site.vault, "taken", AuthoritySettings(shards=2))
    site.issuer("ca=taken;chain=full")
    chain = site.issue()

    assert der(outside.certificate) == adopted.certificate
    assert (2, None) == (adopted.settings.shards, adopted.parent)
    assert [outside.certificate, above.certificate] == chain[1:]
    assert openssl_verify(tmp_path, above.certificate, chain[:2], strict=False)[0]
    with pytest.raises(Invalid, match="below one that is not here"):
        site.core.broker.successions.renew(site.caller, site.vault, "taken", RenewalWish())
    with pytest.raises(Conflict, match="CA already"):
        site.core.broker.successions.adopt(site.caller, site.vault, "taken", AuthoritySettings())


def test_only_a_ca_whose_key_cannot_leave_is_adopted(site: Site) -> None:
    site.two()
    site.issuer()
    site.issue("leaf", exportable=False)
    site.issue("open")
    adopt = site.core.broker.successions.adopt

    with pytest.raises(Invalid, match="not that of a CA"):
        adopt(site.caller, site.vault, "leaf", AuthoritySettings())
    with pytest.raises(Invalid, match="exportable"):
        adopt(site.caller, site.vault, "open", AuthoritySettings())
    with pytest.raises(NotFound):
        adopt(site.caller, site.vault, "nothing", AuthoritySettings())


def test_a_retired_ca_signs_nothing(site: Site) -> None:
    site.two()
    site.issuer()
    site.core.broker.successions.retire(site.caller, site.vault, "issuing")
    state = site.ask().state

    assert isinstance(state, Failed)
    assert "no CA named 'issuing' that signs" in state.problem.message
    with pytest.raises(NotFound):
        site.core.broker.successions.renew(site.caller, site.vault, "issuing", RenewalWish())


def test_a_revoked_ca_and_those_below_it_sign_nothing(site: Site) -> None:
    root = site.ca("root")
    middle = site.ca("middle", parent="root")
    low = site.ca("low", parent="middle")
    site.issuer("ca=low")
    serial = f"{certificate(middle).serial_number:x}"
    broker = site.core.broker
    entry = broker.outside_requests.revoke(site.caller, site.vault, "root", serial, Reason.KEY_COMPROMISE)
    found = broker.store.glance().authorities

    assert (root.id, 2) == (entry.authority, entry.reason)  # cACompromise
    assert AuthorityState.REVOKED is found.get(middle.id).state  # type: ignore[union-attr]
    assert AuthorityState.RETIRED is found.get(low.id).state  # type: ignore[union-attr]
    assert isinstance(site.ask().state, Failed)
    shown = broker.certificates.get(site.vault, "middle", "")
    assert shown.revocation is not None
    assert shown.revocation.compromised


def test_the_certificate_of_a_ca_is_not_deleted_while_its_crls_need_the_key(site: Site) -> None:
    _, issuing = site.two()
    site.issuer()
    site.issue()
    broker = site.core.broker

    with pytest.raises(Forbidden, match="certbroker ca delete issuing"):
        broker.deletions.delete(site.caller, site.vault, Kind.CERTIFICATE, "issuing")
    with pytest.raises(Forbidden, match="still valid"):
        broker.outside_requests.delete(site.caller, site.vault, "issuing", force=False)
    with pytest.raises(Conflict, match="CAs below root"):
        broker.outside_requests.delete(site.caller, site.vault, "root", force=True)
    broker.outside_requests.delete(site.caller, site.vault, "issuing", force=True)
    broker.deletions.delete(site.caller, site.vault, Kind.CERTIFICATE, "issuing")
    assert broker.store.glance().authorities.get(issuing.id) is None
    assert 1 == len(broker.store.glance().authorities.ledger(issuing.id, "", 10))


def test_settings_that_are_not_in_the_certificate_can_be_changed(site: Site) -> None:
    site.ca("root")
    changed = site.core.broker.authorities.set(
        site.caller, site.vault, "root", SettingsChanges(shards=8, crl_hours=24, lent_to=("other",))
    )

    assert (8, 24, ("other",)) == (changed.settings.shards, changed.settings.crl_hours, changed.settings.lent_to)
    with pytest.raises(Invalid, match="shards"):
        site.core.broker.authorities.set(site.caller, site.vault, "root", SettingsChanges(shards=1000))


def test_leaves_are_renewed_by_the_new_certificate_of_their_ca(site: Site) -> None:
    _, issuing = site.two()
    site.issuer()
    site.issue()
    again = site.core.broker.successions.renew(site.caller, site.vault, "issuing", RenewalWish(new_key=True))
    operation = site.core.broker.renewals.request(site.caller, site.vault, "www", "")
    site.core.inbox.take()
    site.core.broker.operations.work(operation)
    found = site.core.broker.store.glance().operations.get(operation.id)

    assert found is not None
    assert isinstance(found.state, Completed)
    site.chain("www")[0].verify_directly_issued_by(certificate(again))
    assert [1, 1] == [
        len(site.core.broker.store.glance().authorities.ledger(each.id, "", 10)) for each in (issuing, again)
    ]


def test_a_certificate_is_revoked_in_the_ledger_of_the_generation_that_issued_it(site: Site) -> None:
    _, issuing = site.two()
    site.issuer()
    leaf = site.issue()[0]
    broker = site.core.broker
    broker.successions.renew(site.caller, site.vault, "issuing", RenewalWish(new_key=True))
    version = broker.certificates.get(site.vault, "www", "").version.version
    done = broker.revocations.revoke(site.caller, site.vault, "www", version, RevocationWish(Reason.SUPERSEDED))
    entry = broker.outside_requests.issued(site.vault, "issuing", f"{leaf.serial_number:x}")
    authority = broker.store.glance().authorities.get(issuing.id)

    assert done.revoked is not None
    assert (issuing.id, 4) == (entry.authority, entry.reason)
    assert entry.revoked is not None
    assert authority is not None
    assert authority.crl_act_at is not None
    assert authority.crl_act_at <= datetime.now(UTC)


def test_a_certificate_of_another_ca_is_not_revoked(site: Site) -> None:
    site.two()
    site.issuer("ca=root", "other")
    site.issuer()
    site.issue()
    broker = site.core.broker
    version = broker.certificates.get(site.vault, "www", "").version.version

    with pytest.raises(BrokerError, match="has not issued this certificate"):
        broker.revocations.revoke(
            site.caller, site.vault, "www", version, RevocationWish(Reason.SUPERSEDED, issuer="other")
        )


def test_a_revocation_by_serial_number_shows_at_the_certificate_and_makes_a_successor(site: Site) -> None:
    site.two()
    site.issuer()
    leaf = site.issue()[0]
    broker = site.core.broker
    serial = ":".join(f"{leaf.serial_number:x}"[i : i + 2] for i in range(0, 33, 2))
    for _ in range(2):
        entry = broker.outside_requests.revoke(site.caller, site.vault, "issuing", serial, Reason.KEY_COMPROMISE)
    shown = broker.certificates.get(site.vault, "www", "")
    care = broker.store.glance().lifecycles.get(site.vault.id, "www")

    assert 1 == entry.reason
    assert shown.revocation is not None
    assert (True, "ca") == (shown.revocation.compromised, shown.revocation.issuer)
    assert care is not None
    assert care.lifecycle.wish is not None
    with pytest.raises(NotFound, match="none with that serial number"):
        broker.outside_requests.revoke(site.caller, site.vault, "issuing", "ff", Reason.SUPERSEDED)
    with pytest.raises(Invalid, match="hexadecimal"):
        broker.outside_requests.revoke(site.caller, site.vault, "issuing", "x", Reason.SUPERSEDED)


def test_entries_outlive_the_certificate(site: Site) -> None:
    _, issuing = site.two()
    site.issuer()
    leaf = site.issue()[0]
    broker = site.core.broker
    broker.deletions.delete(site.caller, site.vault, Kind.CERTIFICATE, "www")
    broker.deletions.purge(site.caller, site.vault, Kind.CERTIFICATE, "www")
    entry = broker.outside_requests.revoke(
        site.caller, site.vault, "issuing", f"{leaf.serial_number:x}", Reason.CESSATION_OF_OPERATION
    )

    assert entry.revoked is not None
    assert issuing.id == entry.authority
