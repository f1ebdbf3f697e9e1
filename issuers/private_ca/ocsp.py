"""Online certificate status (RFC 6960), as RFC 5019 has it for many clients: replies that are signed beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from certbroker.domain.keys import SigningKey
from certbroker.domain.signing import scheme_of

# By which a client may name a certificate (RFC 6960 section 4.1.1). Nearly all of them use SHA-1.
_HASHES: Final = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256()}  # noqa: S303  # It names, and protects nothing.
ALGORITHMS: Final = tuple(_HASHES)

_REASONS: Final = {
    1: x509.ReasonFlags.key_compromise,
    2: x509.ReasonFlags.ca_compromise,
    3: x509.ReasonFlags.affiliation_changed,
    4: x509.ReasonFlags.superseded,
    5: x509.ReasonFlags.cessation_of_operation,
    9: x509.ReasonFlags.privilege_withdrawn,
    10: x509.ReasonFlags.aa_compromise,
}


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
    """How a certificate stands: `revoked` is when it was, None while it is good. Times are in whole seconds."""

    serial: int
    this_update: datetime
    next_update: datetime
    revoked: datetime | None = None
    reason: int | None = None


@dataclass(frozen=True, slots=True)
class Responder:
    """A CA that signs replies about its certificates itself, and needs no certificate in them for that."""

    issuer: x509.Certificate
    key: SigningKey = field(repr=False)
    names: Mapping[str, tuple[str, bytes, bytes]]
    """What `issuer_hashes` says of it."""


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


def reply(responder: Responder, standing: Standing, algorithm: str) -> bytes:
    """A signed reply in DER for those who name the certificate by that hash. Raises what the key raises."""
    _, name, key = responder.names[algorithm]
    revoked = standing.revoked is not None
    builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
        name,
        key,
        standing.serial,
        _HASHES[algorithm],
        ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
        standing.this_update,
        standing.next_update,
        standing.revoked,
        _REASONS.get(standing.reason or 0) if revoked else None,
    )
    # RFC 5019 section 2.2.1: by the key, which is shorter than the name.
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, responder.issuer)
    return builder.sign(responder.key, scheme_of(responder.key).digest).public_bytes(Encoding.DER)


def _unsuccessful(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


MALFORMED: Final = _unsuccessful(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
UNAUTHORIZED: Final = _unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)
TRY_LATER: Final = _unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
