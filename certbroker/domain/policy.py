"""The certificate policy: what a certificate should be and how it is looked after."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from msgspec import Struct

from certbroker.domain.errors import Invalid
from certbroker.domain.keys import KEY_USAGES, KeySpec

SELF: Final = "Self"
UNKNOWN: Final = "Unknown"

PKCS12: Final = "application/x-pkcs12"
PEM: Final = "application/x-pem-file"
CONTENT_TYPES: Final = (PKCS12, PEM)

AUTO_RENEW: Final = "AutoRenew"
EMAIL_CONTACTS: Final = "EmailContacts"

# SC-081v3 limits public certificates far more; this bound only keeps notAfter inside the range of GeneralizedTime and
# the arithmetic honest. It is what Key Vault's own console allows for its integrated issuers times ten.
MAX_VALIDITY_MONTHS: Final = 1200
MAX_NAMES: Final = 100
MAX_PURPOSES: Final = 100
MAX_ISSUERS: Final = 5
MAX_ACTIVATION_DELAY: Final = 24 * 90

_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+", re.ASCII)
# Names that OpenSSL and Windows write and RFC 4514 does not list.
_SHORT_NAMES: Final = {"E": x509.NameOID.EMAIL_ADDRESS, "S": x509.NameOID.STATE_OR_PROVINCE_NAME}
_LABEL: Final = re.compile(r"(?!-)[0-9a-z_-]{1,63}(?<!-)", re.ASCII | re.IGNORECASE)


class SubjectAlternativeNames(Struct, frozen=True):
    """The names of a certificate (RFC 5280 section 4.2.1.6), by kind."""

    dns_names: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    upns: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, (self.dns_names, self.emails, self.upns, self.uris, self.ip_addresses)))

    def check(self) -> None:
        if len(self) > MAX_NAMES:
            raise Invalid(f"A certificate has at most {MAX_NAMES} subject alternative names; {len(self)} were given.")
        for name in self.dns_names:
            if not is_dns_name(name):
                raise Invalid(f"sans.dns_names has {name[:260]!r}, no DNS name (write international names as xn--…).")
        for address in self.ip_addresses:
            if not is_address(address):
                raise Invalid(f"sans.ipAddresses has {address[:64]!r}, which is not an IP address.")
        for label, values in (("emails", self.emails), ("upns", self.upns), ("uris", self.uris)):
            for value in values:
                if not value or len(value) > 1024 or not value.isascii() or not value.isprintable():
                    raise Invalid(f"sans.{label} has a value that is empty, too long, or not printable ASCII.")
        if any("@" not in email for email in self.emails):
            raise Invalid("sans.emails has a value that is not an e-mail address.")
        if any(":" not in uri for uri in self.uris):
            raise Invalid("sans.uris has a value without a scheme.")


class LifetimeAction(Struct, frozen=True):
    """What to do when a point in a certificate's life is reached: one of the two triggers is set."""

    action: str
    lifetime_percentage: int | None = None
    days_before_expiry: int | None = None

    def check(self, validity_months: int) -> None:
        if self.action not in (AUTO_RENEW, EMAIL_CONTACTS):
            raise Invalid(f"lifetime_actions has {self.action!r}: action_type is {AUTO_RENEW} or {EMAIL_CONTACTS}.")
        if (self.lifetime_percentage is None) == (self.days_before_expiry is None):
            raise Invalid("A lifetime action has one trigger: lifetime_percentage or days_before_expiry.")
        if self.lifetime_percentage is not None and not 1 <= self.lifetime_percentage <= 99:
            raise Invalid("lifetime_percentage is between 1 and 99.")
        if self.days_before_expiry is not None and not 1 <= self.days_before_expiry <= 27 * validity_months:
            raise Invalid(
                f"days_before_expiry is between 1 and {27 * validity_months} for {validity_months} months of validity."
            )


class CertificatePolicy(Struct, frozen=True):
    """Everything a new version of a certificate is made from. Times in Unix seconds."""

    key: KeySpec = KeySpec()
    exportable: bool = True
    reuse_key: bool = False
    content_type: str = PKCS12
    subject: str = ""
    sans: SubjectAlternativeNames = SubjectAlternativeNames()
    ekus: tuple[str, ...] = (
        ExtendedKeyUsageOID.SERVER_AUTH.dotted_string,
        ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string,
    )
    key_usage: tuple[str, ...] = ("digitalSignature", "keyEncipherment")
    validity_months: int = 12
    lifetime_actions: tuple[LifetimeAction, ...] = (LifetimeAction(AUTO_RENEW, lifetime_percentage=80),)
    issuer: str = UNKNOWN
    certificate_type: str | None = None
    certificate_transparency: bool | None = None
    enabled: bool = True
    created: int = 0
    updated: int = 0
    standby_issuers: tuple[str, ...] = ()
    activation_delay_hours: int = 0

    @property
    def issuers(self) -> tuple[str, ...]:
        """The issuer, and those that are asked in this order when it is down, limited, or refuses."""
        return (self.issuer, *self.standby_issuers)

    def check(self) -> None:
        """Raise Invalid, naming the field, when a certificate could not be made from this policy."""
        self.key.complete("key_props.")
        if self.content_type not in CONTENT_TYPES:
            raise Invalid(f"secret_props.contentType is one of {', '.join(CONTENT_TYPES)}.")
        if self.key.hsm and self.exportable:
            raise Invalid("A key in an HSM cannot be exportable: set key_props.exportable to false.")
        if not self.subject and not len(self.sans):
            raise Invalid("The policy names nobody: set x509_props.subject or at least one of x509_props.sans.")
        parse_subject(self.subject)
        self.sans.check()
        if len(self.ekus) > MAX_PURPOSES:
            raise Invalid(f"x509_props.ekus has at most {MAX_PURPOSES} purposes; {len(self.ekus)} were given.")
        for oid in self.ekus:
            parse_oid(oid)
        unknown = sorted(set(self.key_usage) - set(KEY_USAGES))
        if unknown:
            raise Invalid(f"x509_props.key_usage has {unknown[0]!r}: use {', '.join(KEY_USAGES)}.")
        if not 1 <= self.validity_months <= MAX_VALIDITY_MONTHS:
            raise Invalid(f"x509_props.validity_months is between 1 and {MAX_VALIDITY_MONTHS}.")
        if len({action.action for action in self.lifetime_actions}) != len(self.lifetime_actions):
            raise Invalid("lifetime_actions has the same action twice.")
        for action in self.lifetime_actions:
            action.check(self.validity_months)
        if not self.issuer:
            raise Invalid("issuer.name is empty: use Self, Unknown, or the name of an issuer of this vault.")
        self._check_standby()
        if not 0 <= self.activation_delay_hours <= MAX_ACTIVATION_DELAY:
            raise Invalid(f"activation_delay_hours is between 0 and {MAX_ACTIVATION_DELAY}.")

    def _check_standby(self) -> None:
        names = [name.lower() for name in self.issuers]
        if len(names) > 1 and {SELF.lower(), UNKNOWN.lower()} & set(names):
            raise Invalid("standby_issuers are issuers of this vault that stand in for another: not Self, not Unknown.")
        if len(set(names)) != len(names) or len(names) > MAX_ISSUERS:
            raise Invalid(f"standby_issuers names an issuer twice, or more than {MAX_ISSUERS - 1}.")


@lru_cache(maxsize=1024)
def parse_subject(subject: str) -> x509.Name:
    """The distinguished name written as in RFC 4514, in the order it is written; Invalid when it is malformed."""
    if not subject:
        return x509.Name([])
    if len(subject) > 2048:
        raise Invalid("x509_props.subject is longer than 2048 characters.")
    # Clients write a space after the comma and RFC 1779 quotes around values; RFC 4514 knows neither.
    unquoted = re.sub(r'="([^"\\]*)"', lambda quoted: "=" + re.sub(r"([,+;<>#])", r"\\\1", quoted[1]), subject.strip())
    try:
        return x509.Name.from_rfc4514_string(re.sub(r"(?<!\\),\s+", ",", unquoted), _SHORT_NAMES)
    except ValueError:
        raise Invalid(
            f"x509_props.subject {subject[:200]!r} is not a distinguished name such as 'CN=example.com'."
        ) from None


@lru_cache(maxsize=1024)
def written_subject(subject: str) -> str:
    """The distinguished name as a certificate that has it is read: as RFC 4514 has it. Raises Invalid."""
    return parse_subject(subject).rfc4514_string()


def parse_oid(oid: str) -> x509.ObjectIdentifier:
    """The object identifier written in dotted form; Invalid when it is malformed."""
    try:
        if _OID.fullmatch(oid) is None or len(oid) > 128:
            raise ValueError
        return x509.ObjectIdentifier(oid)
    except ValueError:
        raise Invalid(f"x509_props.ekus has {oid[:128]!r}, which is not an object identifier.") from None


def is_dns_name(name: str) -> bool:
    """Whether this is a DNS name in its ASCII form, with at most one leading `*` label (RFC 6125)."""
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.removeprefix("*.").split("."))


def is_address(name: str) -> bool:
    """Whether this is an IP address, without a zone: that means something on one machine only (RFC 4007)."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return "%" not in name


def common_name(subject: str) -> str | None:
    """The common name in a subject, if it has one."""
    names = parse_subject(subject).get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else None
