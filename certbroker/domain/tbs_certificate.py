"""TBSCertificate (RFC 5280 section 4.1): what of a certificate is signed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from certbroker.domain import der

_VERSION_3: Final = der.tagged(0, der.unsigned(2))
_SUBJECT_KEY_IDENTIFIER: Final = der.object_identifier("2.5.29.14")


def tbs_certificate(
    serial: int,
    algorithm: bytes,
    issuer: bytes,
    validity: tuple[datetime, datetime],
    subject: bytes,
    public: bytes,
    extensions: Iterable[bytes],
) -> bytes:
    """All that is signed of a certificate. All parts that are bytes are in DER; there is at least one extension."""
    start, end = validity
    return der.sequence(
        _VERSION_3,
        der.unsigned(serial),
        algorithm,
        issuer,
        der.sequence(der.time(start), der.time(end)),
        subject,
        public,
        der.tagged(3, der.sequence(*extensions)),
    )


def subject_key_identifier(digest: bytes) -> bytes:
    """The extension subjectKeyIdentifier (RFC 5280 section 4.2.1.2) in DER."""
    return der.sequence(_SUBJECT_KEY_IDENTIFIER, der.octet_string(der.octet_string(digest)))
