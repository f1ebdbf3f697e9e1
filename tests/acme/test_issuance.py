"""Issuance by a real CA."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certbroker.domain.errors import Invalid
from certbroker.domain.keys import same_public_key
from certbroker.ports.issuer import IssuanceRequest, IssuerUnavailable, RequestRefused, StillWaiting
from certbroker.ports.issuer_abilities import Abandons, Revokes
from issuers.acme import KIND, ACMEIssuer
from pebble.launcher import Pebble, Profile
from tests.support.acme_ports import (
    Board,
    MemoryJournal,
    Surroundings,
    drive,
    issued,
    names_in,
    persevere,
    request_for,
)
from tests.support.peers import require_pebble

pytestmark = pytest.mark.xdist_group("acme-issuance")

Surround = Callable[[Pebble], Surroundings]
Start = Callable[..., Pebble]
Unasked = Callable[[ACMEIssuer, IssuanceRequest, MemoryJournal], None]


def test_a_certificate_by_http_01(ca: Surroundings) -> None:
    request = request_for("www.example.org", subject="CN=www.example.org")

    leaf, *chain = issued(drive(ca.issuer(), request, MemoryJournal()))

    assert {"www.example.org"} == names_in(leaf)
    assert same_public_key(request.key.public_key(), leaf.public_key())
    leaf.verify_directly_issued_by(chain[0])


def test_the_journal_has_every_step_in_its_order_and_is_not_written_while_waiting(ca: Surroundings) -> None:
    journal = MemoryJournal()

    drive(ca.issuer(), request_for("steps.example.org"), journal)

    steps = ["account", "order", "challenge", "finalize", "certificate"]
    assert [(kind, step) for step in steps for kind in ("intended", "recorded")] == journal.writes


def test_the_journal_holds_no_secret(ca: Surroundings) -> None:
    journal = MemoryJournal()

    drive(ca.issuer(), request_for("quiet.example.org"), journal)

    assert "PRIVATE" not in journal.everything()
    assert all(value.hex() not in journal.everything() for value in ca.memory.kept.values())


def test_many_names_and_addresses_in_one_order(ca: Surroundings) -> None:
    names = [f"n{number}.example.org" for number in range(12)]
    request = request_for(*names, addresses=["127.0.0.1"], subject="CN=n0.example.org")

    leaf, *_ = issued(drive(ca.issuer(), request, MemoryJournal()))

    assert {*names, "127.0.0.1"} == names_in(leaf)


def test_all_names_are_answered_before_the_first_wait(ca: Surroundings) -> None:
    reply = ca.issuer().advance(request_for("a.example.org", "b.example.org", "c.example.org"), MemoryJournal())

    assert isinstance(reply, StillWaiting)
    assert isinstance(ca.board, Board)
    assert 3 == ca.board.put_count
    assert "The CA is validating a.example.org, b.example.org, c.example.org by http-01." == reply.detail


def test_the_common_name_is_ordered_too(ca: Surroundings) -> None:
    journal = MemoryJournal()

    ca.issuer().advance(request_for("other.example.org", subject="CN=CN.example.org"), journal)

    assert '["cn.example.org", "other.example.org"]' == (journal.intended("order") or {})["identifiers"]


def test_challenge_answers_are_gone_when_the_certificate_is_there(ca: Surroundings) -> None:
    drive(ca.issuer(), request_for("clean.example.org"), MemoryJournal())

    assert {} == ca.board.answers


def test_an_abandoned_request_leaves_no_answers(ca: Surroundings, unasked: Unasked) -> None:
    issuer, request, journal = ca.issuer(), request_for("gone.example.org"), MemoryJournal()
    unasked(issuer, request, journal)
    assert ca.board.answers
    assert isinstance(issuer, Abandons)

    issuer.abandon(request, journal)
    issuer.abandon(request, journal)

    assert {} == ca.board.answers


def test_an_account_is_made_once_for_many_orders(ca: Surroundings) -> None:
    journals = [MemoryJournal(), MemoryJournal()]

    for journal in journals:
        drive(ca.issuer(), request_for("twice.example.org"), journal)

    assert ("recorded", "account") in journals[0].writes
    assert ("recorded", "account") not in journals[1].writes


@pytest.mark.parametrize("kind", ["P-384", "P-521", "RSA-2048"])
def test_account_keys_of_other_kinds(ca: Surroundings, kind: str) -> None:
    assert issued(drive(ca.issuer(f"account_key={kind}"), request_for("key.example.org"), MemoryJournal()))


def test_half_of_all_nonces_rejected(start_pebble: Start, surround: Surround) -> None:
    ca = surround(start_pebble(nonce_reject=50))

    for number in range(5):
        issued(drive(ca.issuer(), request_for(f"nonce{number}.example.org"), MemoryJournal()))


def test_external_account_binding(start_pebble: Start, surround: Surround) -> None:
    mac_key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    ca = surround(start_pebble(eab={"kid-1": mac_key}))

    refused = drive(ca.issuer(), request_for("eab.example.org"), MemoryJournal())
    wrong = drive(ca.issuer(account_id="kid-1", password="AAAA"), request_for("eab.example.org"), MemoryJournal())
    right = drive(ca.issuer(account_id="kid-1", password=mac_key), request_for("eab.example.org"), MemoryJournal())

    assert isinstance(refused, RequestRefused)
    assert "account_id and password" in refused.problem.message
    assert isinstance(wrong, RequestRefused)
    assert issued(right)


def test_the_preferred_chain_is_chosen_among_alternates(start_pebble: Start, surround: Surround) -> None:
    pebble = start_pebble(alternate_roots=2, chain_length=2)
    ca = surround(pebble)
    for chain_number in range(3):
        root = x509.load_pem_x509_certificate(pebble.management.root(chain_number))
        name = root.subject.rfc4514_string().removeprefix("CN=")
        option = f"preferred_chain={name.replace(' ', '%20')}"

        chain = issued(drive(ca.issuer(option), request_for("chain.example.org"), MemoryJournal()))

        assert 3 == len(chain)
        chain[-1].verify_directly_issued_by(root)


def test_a_preferred_chain_that_is_not_offered_yields_the_default(ca: Surroundings) -> None:
    assert issued(drive(ca.issuer("preferred_chain=Nobody"), request_for("chain.example.org"), MemoryJournal()))


def test_profiles(start_pebble: Start, surround: Surround) -> None:
    require_pebble(recent=True)
    ca = surround(start_pebble(profiles={"default": Profile(days=90), "short": Profile(days=6)}))

    leaf, *_ = issued(drive(ca.issuer("profile=short"), request_for("p.example.org"), MemoryJournal()))
    unknown = drive(ca.issuer("profile=long"), request_for("p.example.org"), MemoryJournal())

    assert timedelta(days=7) > leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert isinstance(unknown, RequestRefused)
    assert "'long'; it has default, short" in unknown.problem.message


def test_retry_after_is_obeyed_in_either_form(start_pebble: Start, surround: Surround) -> None:
    require_pebble(recent=True)
    # Pebble writes it as seconds or as a date, at random.
    ca = surround(start_pebble(retry_after=4))
    issuer = ca.issuer()
    pauses = []
    for number in range(6):
        request, journal = request_for(f"slow{number}.example.org"), MemoryJournal()
        while ("recorded", "finalize") not in journal.writes:
            reply = issuer.advance(request, journal)
        assert isinstance(reply, StillWaiting)
        pauses.append(reply.pause.total_seconds())

    assert all(2 <= pause <= 4 for pause in pauses), pauses


def test_a_blocked_name_is_refused_with_the_cas_words(start_pebble: Start, surround: Surround) -> None:
    ca = surround(start_pebble(domain_blocklist=("blocked.example.org",)))

    reply = drive(ca.issuer(), request_for("ok.example.org", "blocked.example.org"), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert "IssuerRefused" == reply.problem.code
    assert "blocked.example.org" in reply.problem.message
    assert "Remove the name from the certificate's policy" in reply.problem.message


def test_a_failed_validation_says_which_name_why_and_what_to_do(pebble: Pebble, ca: Surroundings) -> None:
    pebble.dns.set_servfail("broken.example.org")
    journal = MemoryJournal()
    request = request_for("fine.example.org", "broken.example.org")

    reply = drive(ca.issuer(), request, journal)
    again = drive(ca.issuer(), request, journal)

    assert isinstance(reply, RequestRefused)
    assert "broken.example.org" in reply.problem.message
    assert "http-01" in reply.problem.message
    assert isinstance(again, RequestRefused)
    assert {} == ca.board.answers


def test_a_wrong_answer_is_told_apart(pebble: Pebble, surround: Surround) -> None:
    ca = surround(pebble)
    issuer, journal, request = ca.issuer(), MemoryJournal(), request_for("wrong.example.org")
    put = ca.board.put
    ca.board.put = lambda kind, place, answer, expires: put(kind, place, "something else", expires)  # type: ignore[method-assign]

    reply = drive(issuer, request, journal)

    assert isinstance(reply, RequestRefused)
    assert "wrong.example.org" in reply.problem.message
    assert "unauthorized" == reply.problem.detail


@pytest.mark.parametrize(
    ("names", "subject", "complaint"),
    [
        (["*.example.org"], "", "challenge=dns-01"),
        (["www.example.org"], "CN=A service", "'A service' is neither"),
        ([], "O=Example", "no DNS name and no IP address"),
    ],
)
def test_what_cannot_be_ordered_is_refused_at_once(
    ca: Surroundings, names: list[str], subject: str, complaint: str
) -> None:
    reply = ca.issuer().advance(request_for(*names, subject=subject), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert complaint in reply.problem.message


def test_revocation_by_the_account_is_seen_at_the_ca_and_may_be_repeated(pebble: Pebble, ca: Surroundings) -> None:
    issuer = ca.issuer()
    reply = drive(issuer, request_for("revoke.example.org"), MemoryJournal())
    leaf, *_ = issued(reply)
    assert isinstance(issuer, Revokes)

    for _ in range(2):
        issuer.revoke(leaf.public_bytes(Encoding.DER), 1)

    status = pebble.management.certificate_status(leaf.serial_number)
    assert status is not None
    assert ("Revoked", 1) == (status.status, status.reason)


def test_a_refused_revocation_says_why(pebble: Pebble, ca: Surroundings) -> None:
    der = issued(drive(ca.issuer(), request_for("mine.example.org"), MemoryJournal()))[0].public_bytes(Encoding.DER)
    stranger = Surroundings(ca.egress, ca.board, ca.directory_url).issuer()

    with pytest.raises(Invalid, match="refused the revocation"):
        stranger.revoke(der, 1)


def test_a_ca_that_lost_everything_gets_a_new_account_and_a_new_order(start_pebble: Start, surround: Surround) -> None:
    pebble = start_pebble(nonce_reject=0)
    ca = surround(pebble)
    drive(ca.issuer(), request_for("before.example.org"), MemoryJournal())
    request, journal = request_for("after.example.org"), MemoryJournal()
    ca.issuer().advance(request, journal)
    thumbprint = ca.issuer().account().thumbprint

    pebble.restart()
    # Connections that were kept alive are dead now.
    leaf, *_ = issued(persevere(ca.issuer(), request, journal))

    assert {"after.example.org"} == names_in(leaf)
    assert journal.recorded("order.2") is not None
    assert thumbprint == ca.issuer().account().thumbprint


def test_description(pebble: Pebble, ca: Surroundings) -> None:
    issuer = ca.issuer()
    before = issuer.account()
    drive(issuer, request_for("describe.example.org"), MemoryJournal())
    after = ca.issuer().account()

    assert (None, None) == (before.account, before.status)
    assert "valid" == after.status
    assert pebble.directory_url == after.directory
    assert after.terms_of_service


def test_an_unreachable_ca_is_unavailable(ca: Surroundings) -> None:
    elsewhere = Surroundings(ca.egress, ca.board, "https://127.0.0.1:9/dir")

    with pytest.raises(IssuerUnavailable) as caught:
        elsewhere.issuer().advance(request_for("www.example.org"), MemoryJournal())

    assert "IssuerUnreachable" == caught.value.problem.code


def test_the_key_may_serve_again(ca: Surroundings) -> None:
    """A renewal with the same key is a new certificate, never the old one found again."""
    key = ec.generate_private_key(ec.SECP256R1())
    serials = set()
    for number in range(3):
        request = request_for("same.example.org", reuse_key=True, key=key, operation=f"operation {number}")
        serials.add(issued(drive(ca.issuer(), request, MemoryJournal()))[0].serial_number)

    assert 3 == len(serials)


def test_an_unknown_dns_publisher_is_refused_when_the_issuer_is_opened(ca: Surroundings) -> None:
    settings = ca.settings("challenge=dns-01;dns=nowhere")
    KIND.check(settings)

    with pytest.raises(Invalid, match="dns=nowhere"):
        KIND.open(settings, ca.resources())


def test_pauses_grow_from_milliseconds_to_half_a_minute() -> None:
    from issuers.acme.pauses import pause_after

    start = datetime(2026, 1, 1, tzinfo=UTC)
    pauses = [pause_after(start, start + timedelta(seconds=passed)) for passed in (0, 1, 10, 100, -5)]

    assert [0.075, 0.5, 5, 30, 0.075] == [pause.total_seconds() for pause in pauses]
