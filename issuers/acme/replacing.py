"""Telling the CA which certificate an order renews, and doing without when it objects (RFC 9773 section 5).

Such an order is exempt from many a CA's rate limits, so it is worth naming the predecessor. But a CA that refuses it
would refuse it every time: because an order that came to nothing counts as the replacement, because another account
ordered the predecessor, because the names changed. So an objection costs the exemption and never the certificate.
"""

from __future__ import annotations

import re
from typing import Final

from cryptography import x509

from certbroker.ports.issuer import IssuanceRequest
from issuers.acme.problem import CARefused
from issuers.acme.renewal_info import certificate_id

ALREADY_REPLACED: Final = "alreadyReplaced"

# What an objection may be typed as. The check of `replaces` comes before that of names, keys and limits, so these are
# doubted even if their text is silent: at worst the same order is refused a second time.
_OBJECTIONS: Final = frozenset({ALREADY_REPLACED, "conflict", "malformed", "unauthorized"})
# CAs also object with an internal error, and only the text tells it from one that passes.
_NAMES_IT: Final = re.compile(
    r"replac|\bARI\b|cert ?id\b|renewal ?info|the given certificate|identifier.* match", re.IGNORECASE
)
# Errors of the server in a row, after which `replaces` is doubted without a word about it.
_PATIENCE: Final = 3


def predecessor(request: IssuanceRequest) -> str | None:
    """The identifier of the certificate that the request renews, or None when there is none that can be named."""
    if request.replaces is None:
        return None
    try:
        return certificate_id(x509.load_der_x509_certificate(request.replaces))
    except ValueError:
        return None  # A strange certificate, imported once, must not stop its own renewal.


def objects(error: CARefused, failures: int) -> bool:
    """Whether an order that names its predecessor may be refused for that, after so many errors of the server."""
    if error.kind == "rateLimited" or error.status in (408, 429):
        return False
    if error.status < 500:
        return error.status == 409 or error.kind in _OBJECTIONS or _names_it(error)
    # Overload and maintenance answer 502 to 504, or say when to come back, and will pass.
    return error.status == 500 and (_names_it(error) or (failures >= _PATIENCE and error.retry_at is None))


def _names_it(error: CARefused) -> bool:
    return _NAMES_IT.search(error.problem.text()) is not None
