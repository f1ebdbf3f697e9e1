"""Where a certificate should be served, what was seen there, and when that is an alarm.

A certificate that was renewed and is not served is the failure that nobody sees before the old one expires: so what is
served is compared with what should be, by the fingerprint, and never by what a deployment said of itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from msgspec import Struct
from msgspec.structs import replace

from certbroker.domain.backoff import doubled, fraction
from certbroker.domain.errors import Invalid
from certbroker.domain.one_line import one_line
from certbroker.domain.policy import is_address, is_dns_name
from certbroker.domain.records import CertificateFacts

# Of one certificate. Who has more has a load balancer or a fleet, and can name what is before it.
MOST_ENDPOINTS: Final = 50

# Waits after looks that did not find the current version: they double from the first to the last.
_FIRST_WAIT: Final = timedelta(seconds=10)
_LAST_WAIT: Final = timedelta(minutes=15)

# What cannot be seen may be switched off for the night. From then on it is a proof that is missing.
_OUT_OF_SIGHT: Final = timedelta(days=1)

_MAX_TEXT: Final = 300


class StartTLS(StrEnum):
    """A protocol that begins without TLS, and how TLS is asked for in it."""

    SMTP = "smtp"
    """RFC 3207."""
    IMAP = "imap"
    """RFC 9051 section 6.2.1."""
    POP3 = "pop3"
    """RFC 2595 section 4."""
    LDAP = "ldap"
    """RFC 4511 section 4.14."""
    POSTGRES = "postgres"
    """SSLRequest of PostgreSQL's own protocol."""


_PORTS: Final = {StartTLS.SMTP: 25, StartTLS.IMAP: 143, StartTLS.POP3: 110, StartTLS.LDAP: 389, StartTLS.POSTGRES: 5432}

# Port 587 is where mail is handed in (RFC 6409).
_AT_PORT: Final = {port: protocol for protocol, port in _PORTS.items()} | {587: StartTLS.SMTP}


def starttls_at(port: int) -> StartTLS | None:
    """The protocol that is spoken at this well-known port and begins without TLS; None at any other."""
    return _AT_PORT.get(port)


class Serving(StrEnum):
    """What an endpoint serves."""

    UNPROBED = "Unprobed"
    """It has not been looked at yet, or there is no version that it could serve."""
    CURRENT = "Serving"
    """The version in use, at every address."""
    FLAWED = "ServingFlawed"
    """The version in use, but so that clients refuse it: without its chain, or for a name that is not in it."""
    OLD = "ServingOld"
    """An older version of the certificate."""
    OTHER = "ServingOther"
    """A certificate that is no version of this one."""
    UNREACHABLE = "Unreachable"
    GARBAGE = "Garbage"
    """Something that is no TLS."""


# Where several addresses differ, the first of these that one of them does is what the endpoint does.
_WORST_FIRST: Final = (
    Serving.OLD, Serving.OTHER, Serving.FLAWED, Serving.GARBAGE, Serving.UNREACHABLE, Serving.CURRENT,
)  # fmt: skip


class Place(Struct, frozen=True):
    """What is looked at. `server_name` is asked for instead of the host; `address` is looked at instead of all."""

    host: str
    port: int
    server_name: str | None = None
    starttls: StartTLS | None = None
    address: str | None = None

    @property
    def id(self) -> str:
        """The same for the same place, in 16 hexadecimal digits."""
        parts = (self.host, str(self.port), self.server_name or "", self.starttls or "", self.address or "")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    @property
    def text(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def asked_for(self) -> str:
        return self.server_name or self.host


def read_place(
    text: str, server_name: str | None = None, starttls: str | None = None, address: str | None = None
) -> Place:
    """The place at `host`, `host:port` or `[address]:port`. Raises Invalid."""
    try:
        protocol = StartTLS(starttls.lower()) if starttls else None
    except ValueError:
        raise Invalid(f"starttls is one of {', '.join(StartTLS)}.") from None
    host, port = _split(text)
    for label, name in (("The server name", server_name), ("The host", host)):
        if name and not is_address(name) and (not is_dns_name(name) or name.startswith("*")):
            raise Invalid(f"{label} {name[:200]!r} is neither a DNS name nor an IP address.")
    if address and not is_address(address):
        raise Invalid(f"The address {address[:200]!r} is no IP address.")
    default = 443 if protocol is None else _PORTS[protocol]
    return Place(
        host.lower(),
        default if port is None else port,
        server_name.lower() if server_name else None,
        protocol,
        address or None,
    )


def _split(text: str) -> tuple[str, int | None]:
    bracketed, colon, rest = text.rpartition("]")
    if colon:
        host, port = bracketed.removeprefix("["), rest.removeprefix(":")
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    host = host.removesuffix(".")
    if not host:
        raise Invalid("An endpoint is a host, or host:port.")
    if not port:
        return host, None
    if not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) <= 65535:
        raise Invalid(f"The port {port[:20]!r} is no number between 1 and 65535.")
    return host, int(port)


class Sight(Struct, frozen=True):
    """What one address has shown. Without a certificate `problem` says why.

    `version` is the version of the certificate that it serves, if it is one. `findings` are sentences on what is wrong
    with what is served besides.
    """

    address: str
    serving: Serving
    sha256: str = ""
    version: str = ""
    subject: str = ""
    issuer: str = ""
    not_after: int | None = None
    findings: tuple[str, ...] = ()
    problem: str = ""

    def is_over(self, now: datetime) -> bool:
        """Whether what it serves has expired, so that its clients fail now."""
        return self.not_after is not None and self.not_after <= now.timestamp()


class Alarm(Struct, frozen=True):
    """That an endpoint does not serve the version that it should as it should, for longer than is to be expected.

    `grave` means that what it serves instead has expired.
    """

    version: str
    grave: bool
    reason: str


class Standing(Struct, frozen=True):
    """What is known of an endpoint. `missing_since` is when it was first seen not to serve the version `expected`, or
    so that clients refuse it.
    """

    serving: Serving = Serving.UNPROBED
    since: datetime | None = None
    looked_at: datetime | None = None
    expected: str = ""
    missing_since: datetime | None = None
    failures: int = 0
    alarm: Alarm | None = None
    sights: tuple[Sight, ...] = ()

    @property
    def findings(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(finding for sight in self.sights for finding in sight.findings))


class Expected(Struct, frozen=True):
    """The version in use: what an endpoint should serve. `alarming` is false where nobody is to be told.

    `resting` is a newer version that is not in use yet.
    """

    version: str
    facts: CertificateFacts
    alarming: bool = True
    resting: str | None = None


def judge(
    place: Place, address: str, chain: tuple[bytes, ...], expected: Expected, known: Mapping[str, str], now: datetime
) -> Sight:
    """What it means that an address has presented this chain. `known` has the versions by their SHA-256.

    The version that rests is as good as the one in use.
    """
    try:
        leaf = x509.load_der_x509_certificate(chain[0])
        sha256 = leaf.fingerprint(hashes.SHA256()).hex()
        subject, issuer = (one_line(name.rfc4514_string(), _MAX_TEXT) for name in (leaf.subject, leaf.issuer))
        not_after = int(leaf.not_valid_after_utc.timestamp())
    except ValueError:
        return Sight(address, Serving.GARBAGE, problem="It presents a certificate that cannot be read.")
    version = known.get(sha256, "")
    if sha256 == expected.facts.sha256 or (version and version == expected.resting):
        serving, version = Serving.CURRENT, version or expected.version
    else:
        serving = Serving.OLD if version else Serving.OTHER
    uncovered = list(_uncovered(leaf, place.asked_for))
    incomplete = list(_incomplete(chain, expected.facts)) if sha256 == expected.facts.sha256 else []
    # Who looks at a bare address does not say by which name clients ask.
    if serving is Serving.CURRENT and (incomplete or (uncovered and not is_address(place.asked_for))):
        serving = Serving.FLAWED
    findings = (*uncovered, *incomplete, *_over(not_after, now))
    return Sight(address, serving, sha256, version, subject, issuer, not_after, findings)


def _uncovered(leaf: x509.Certificate, name: str) -> Iterable[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if is_address(name):
            covered = name in map(str, names.get_values_for_type(x509.IPAddress))
        else:
            have = {each.lower() for each in names.get_values_for_type(x509.DNSName)}
            covered = name in have or f"*.{name.partition('.')[2]}" in have
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        covered = False
    if not covered:
        yield f"The certificate is not for {name}, which is the name that clients ask for."


def _over(not_after: int, now: datetime) -> Iterable[str]:
    if not_after <= now.timestamp():
        yield f"The certificate expired on {datetime.fromtimestamp(not_after, UTC):%Y-%m-%d %H:%M} UTC."


def _incomplete(chain: tuple[bytes, ...], facts: CertificateFacts) -> Iterable[str]:
    """What clients need of the chain and the server does not send: all but the certificate itself and roots."""
    for der in facts.chain:
        if der in chain:
            continue
        certificate = x509.load_der_x509_certificate(der)
        if certificate.subject != certificate.issuer:
            name = one_line(certificate.subject.rfc4514_string(), _MAX_TEXT)
            yield f"The chain is incomplete: {name} is not sent, so clients that do not have it refuse the certificate."


def seen(before: Standing, expected: Expected, sights: tuple[Sight, ...], grace: timedelta, now: datetime) -> Standing:
    """What is known after a look at every address; `grace` is how long a deployment may take."""
    serving = next(each for each in _WORST_FIRST if any(sight.serving is each for sight in sights))
    same_version = before.expected == expected.version
    found = serving is Serving.CURRENT
    since = before.missing_since if same_version else None
    missing_since = None if found else since or now
    after = replace(
        before,
        serving=serving,
        since=before.since if serving is before.serving and before.since else now,
        looked_at=now,
        expected=expected.version,
        missing_since=missing_since,
        failures=0 if found else 1 + (before.failures if same_version else 0),
        sights=sights,
    )
    return replace(after, alarm=_alarm(after, expected, sights, grace, now))


def _alarm(
    standing: Standing, expected: Expected, sights: tuple[Sight, ...], grace: timedelta, now: datetime
) -> Alarm | None:
    """The alarm after a look: the one that there was is kept until the endpoint serves what it should."""
    if standing.missing_since is None or not expected.alarming:
        return None
    amiss = [sight for sight in sights if sight.serving is not Serving.CURRENT]
    blind = standing.serving in (Serving.UNREACHABLE, Serving.GARBAGE)
    patience = max(grace, _OUT_OF_SIGHT) if blind else grace
    grave = any(sight.is_over(now) for sight in amiss)
    if not grave and now - standing.missing_since < patience:
        return standing.alarm
    return Alarm(expected.version, grave, _reason(amiss, grave, len(sights)))


def _reason(amiss: list[Sight], grave: bool, looked_at: int) -> str:
    """The first address that does not serve what it should, in words, and how many there are."""
    sight = next((each for worst in _WORST_FIRST for each in amiss if each.serving is worst), amiss[0])
    until = "" if sight.not_after is None else f"{datetime.fromtimestamp(sight.not_after, UTC):%Y-%m-%d %H:%M} UTC"
    end = f", which {'expired' if grave else 'expires'} on {until}"
    match sight.serving:
        case Serving.OLD:
            said = f"serves the older version {sight.version}{end}"
        case Serving.OTHER:
            said = f"serves another certificate, of {sight.subject or 'nobody'} by {sight.issuer}{end}"
        case Serving.FLAWED:
            said = f"serves the version in use, and clients refuse it: {sight.findings[0].rstrip('.')}"
        case _:
            said = f"could not be looked at: {sight.problem.rstrip('.')}"
    others = f" ({len(amiss)} of {looked_at} addresses do not serve what they should)" if looked_at > 1 else ""
    return one_line(f"{sight.address} {said}{others}.", 2 * _MAX_TEXT)


def next_look(standing: Standing, place: Place, every: timedelta, now: datetime) -> datetime:
    """When to look again: soon while the version is missing, and else now and then, not all at once."""
    if standing.missing_since is not None:
        return now + doubled(_FIRST_WAIT, _LAST_WAIT, standing.failures)
    return now + every * (0.75 + fraction(place.id, now.date().isoformat()) / 2)
