"""Online certificate status (RFC 6960), as RFC 5019 has it for many clients: replies that are signed beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from certbroker.domain import der
from certbroker.domain.authority import serial_text
from certbroker.domain.publication import StatusReply, renewed_at
from certbroker.domain.signing import signed
from certbroker.ports.authority import Signer
from issuers.private_ca.prepare import holds_from, holds_until

# By which a client may name a certificate (RFC 6960 section 4.1.1). Nearly all of them use SHA-1.
_HASHES: Final = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256()}  # noqa: S303  # It names, and protects nothing.
_IDENTIFIERS: Final = {"sha1": "1.3.14.3.2.26", "sha256": "2.16.840.1.101.3.4.2.1"}
_BASIC: Final = der.object_identifier("1.3.6.1.5.5.7.48.1.1")


class Malformed(Exception):
    """What a client sent is no request that is understood here."""


@dataclass(frozen=True, slots=True)
class Question:
    """The certificate that a client asks about, by its issuer's name and key and its serial number."""

    issuer: tuple[str, bytes, bytes]
    """The name of the hash, and the hashes of name and key."""
    serial: int

    @property
    def algorithm(self) -> str:
        return self.issuer[0]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a certificate stands: `revoked` is when it was, None while it is good; `reason` is its CRLReason."""

    serial: int
    revoked: datetime | None = None
    reason: int | None = None


def read(request: bytes) -> Question:
    """What a request in DER asks. A nonce and a signature are not looked at. Raises Malformed."""
    try:
        asked = ocsp.load_der_ocsp_request(request)
        algorithm = asked.hash_algorithm.name
        return Question((algorithm, asked.issuer_name_hash, asked.issuer_key_hash), asked.serial_number)
    except (ValueError, UnsupportedAlgorithm, NotImplementedError) as error:
        # RFC 5019 section 2.1.1: one certificate in each request.
        raise Malformed(str(error)) from None


def issuer_hashes(issuer: x509.Certificate) -> dict[str, tuple[str, bytes, bytes]]:
    """How clients name this issuer, by each hash that is understood. The key's is out of what they would ask with."""
    found = {}
    for name, algorithm in _HASHES.items():
        asked = ocsp.OCSPRequestBuilder().add_certificate(issuer, issuer, algorithm).build()
        subject = hashes.Hash(algorithm)
        subject.update(issuer.subject.public_bytes())
        found[name] = (name, subject.finalize(), asked.issuer_key_hash)
    return found


def replies(signer: Signer, standing: Standing, now: datetime) -> StatusReply:
    """Signed replies about a certificate for as long as the CA's hold, one for each hash that clients name it by.

    They are signed by the CA itself, so there is no certificate in them. Raises what the key raises.
    """
    this_update = holds_from(signer, now)
    if standing.revoked is not None:
        # What is said holds from the revocation on, and not before.
        this_update = max(this_update, min(standing.revoked, now).replace(microsecond=0))
    next_update = holds_until(signer, now + signer.ocsp_life)
    responder, issuers = _named(signer.certificate)
    produced, serial = der.generalized_time(now), der.unsigned(standing.serial)
    said = (
        _status(standing),
        der.generalized_time(this_update),
        der.tagged(0, der.generalized_time(next_update)),
    )
    bodies = {
        name: der.sequence(responder, produced, der.sequence(der.sequence(der.sequence(issuer, serial), *said)))
        for name, issuer in issuers.items()
    }
    signed_bodies = {name: _successful(signed(body, signer.key)) for name, body in bodies.items()}
    act_at = renewed_at(serial_text(standing.serial), now, next_update)
    return StatusReply(this_update, next_update, act_at, signed_bodies)


@lru_cache(maxsize=64)
def _named(issuer: x509.Certificate) -> tuple[bytes, dict[str, bytes]]:
    """A ResponderID for the CA, and how a CertID names it by each hash, in DER but for the header of the SEQUENCE."""
    names = issuer_hashes(issuer)
    # RFC 5019 section 2.2.1: by the key, which is shorter than the name. RFC 6960 section 4.2.1: by its SHA-1.
    responder = der.tagged(2, der.octet_string(names["sha1"][2]))
    algorithms = {name: der.sequence(der.object_identifier(dotted), der.NULL) for name, dotted in _IDENTIFIERS.items()}
    return responder, {
        name: algorithms[name] + der.octet_string(subject) + der.octet_string(key)
        for name, subject, key in names.values()
    }


def _status(standing: Standing) -> bytes:
    """The CertStatus (RFC 6960 section 4.2.1). `unspecified` is left out, as in a CRL."""
    if standing.revoked is None:
        return der.tagged_null(0)
    reason = der.tagged(0, der.enumerated(standing.reason)) if standing.reason else b""
    return der.tagged(1, der.generalized_time(standing.revoked) + reason)


def _successful(basic: bytes) -> bytes:
    return der.sequence(der.enumerated(0), der.tagged(0, der.sequence(_BASIC, der.octet_string(basic))))


def _unsuccessful(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


MALFORMED: Final = _unsuccessful(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
UNAUTHORIZED: Final = _unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)
TRY_LATER: Final = _unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
