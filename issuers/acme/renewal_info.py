"""When the CA wants a certificate renewed (RFC 9773)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from josepy.json_util import encode_b64jose

from certbroker.ports.clock import Clock
from certbroker.ports.issuer_abilities import RenewalWindow
from issuers.acme.problem import CARefused, Nonsense
from issuers.acme.transport import Authority

# Section 4.3.2: a Retry-After under a minute counts as a minute; transport cuts longer ones than a day. Section 4.3.3:
# six hours when nothing else is known.
_SHORTEST: Final = timedelta(minutes=1)
_OTHERWISE: Final = timedelta(hours=6)

# RFC 3339 section 5.6. `fromisoformat` alone reads week dates, dates without separators, and times without a zone.
_MOMENT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,6})\d{0,30})?(?:[Zz]|([+-]\d\d:\d\d))", re.ASCII
)
# Before any certificate; Go writes a time that nobody has set as the year 1.
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
# What RFC 3986 allows in a URL, so that it can stand in a message or a page as it is.
_URL: Final = re.compile(r"[A-Za-z0-9:/?#\[\]@!$&'()*+,;=._~%-]{1,2000}", re.ASCII)


def certificate_id(certificate: x509.Certificate) -> str | None:
    """How ACME names a certificate (section 4.1): its authority key identifier and its serial number.

    None when the certificate has no authority key identifier.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None
    key = extension.value.key_identifier
    if not key:
        return None
    serial = certificate.serial_number
    # The content octets of a DER INTEGER: a leading zero where the first bit is set.
    octets = serial.to_bytes(serial.bit_length() // 8 + 1, "big", signed=True)
    return f"{encode_b64jose(key)}.{encode_b64jose(octets)}"


def renewal_window(authority: Authority, certificate: x509.Certificate, clock: Clock) -> RenewalWindow | None:
    """What the CA says about the certificate; None when it says nothing.

    Raises IssuerUnavailable, with `retry_at` wherever asking again soon would change nothing.
    """
    name = certificate_id(certificate)
    try:
        directory = authority.directory(clock)
    except CARefused as error:
        raise error.unavailable() from error
    if name is None or directory.renewal_info is None:
        return None
    now, ask_again = clock.now(), _OTHERWISE
    try:
        answer = authority.get(f"{directory.renewal_info.rstrip('/')}/{name}", clock)
        ask_again = _pause(answer.pause) or ask_again
        return read_window(answer.json(), ask_again, certificate.not_valid_after_utc)
    except CARefused as error:
        # 404: the CA does not know the certificate. 400: it does not know the certificate's issuer, as Pebble says it.
        if error.status in (404, 410) or (error.status == 400 and error.kind == "malformed"):
            return None
        unavailable = error.unavailable()
        pause = _pause(error.retry_at - now if error.retry_at else None)
        # An error of the server passes; any other is there to stay for some time (section 4.3.3).
        pause = pause or (None if error.status >= 500 else _OTHERWISE)
        unavailable.retry_at = now + pause if pause else None
        raise unavailable from error
    except Nonsense as nonsense:
        nonsense.retry_at = now + ask_again
        raise


def read_window(body: Mapping[str, Any], ask_again: timedelta, expiry: datetime) -> RenewalWindow:
    """The window in a RenewalInfo object (section 4.2), for a certificate that ends at `expiry`.

    A window may lie in the past: the CA then wants the renewal now. Nonsense when it ends before it starts, which
    counts as no answer at all, or when it would have the certificate expire first.
    """
    window = body.get("suggestedWindow")
    if not isinstance(window, Mapping):
        raise Nonsense("the renewal information has no suggested window")
    start, end = _moment(window.get("start")), _moment(window.get("end"))
    if start is None or end is None or start < _EARLIEST:
        raise Nonsense("the suggested window of a renewal has no usable start and end")
    if end <= start:
        raise Nonsense(f"the suggested window of a renewal ends at {end.isoformat()}, before it starts")
    if start >= expiry:
        raise Nonsense(f"the suggested window of a renewal starts at {start.isoformat()}, when the certificate is over")
    return RenewalWindow(start, end, _page(body.get("explanationURL")), ask_again)


def _moment(value: object) -> datetime | None:
    match = _MOMENT.fullmatch(value) if isinstance(value, str) and len(value) <= 64 else None
    if match is None:
        return None
    date, time, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}.{(fraction or '').ljust(6, '0')}{offset or '+00:00'}")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _pause(asked: timedelta | None) -> timedelta | None:
    return max(_SHORTEST, asked) if asked is not None else None


def _page(value: object) -> str | None:
    """A URL that people can be shown; None for anything else. It is never fetched."""
    if not isinstance(value, str) or not _URL.fullmatch(value):
        return None
    try:
        parts = urlsplit(value)
        shown = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        return None
    return value if shown else None
