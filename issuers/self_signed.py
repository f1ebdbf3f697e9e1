"""`Self`: the certificate is signed by its own key."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from certbroker.domain.csr import encoded_subject, extensions
from certbroker.domain.durations import add_months
from certbroker.domain.keys import key_identifier, subject_public_key_info
from certbroker.domain.signing import scheme_of, signed
from certbroker.domain.tbs_certificate import subject_key_identifier, tbs_certificate
from certbroker.ports.clock import Clock
from certbroker.ports.issuer import (
    CertificateIssued,
    IssuanceRequest,
    Issuer,
    IssuerKind,
    IssuerSettings,
    Journal,
    Reply,
    Resources,
)
from certbroker.randomness import random_bytes

# Clocks of the machines that will check the certificate may be slow; Key Vault backdates by as much.
_BACKDATE: Final = timedelta(minutes=10)


class SelfSigned:
    """Signs on the spot, so there is nothing to journal."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def advance(self, request: IssuanceRequest, journal: Journal) -> Reply:
        policy, key = request.policy, request.key
        subject = encoded_subject(policy.subject)
        public = subject_public_key_info(key.public_key())
        start = self._clock.now().replace(microsecond=0)
        end = add_months(start, policy.validity_months)
        body = tbs_certificate(
            _serial_number(),
            scheme_of(key).algorithm,
            subject,
            (start - _BACKDATE, end),
            subject,
            public,
            (subject_key_identifier(key_identifier(public)), *extensions(policy)),
        )
        return CertificateIssued((signed(body, key),))

    def is_quick(self) -> bool:
        return True


def _serial_number() -> int:
    """A positive number of at most 20 octets, as RFC 5280 section 4.1.2.2 wants it, and random."""
    return int.from_bytes(random_bytes(20), "big") >> 1


class SelfSignedKind:
    """The kind of the built-in issuer `Self`."""

    provider = "Self"
    local = True
    manual = False

    def check(self, settings: IssuerSettings) -> None:
        """Nothing to configure."""

    def open(self, settings: IssuerSettings, resources: Resources) -> Issuer:
        return SelfSigned(resources.clock)


KIND: Final[IssuerKind] = SelfSignedKind()
