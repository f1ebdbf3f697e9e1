"""OCSP replies are believed from whom the issuer has named, about what was asked, and for as long as they hold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from certbroker.domain.errors import Invalid
from certbroker.domain.ocsp import OCSPReply, Question, read_reply
from tests.support.certificates import Authority, Identity, Key
from tests.support.revocation import ocsp_reply

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
NONCE = bytes(range(32))

MINE, OTHER = Authority("Mine"), Authority("Mine")
LEAF = MINE.issue().certificate
QUESTION = Question(MINE.certificate, LEAF.serial_number, NONCE)
SIGNING = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False)
NO_CHECK = (x509.OCSPNoCheck(), False)
SERVER = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)


def responder(
    *extensions: tuple[x509.ExtensionType, bool], by: Authority = MINE, **how: timedelta
) -> tuple[x509.Certificate, Key]:
    made: Identity = by.issue("Responder", extensions=[*extensions], **how)
    assert isinstance(made.key, ec.EllipticCurvePrivateKey)
    return made.certificate, made.key


def ask(data: bytes, held: OCSPReply | None = None, question: Question = QUESTION) -> OCSPReply:
    return read_reply(data, question, held, NOW)


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        (ocsp.OCSPCertStatus.GOOD, "good", "unspecified"),
        (ocsp.OCSPCertStatus.REVOKED, "revoked", "keyCompromise"),
        (ocsp.OCSPCertStatus.UNKNOWN, "unknown", "unspecified"),
    ],
)
def test_the_issuer_itself_is_believed(status: ocsp.OCSPCertStatus, said: str, reason: str) -> None:
    reply = ask(ocsp_reply(MINE, LEAF, status, now=NOW))

    assert (said, reason, NOW, NOW + HOUR) == (reply.status, reply.reason, reply.this_update, reply.fresh_until)
    assert (reply.revoked is None) == (said != "revoked")


def test_a_responder_that_the_issuer_has_named_is_believed() -> None:
    assert "good" == ask(ocsp_reply(MINE, LEAF, responder=responder(SIGNING, NO_CHECK), nonce=NONCE, now=NOW)).status


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "a responder of another issuer": (
        lambda: ocsp_reply(MINE, LEAF, responder=responder(SIGNING, NO_CHECK, by=OTHER), now=NOW),
        "has not named",
    ),
    "a certificate for something else": (
        lambda: ocsp_reply(MINE, LEAF, responder=responder(SERVER, NO_CHECK), now=NOW),
        "not for that",
    ),
    "a certificate without a purpose": (
        lambda: ocsp_reply(MINE, LEAF, responder=responder(NO_CHECK), now=NOW),
        "not for that",
    ),
    "a responder that would have to be checked": (
        lambda: ocsp_reply(MINE, LEAF, responder=responder(SIGNING), now=NOW),
        "id-pkix-ocsp-nocheck",
    ),
    "a responder that has expired": (
        lambda: ocsp_reply(MINE, LEAF, responder=responder(SIGNING, NO_CHECK, life=-HOUR), now=NOW),
        "not valid now",
    ),
    "another key": (lambda: ocsp_reply(OTHER, LEAF, issuer=MINE.certificate, now=NOW), "not signed by the issuer"),
    "another certificate": (
        lambda: ocsp_reply(MINE, MINE.issue().certificate, now=NOW),
        "about another certificate",
    ),
    "another issuer": (lambda: ocsp_reply(OTHER, LEAF, now=NOW), "about another certificate"),
    "another request": (lambda: ocsp_reply(MINE, LEAF, nonce=bytes(32), now=NOW), "another nonce"),
    "the future": (lambda: ocsp_reply(MINE, LEAF, made=HOUR, now=NOW), "from the future"),
    "the past": (lambda: ocsp_reply(MINE, LEAF, made=-2 * HOUR, now=NOW), "has expired"),
    "a refusal": (
        lambda: ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(
            Encoding.DER
        ),
        "refuses to answer: try_later",
    ),
    "no reply at all": (lambda: b"<html>", "no OCSP reply"),
    "nothing": (lambda: b"", "no OCSP reply"),
    "half a reply": (lambda: ocsp_reply(MINE, LEAF, now=NOW)[:-20], "no OCSP reply"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_may_not_be_believed_is_refused(case: str) -> None:
    make, message = REFUSED[case]

    with pytest.raises(Invalid, match=message):
        ask(make())


def test_a_reply_that_is_older_than_the_one_held_is_a_replay() -> None:
    held = ask(ocsp_reply(MINE, LEAF, ocsp.OCSPCertStatus.REVOKED, now=NOW))
    older = ocsp_reply(MINE, LEAF, made=-HOUR / 2, now=NOW)

    with pytest.raises(Invalid, match="older than the one held"):
        ask(older, held)
    assert "good" == ask(older).status


def test_a_request_names_the_issuer_and_the_number() -> None:
    request = ocsp.load_der_ocsp_request(QUESTION.encoded())
    usual = ocsp.OCSPRequestBuilder().add_certificate(LEAF, MINE.certificate, request.hash_algorithm).build()

    assert (usual.issuer_name_hash, usual.issuer_key_hash, usual.serial_number) == (
        request.issuer_name_hash,
        request.issuer_key_hash,
        request.serial_number,
    )
    assert NONCE == request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    bare = ocsp.load_der_ocsp_request(Question(MINE.certificate, LEAF.serial_number, b"").encoded())
    assert 0 == len(bare.extensions)
