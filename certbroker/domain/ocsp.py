"""OCSP: what is asked, and which replies are believed (RFC 6960, with RFC 5019 for size and RFC 9654 for nonces)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from msgspec import Struct

from certbroker.domain.crl import TOLERANCE
from certbroker.domain.errors import Invalid

# Of a reply that names no next update: newer information is available all the time (RFC 6960 section 4.2.2.1).
_ASSUMED_LIFE: Final = timedelta(days=1)

_STATUSES: Final = {
    ocsp.OCSPCertStatus.GOOD: "good",
    ocsp.OCSPCertStatus.REVOKED: "revoked",
    ocsp.OCSPCertStatus.UNKNOWN: "unknown",
}


class OCSPReply(Struct, frozen=True):
    """What a responder says of one certificate: `good`, `revoked` or `unknown`. `reason` is a CRLReason by name."""

    status: str
    this_update: datetime
    next_update: datetime | None = None
    revoked: datetime | None = None
    reason: str = ""

    @property
    def fresh_until(self) -> datetime:
        """From then on it says nothing."""
        return self.next_update or self.this_update + _ASSUMED_LIFE


class Question(Struct, frozen=True):
    """What is asked: the certificate's number at its issuer, and a nonce that a reply may repeat, or none."""

    issuer: x509.Certificate
    serial: int
    nonce: bytes

    def encoded(self) -> bytes:
        """The request in DER. The hash is the one that all responders know (RFC 5019 section 2.1.1)."""
        sha1 = hashes.SHA1()  # noqa: S303 - names the issuer; it protects nothing
        name, key = _issuer_hashes(self.issuer, sha1)
        builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name, key, self.serial, sha1)
        if self.nonce:
            builder = builder.add_extension(x509.OCSPNonce(self.nonce), critical=False)
        return builder.build().public_bytes(Encoding.DER)


class _Offer(Struct, frozen=True):
    response: ocsp.OCSPResponse
    single: ocsp.OCSPSingleResponse
    question: Question
    held: OCSPReply | None


Check = Callable[[_Offer, datetime], str | None]


def read_reply(data: bytes, question: Question, held: OCSPReply | None, now: datetime) -> OCSPReply:
    """What a reply in DER says, if it may be believed. Raises Invalid."""
    try:
        response = ocsp.load_der_ocsp_response(data)
        outcome = response.response_status
        if outcome is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise Invalid(f"The OCSP responder refuses to answer: {outcome.name.lower()}.")
        single = next(iter(_about(response, question)), None)
        if single is None:
            raise Invalid("The OCSP reply is about another certificate.")
        offer = _Offer(response, single, question, held)
        refusal = next((reason for check in _CHECKS if (reason := check(offer, now)) is not None), None)
        if refusal is not None:
            raise Invalid(refusal)
        why = single.revocation_reason
        return OCSPReply(
            _STATUSES[single.certificate_status],
            single.this_update_utc,
            single.next_update_utc,
            single.revocation_time_utc,
            why.value if why is not None else "unspecified",
        )
    except (ValueError, TypeError, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        raise Invalid(f"The answer is no OCSP reply that can be read: {str(error)[:200]}.") from None


def _about(response: ocsp.OCSPResponse, question: Question) -> Iterator[ocsp.OCSPSingleResponse]:
    for single in response.responses:
        if single.serial_number == question.serial:
            name, key = _issuer_hashes(question.issuer, single.hash_algorithm)
            if (single.issuer_name_hash, single.issuer_key_hash) == (name, key):
                yield single


def _signed_by_stranger(offer: _Offer, now: datetime) -> str | None:
    """The issuer itself, or whom it has given a certificate for that directly (RFC 6960 section 4.2.2.2)."""
    if isinstance(offer.response.signature_hash_algorithm, hashes.MD5 | hashes.SHA1):
        return "The OCSP reply is signed with an algorithm that can be forged."
    issuer = offer.question.issuer
    if _verifies(offer.response, issuer):
        return None
    for certificate in offer.response.certificates:
        if _verifies(offer.response, certificate):
            return _unauthorised(certificate, issuer, now)
    return "The OCSP reply is not signed by the issuer, nor by a responder whose certificate it has."


def _unauthorised(responder: x509.Certificate, issuer: x509.Certificate, now: datetime) -> str | None:
    try:
        responder.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return "The OCSP reply is signed by a responder that the issuer has not named."
    if not responder.not_valid_before_utc - TOLERANCE <= now <= responder.not_valid_after_utc + TOLERANCE:
        return "The certificate of the OCSP responder is not valid now."
    try:
        usages = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        usages = x509.ExtendedKeyUsage([])
    if ExtendedKeyUsageOID.OCSP_SIGNING not in usages:
        return "The OCSP reply is signed with a certificate that is not for that (id-kp-OCSPSigning)."
    try:
        responder.extensions.get_extension_for_class(x509.OCSPNoCheck)
    except x509.ExtensionNotFound:
        # Else whoever has stolen a responder's key could say for ever that nothing is revoked, the responder included.
        return "The certificate of the OCSP responder does not say that it need not be checked (id-pkix-ocsp-nocheck)."
    return None


def _another_nonce(offer: _Offer, now: datetime) -> str | None:
    """A reply without a nonce was made before, for everybody; one with another was made for somebody else."""
    for extension in offer.response.extensions:
        if isinstance(extension.value, x509.OCSPNonce) and extension.value.nonce != offer.question.nonce:
            return "The OCSP reply is to another request: it repeats another nonce."
    return None


def _from_the_future(offer: _Offer, now: datetime) -> str | None:
    made = offer.single.this_update_utc
    return None if made <= now + TOLERANCE else f"The OCSP reply is from the future: {made:%Y-%m-%d %H:%M} UTC."


def _over(offer: _Offer, now: datetime) -> str | None:
    single = offer.single
    until = single.next_update_utc or single.this_update_utc + _ASSUMED_LIFE
    return None if now < until + TOLERANCE else f"The OCSP reply has expired at {until:%Y-%m-%d %H:%M} UTC."


def _replayed(offer: _Offer, now: datetime) -> str | None:
    held = offer.held
    if held is None or now >= held.fresh_until + TOLERANCE or offer.single.this_update_utc >= held.this_update:
        return None
    return "The OCSP reply is older than the one held."


_CHECKS: Final[tuple[Check, ...]] = (_signed_by_stranger, _another_nonce, _from_the_future, _over, _replayed)


def _verifies(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    key, algorithm = signer.public_key(), response.signature_hash_algorithm
    signature, signed = response.signature, response.tbs_response_bytes
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm is not None:
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm is not None:
            key.verify(signature, signed, ec.ECDSA(algorithm))
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, signed)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _issuer_hashes(issuer: x509.Certificate, algorithm: hashes.HashAlgorithm) -> tuple[bytes, bytes]:
    """Of the issuer's name and of the bits of its key (RFC 6960 section 4.1.1)."""
    digest = hashes.Hash(algorithm)
    digest.update(issuer.subject.public_bytes())
    # The library hashes keys so only on the way of a request, for which any certificate will do.
    request = ocsp.OCSPRequestBuilder().add_certificate(issuer, issuer, algorithm).build()
    return digest.finalize(), request.issuer_key_hash
