"""Whatever is at a URL that a certificate names: it is refused and shown, and delays nothing else; and OCSP."""

from __future__ import annotations

import base64
import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ReasonFlags, ocsp

from certbroker.domain.revocation_sources import SourceStatus
from certbroker.domain.revocation_status import Standing
from certbroker.egress import EgressPolicy, HTTPEgress
from certbroker.engine.watch import WatchSweep
from tests.support.certificates import Authority
from tests.support.revocation import OpenSSLCA, Page, crl, ocsp_reply, points_at
from tests.support.watch_bench import WatchBench, revoked
from tests.support.wire import until

BAD = {
    "a page that says sorry": (Page(b"<html>Service unavailable</html>"), "not a CRL"),
    "nothing": (Page(), "not a CRL"),
    "an error": (Page(status=500), "status 500"),
    "an answer that was not asked for": (Page(status=304), "status 304"),
    "a body without an end": (Page(endless=True), "larger than 1048576 bytes"),
    "a body that says how long it is": (Page(headers={"content-length": "99999999"}), "larger than 1048576 bytes"),
    "a redirect to itself": (Page(status=302, headers={"location": "/list.crl"}), "redirects more than 3 times"),
    "a redirect to a file": (Page(status=302, headers={"location": "file:///etc/passwd"}), "scheme 'file'"),
    "a redirect into the network": (Page(status=302, headers={"location": "http://10.0.0.1/"}), "not public"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_whatever_is_there_is_refused_and_shown(watch: WatchBench, case: str) -> None:
    page, message = BAD[case]
    watch.publisher.pages["/list.crl"] = page
    watch.issue()

    assert Standing.UNREACHABLE is watch.standing()
    assert SourceStatus.STALE is watch.source().status
    assert message in watch.source().holding.problem
    assert message in watch.problem()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ldap://dc.example/cn=CA", "gopher://x", "javascript:1"])
def test_a_url_that_is_not_http_is_no_source(watch: WatchBench, url: str) -> None:
    watch.issue(points_at(crl=url))

    assert Standing.NOT_COVERED is watch.standing()
    assert [] == watch.watching.listing(10)


def test_a_url_at_a_private_address_is_refused_by_the_egress_policy(watch: WatchBench) -> None:
    watch.egress.close()
    watch.egress = HTTPEgress(EgressPolicy(plain_http_hosts=("*",)))
    watch.watching = watch.worker()
    watch.publish()
    watch.issue()

    assert "which is not public" in watch.problem()
    assert [] == watch.publisher.asked


def test_a_list_that_is_replayed_is_kept_out_and_the_newer_one_stays(watch: WatchBench) -> None:
    old = watch.publish()
    version = watch.issue()
    watch.publish(revoked(version))
    watch.later(hours=1)
    watch.publisher.put("/list.crl", old)
    watch.later(hours=1)
    source = watch.source()

    assert Standing.REVOKED is watch.standing()
    assert SourceStatus.FAILING is source.status
    assert "older than the one held" in source.holding.problem
    assert source.holding.base is not None
    assert 1 == source.holding.base.facts.entries


def test_a_list_signed_by_somebody_else_does_not_revoke(watch: WatchBench) -> None:
    watch.publish()
    version = watch.issue()
    forger = Authority()
    watch.publisher.put("/list.crl", crl(forger.certificate, forger.key, [revoked(version)], number=9))
    watch.later(hours=1)

    assert Standing.GOOD is watch.standing()
    assert "signature is wrong" in watch.source().holding.problem


def test_a_host_that_hangs_delays_no_other(watch: WatchBench) -> None:
    watch.publish()
    hanging = [watch.url(f"/{number}.crl").replace("127.0.0.1", "localhost") for number in range(4)]
    for number, url in enumerate(hanging):
        watch.publisher.put(f"/{number}.crl", seconds=3)
        name = f"h{number}"
        watch.bench.ask(watch.step(points_at(crl=url)), name=name)
        watch.bench.turn()
    watch.bench.ask(watch.step(), name="c")
    watch.bench.turn()
    watch.bench.until(watch.clock.now() + timedelta(seconds=6))
    sweep = WatchSweep(watch.watching)
    began = time.monotonic()
    try:
        sweep.sweep()
        until("the others were asked", lambda: watch.source().status is SourceStatus.FRESH or None, 2.5)
        spent = time.monotonic() - began
        asked = sum(path.startswith(("/0", "/1", "/2", "/3")) for _, path, _ in watch.publisher.asked)
    finally:
        sweep.stop()

    assert spent < 2.5
    assert asked <= 2  # Of one host no more are asked at once.


def answering(authority: Authority, leaf: x509.Certificate, *, status: ocsp.OCSPCertStatus, deaf: bool = False) -> Page:
    """A responder that repeats the nonce, or one that refuses it."""

    def answer(given: bytes) -> bytes:
        data = given if given.startswith(b"\x30") else base64.b64decode(unquote(given.decode()))
        request = ocsp.load_der_ocsp_request(data)
        nonces = [each.value.nonce for each in request.extensions if isinstance(each.value, x509.OCSPNonce)]
        if deaf and nonces:
            refused = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
            return refused.public_bytes(Encoding.DER)
        return ocsp_reply(authority, leaf, status, nonce=nonces[0] if nonces else None)

    return Page(answer=answer)


@pytest.mark.parametrize("deaf", [False, True])
def test_ocsp_is_asked_where_there_is_no_list(watch: WatchBench, deaf: bool) -> None:
    identity = watch.authority.issue(extensions=points_at(ocsp=watch.url("/ocsp")))
    good = answering(watch.authority, identity.certificate, status=ocsp.OCSPCertStatus.GOOD, deaf=deaf)
    watch.publisher.pages["/ocsp"] = good
    watch.take_over(identity)
    before = watch.standing("imported")
    bad = answering(watch.authority, identity.certificate, status=ocsp.OCSPCertStatus.REVOKED, deaf=deaf)
    watch.publisher.pages["/ocsp"] = bad
    watch.later(minutes=31)

    assert (Standing.GOOD, Standing.REVOKED) == (before, watch.standing("imported"))
    assert {"GET"} == {method for method, _, _ in watch.publisher.asked}


def test_a_url_that_makes_the_request_long_is_asked_by_post(watch: WatchBench) -> None:
    path = "/ocsp-" + "x" * 200
    identity = watch.authority.issue(extensions=points_at(ocsp=watch.url(path)))
    watch.publisher.pages[path] = answering(watch.authority, identity.certificate, status=ocsp.OCSPCertStatus.GOOD)
    watch.take_over(identity)

    assert Standing.GOOD is watch.standing("imported")
    assert ["POST"] == [method for method, _, _ in watch.publisher.asked]


def test_a_responder_that_does_not_know_it_leaves_it_unknown(watch: WatchBench) -> None:
    identity = watch.authority.issue(extensions=points_at(ocsp=watch.url("/ocsp")))
    page = answering(watch.authority, identity.certificate, status=ocsp.OCSPCertStatus.UNKNOWN)
    watch.publisher.pages["/ocsp"] = page
    watch.take_over(identity)

    assert Standing.UNKNOWN is watch.standing("imported")


def test_ocsp_stands_in_for_a_list_that_cannot_be_used_and_not_where_it_may_never(watch: WatchBench) -> None:
    both = points_at(crl=watch.url(), ocsp=watch.url("/ocsp"))
    identity = watch.authority.issue(extensions=both)
    watch.publisher.pages["/ocsp"] = answering(watch.authority, identity.certificate, status=ocsp.OCSPCertStatus.GOOD)
    watch.take_over(identity)
    instead = watch.standing("imported"), watch.publisher.asked_for("/ocsp")
    watch.watching = watch.worker(ocsp="never")
    watch.store.write(lambda transaction: transaction.watches.call_back(watch.clock.now(), timedelta(seconds=1)))
    watch.later(seconds=2)
    never = watch.standing("imported")
    watch.publish()
    watch.later(hours=6)

    assert (Standing.GOOD, 1) == instead
    assert Standing.UNREACHABLE is never
    assert Standing.GOOD is watch.standing("imported")


def test_openssl_answers_what_openssl_lists(watch: WatchBench, tmp_path: Path) -> None:
    peer = OpenSSLCA(tmp_path / "ca", watch.authority)
    url = peer.respond()
    try:
        good = watch.authority.issue(extensions=points_at(ocsp=url))
        bad = watch.authority.issue(extensions=points_at(ocsp=url))
        strange = watch.authority.issue(extensions=points_at(ocsp=url))
        peer.know(good.certificate)
        peer.know(bad.certificate, "keyCompromise")
        peer.stop()
        assert url
        url = peer.respond(int(url.rpartition(":")[2].strip("/")))
        for name, identity in (("good", good), ("bad", bad), ("strange", strange)):
            watch.take_over(identity, name)
    finally:
        peer.stop()

    assert [Standing.GOOD, Standing.REVOKED, Standing.UNKNOWN] == [
        watch.standing(name) for name in ("good", "bad", "strange")
    ]
    assert "keyCompromise" == watch.verdict("bad").judged[0].answer.reason


def test_a_key_that_a_list_calls_compromised_is_never_taken_again(watch: WatchBench) -> None:
    watch.publish()
    identity = watch.authority.issue(extensions=points_at(crl=watch.url()))
    version = watch.take_over(identity)
    watch.publish(revoked(version, ReasonFlags.key_compromise))
    watch.later(hours=1)

    with pytest.raises(Exception, match="never used again"):
        watch.take_over(identity, "again")
