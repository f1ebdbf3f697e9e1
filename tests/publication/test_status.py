"""OCSP replies: signed before anybody asks, right for everyone who does, and nothing for who asks nonsense."""

from __future__ import annotations

import base64
import os
import urllib.parse
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus

from certbroker.domain import der
from certbroker.domain.authority import KEY_KINDS, serial_text
from issuers.private_ca.ocsp import Standing, replies
from tests.support.judges import lint_ocsp
from tests.support.publishing_bench import DAY, PublishingBench, certificate_of, request_for

MINUTE = timedelta(minutes=1)
REQUEST = {"content-type": "application/ocsp-request"}


def verify(reply: ocsp.OCSPResponse, issuer: x509.Certificate) -> None:
    """Raise unless the issuer has signed the reply."""
    key, algorithm = issuer.public_key(), reply.signature_hash_algorithm
    if isinstance(key, rsa.RSAPublicKey):
        assert algorithm is not None
        key.verify(reply.signature, reply.tbs_response_bytes, padding.PKCS1v15(), algorithm)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        assert algorithm is not None
        key.verify(reply.signature, reply.tbs_response_bytes, ec.ECDSA(algorithm))
    else:
        key.verify(reply.signature, reply.tbs_response_bytes)


@pytest.mark.parametrize("kind", ["RSA-2048", "P-256", "P-384", "Ed25519", "ML-DSA-65"])
def test_a_reply_of_every_kind_of_key_holds(bench: PublishingBench, kind: str) -> None:
    assert kind in KEY_KINDS
    # Its own issuer has another name, by which nobody asks.
    bench.ca("root")
    ca = bench.ca("ca", kind, parent="root")
    good, bad = bench.issue(ca), bench.issue(ca)
    bench.revoke(ca, bad, 4)
    bench.publish()

    for algorithm in (hashes.SHA1(), hashes.SHA256()):
        fine, revoked = bench.status(ca, good, algorithm), bench.status(ca, bad, algorithm)
        for reply, leaf in ((fine, good), (revoked, bad)):
            verify(reply, certificate_of(ca))
            assert leaf.serial_number == reply.serial_number
            assert algorithm.name == reply.hash_algorithm.name
            assert [] == reply.certificates
            assert [] == lint_ocsp(reply.public_bytes(Encoding.DER))
        assert OCSPCertStatus.GOOD is fine.certificate_status
        assert OCSPCertStatus.REVOKED is revoked.certificate_status
        assert x509.ReasonFlags.superseded is revoked.revocation_reason
        assert bench.clock.now().replace(microsecond=0) == revoked.revocation_time_utc


def test_a_revocation_without_a_reason_has_none(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    leaf = bench.issue(ca)
    bench.revoke(ca, leaf, 0)
    bench.publish()

    assert None is bench.status(ca, leaf).revocation_reason
    (entry,) = bench.crl(ca)
    assert 0 == len(entry.extensions)


@pytest.mark.parametrize("reason", [None, 0, 1, 4, 10])
def test_a_reply_is_what_the_librarys_builder_makes(bench: PublishingBench, reason: int | None) -> None:
    signer, now = bench.signers.open(bench.ca("ca")), bench.clock.now()
    revoked = None if reason is None else now.replace(microsecond=0) - MINUTE
    made = replies(signer, Standing(7 << 100, revoked, reason), now)

    for content in made.by_hash.values():
        ours = ocsp.load_der_ocsp_response(content)
        built = (
            ocsp.OCSPResponseBuilder()
            .add_response_by_hash(
                ours.issuer_name_hash,
                ours.issuer_key_hash,
                7 << 100,
                ours.hash_algorithm,
                OCSPCertStatus.GOOD if revoked is None else OCSPCertStatus.REVOKED,
                made.this_update,
                made.next_update,
                revoked,
                ours.revocation_reason,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
            .sign(signer.key, hashes.SHA256())
        )
        verify(ours, signer.certificate)
        # The builder takes the time from the machine's clock.
        times = [der.generalized_time(each.produced_at_utc) for each in (built, ours)]
        assert ours.tbs_response_bytes == built.tbs_response_bytes.replace(*times)


def test_replies_follow_a_revocation_at_once_and_hold_for_a_while(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    leaf = bench.issue(ca)
    bench.publish()
    before = bench.status(ca, leaf)
    bench.clock.forward(MINUTE)
    bench.revoke(ca, leaf)
    bench.publish()
    after = bench.status(ca, leaf)

    assert OCSPCertStatus.GOOD is before.certificate_status
    assert OCSPCertStatus.REVOKED is after.certificate_status
    assert before.next_update_utc is not None
    assert 4 * DAY == before.next_update_utc - before.this_update_utc - timedelta(minutes=10)


def test_replies_are_made_anew_before_half_of_their_life_is_over(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    leaf = bench.issue(ca)
    bench.publish()
    first = bench.status(ca, leaf)
    bench.clock.forward(DAY)
    bench.publish()
    same = bench.status(ca, leaf)
    bench.clock.forward(DAY)
    bench.publish()
    second = bench.status(ca, leaf)

    assert first.this_update_utc == same.this_update_utc < second.this_update_utc


def test_a_revocation_during_the_signing_is_not_lost(bench: PublishingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands still, so that nothing but what has changed can tell."""
    from certbroker.services.pki import publishing

    ca = bench.ca("ca")
    leaf = bench.issue(ca)
    reached: list[str] = []

    def meanwhile(name: str) -> None:
        if name == "publishing.signed" and len(reached) < 2:
            reached.append(name)
            if len(reached) == 2:  # The list is signed first, then the replies.
                bench.revoke(ca, leaf)

    monkeypatch.setattr(publishing, "failpoint", meanwhile)
    bench.publish()

    assert 2 == len(reached)
    assert OCSPCertStatus.REVOKED is bench.status(ca, leaf).certificate_status
    assert [leaf.serial_number] == [each.serial_number for each in bench.crl(ca)]


def test_what_is_no_ones_certificate_is_nobodys_to_tell_about(bench: PublishingBench) -> None:
    ca, other = bench.ca("ca"), bench.ca("other")
    leaf, foreign = bench.issue(ca), bench.issue(other)
    bench.publish()
    unknown = ocsp.OCSPRequestBuilder().add_certificate_by_hash(b"x" * 20, b"y" * 20, 7, hashes.SHA1()).build()
    sha512 = request_for(ca, leaf, hashes.SHA512())

    for content in (request_for(other, foreign), unknown.public_bytes(Encoding.DER), sha512):
        reply = bench.ask("POST", f"/ocsp/{ca.id}", content)
        assert 200 == reply.status_code
        assert OCSPResponseStatus.UNAUTHORIZED is ocsp.load_der_ocsp_response(reply.content).response_status
        assert "no-store" == reply.headers["cache-control"]
    assert OCSPResponseStatus.UNAUTHORIZED is bench.status(ca, certificate_of(ca)).response_status


def test_garbage_is_malformed(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    for content in (b"", b"\0", b"0\x80", b"GET / HTTP/1.1", os.urandom(300), b"\x30\x84\xff\xff\xff\xff"):
        reply = bench.ask("POST", f"/ocsp/{ca.id}", content)

        assert 200 == reply.status_code
        assert OCSPResponseStatus.MALFORMED_REQUEST is ocsp.load_der_ocsp_response(reply.content).response_status


def test_a_question_about_several_is_not_understood(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    one = request_for(ca, bench.issue(ca))
    # OCSPRequest, TBSRequest and requestList have lengths of one byte here.
    entry = one[6:]
    assert one[0] == one[2] == one[4] == 0x30
    body = entry + entry
    several = b"".join(
        (
            b"\x30\x81",
            bytes((len(body) + 6,)),
            b"\x30\x81",
            bytes((len(body) + 3,)),
            b"\x30\x81",
            bytes((len(body),)),
            body,
        )
    )
    reply = bench.ask("POST", f"/ocsp/{ca.id}", several)

    assert OCSPResponseStatus.MALFORMED_REQUEST is ocsp.load_der_ocsp_response(reply.content).response_status


def test_every_way_to_write_a_question_into_a_path_is_read(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    texts = {}
    while not {"+", "/"} <= set("".join(texts)):
        leaf = bench.issue(ca)
        texts[base64.b64encode(request_for(ca, leaf)).decode()] = leaf
    bench.publish()
    for text, leaf in texts.items():
        ways = {text, urllib.parse.quote(text, safe=""), urllib.parse.quote(text), text.replace("=", "")}
        for way in ways:
            reply = bench.ask("GET", f"/ocsp/{ca.id}/{way}")
            assert leaf.serial_number == ocsp.load_der_ocsp_response(reply.content).serial_number, way


def test_a_reply_that_is_over_is_not_told(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    leaf = bench.issue(ca)
    bench.publish()
    bench.clock.forward(5 * DAY)

    assert OCSPResponseStatus.TRY_LATER is bench.status(ca, leaf).response_status
    bench.publish()
    assert OCSPCertStatus.GOOD is bench.status(ca, leaf).certificate_status


def test_nothing_is_known_any_more_of_what_the_ledger_has_forgotten(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    leaf = bench.issue(ca, DAY)
    bench.publish()
    bench.clock.forward(2 * DAY)
    bench.publish()
    over = bench.status(ca, leaf)
    before = int(bench.clock.now().timestamp())
    bench.store.write(lambda transaction: transaction.authorities.forget_expired(before, 10))
    bench.clock.forward(5 * DAY)
    bench.publish()

    assert OCSPCertStatus.GOOD is over.certificate_status
    assert OCSPResponseStatus.UNAUTHORIZED is bench.status(ca, leaf).response_status
    assert None is bench.store.glance().publications.reply(ca.id, serial_text(leaf.serial_number))


def test_a_thousand_certificates_are_told_of_in_batches(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    first, last = bench.issue(ca), bench.issue(ca)

    def many(transaction) -> None:  # type: ignore[no-untyped-def]
        from msgspec.structs import replace

        entry = transaction.authorities.issued(ca.id, serial_text(first.serial_number))
        for count in range(450):
            transaction.authorities.record(replace(entry, serial=serial_text(count + 1), sha256=str(count)))

    bench.store.write(many)
    turns = bench.publish()

    assert 1 == turns
    assert OCSPCertStatus.GOOD is bench.status(ca, last).certificate_status
    now = bench.clock.now()
    assert [] == bench.store.glance().publications.due_replies(ca.id, now, now + 5 * DAY, 10)
