"""What an ACME issuer is configured with, read from the fields that the Key Vault issuer API has.

| field of the API | meaning |
|---|---|
| `credentials.account_id` | key identifier of the external account binding, or absent |
| `credentials.pwd` | its MAC key in base64url |
| `org_details.id` | options as `key=value`, separated by `;` or white space |
| `org_details.admin_details[].email` | the contacts of the account |
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from certbroker.domain.budget import UNLIMITED, Limits
from certbroker.domain.errors import Invalid
from certbroker.domain.policy import is_address, is_dns_name
from certbroker.ports.issuer import IssuerSettings
from issuers.acme.limits import read_limits, write_limits
from issuers.options import read_options as pairs

HTTP_01: Final = "http-01"
TLS_ALPN_01: Final = "tls-alpn-01"
DNS_01: Final = "dns-01"
DNS_PERSIST_01: Final = "dns-persist-01"
CHALLENGES: Final = (HTTP_01, TLS_ALPN_01, DNS_01, DNS_PERSIST_01)
# Challenges that are answered in DNS, and what comes before a name where their records are.
BY_DNS: Final = {DNS_01: "_acme-challenge.", DNS_PERSIST_01: "_validation-persist."}
ACCOUNT_KEYS: Final = ("P-256", "P-384", "P-521", "RSA-2048", "RSA-3072", "RSA-4096")

DIRECTORIES: Final = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
    "zerossl": "https://acme.zerossl.com/v2/DV90",
    "google": "https://dv.acme-v02.api.pki.goog/directory",
    "google-staging": "https://dv.acme-v02.test-api.pki.goog/directory",
    "sslcom-ecc": "https://acme.ssl.com/sslcom-dv-ecc",
    "sslcom-rsa": "https://acme.ssl.com/sslcom-dv-rsa",
}

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ACMEOptions:
    """The options of `org_details.id`."""

    directory: str
    """URL of the CA's directory (RFC 8555 section 7.1.1)."""
    challenge: str = HTTP_01
    dns: str | None = None
    """Name of the DNS publisher for dns-01."""
    persist_warning: int = 30
    """Days before a dns-persist-01 record ends from which on that is told."""
    preferred_chain: str | None = None
    """Common name of an issuer in the chain to choose among alternates (RFC 8555 section 7.4.2)."""
    profile: str | None = None
    account_key: str = "P-256"
    hosts: tuple[str, ...] = ()
    """Hosts, besides the directory's own, that the CA's URLs may lead to."""
    limits: Limits = UNLIMITED
    """The rate budgets that orders keep to."""


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    """An external account binding (RFC 8555 section 7.3.4)."""

    key_id: str
    mac_key: str = field(repr=False)
    """base64url without padding."""


@dataclass(frozen=True, slots=True)
class ACMESettings:
    """Everything that one configured ACME issuer needs."""

    options: ACMEOptions
    external_account: ExternalAccount | None = None
    contacts: tuple[str, ...] = ()
    """E-mail addresses, without a scheme."""


def read_settings(settings: IssuerSettings) -> ACMESettings:
    """The settings of an ACME issuer; Invalid, naming the field, when they are incomplete or malformed."""
    contacts = tuple(dict.fromkeys(person.email for person in settings.administrators if person.email))
    for contact in contacts:
        # RFC 8555 section 7.3: a mailto URL without hfields and with one address.
        if not re.fullmatch(r"[^\s@?,;:]+@[^\s@?,;:]+", contact, re.ASCII) or len(contact) > 254:
            raise Invalid(f"org_details.admin_details has the email {contact[:100]!r}, which is not one mail address.")
    return ACMESettings(
        read_options(settings.organization_id or ""),
        _external_account(settings.account_id or "", settings.password or ""),
        contacts,
    )


def read_options(text: str) -> ACMEOptions:
    """The options written as `key=value;key=value`; Invalid when one is unknown, malformed, repeated or missing."""
    given = pairs(text, _READERS)
    if "directory" not in given:
        raise Invalid(
            "org_details.id lacks the option directory: write directory=https://… with the URL of the CA's ACME "
            f"directory, or one of the names {', '.join(DIRECTORIES)}."
        )
    challenge = _challenge(given.get("challenge", HTTP_01))
    dns = _dns(given["dns"]) if "dns" in given else None
    if challenge == DNS_01 and dns is None:
        raise Invalid("org_details.id: challenge=dns-01 needs dns=<name of a configured DNS publisher>.")
    if challenge != DNS_01 and dns is not None:
        raise Invalid("org_details.id: the option dns has an effect only with challenge=dns-01.")
    directory = _directory(given["directory"])
    return ACMEOptions(
        directory=directory,
        challenge=challenge,
        dns=dns,
        persist_warning=_persist_warning(given.get("persist_warning", "30")),
        preferred_chain=_text("preferred_chain", given.get("preferred_chain")),
        profile=_text("profile", given.get("profile")),
        account_key=_account_key(given.get("account_key", "P-256")),
        hosts=_hosts(given.get("hosts", "")),
        limits=read_limits(given.get("limits"), directory),
    )


def write_options(options: ACMEOptions) -> str:
    """The text that `read_options` reads back as the same options."""
    given = {
        "directory": options.directory,
        "challenge": options.challenge,
        "dns": options.dns,
        "persist_warning": str(options.persist_warning),
        "preferred_chain": options.preferred_chain and quote(options.preferred_chain, safe=""),
        "profile": options.profile and quote(options.profile, safe=""),
        "account_key": options.account_key,
        "hosts": ",".join(options.hosts),
        "limits": write_limits(options.limits, options.directory),
    }
    return ";".join(f"{key}={value}" for key, value in given.items() if value)


def staging(options: ACMEOptions, directory: str | None) -> ACMEOptions:
    """The same options for the CA's staging environment, or for `directory`, a name or a URL. Raises Invalid."""
    if directory is None:
        name = next((name for name, url in DIRECTORIES.items() if url == options.directory), "")
        directory = DIRECTORIES.get(f"{name}-staging")
        if directory is None:
            raise Invalid("No staging environment of the issuer's CA is known: name one by --directory.")
    url = _directory(directory)
    earnest = {options.directory, *(each for name, each in DIRECTORIES.items() if not name.endswith("-staging"))}
    if _place(url) in {_place(each) for each in earnest}:
        raise Invalid(f"{url} issues in earnest: a dry run needs the staging environment of a CA.")
    return replace(options, directory=url, limits=UNLIMITED)


def _place(url: str) -> tuple[str, str]:
    """What two URLs of the same directory have in common, however they are written."""
    parts = urlsplit(url)
    return parts.netloc.lower().removesuffix(":443"), parts.path.rstrip("/")


_READERS: Final = (
    "directory",
    "challenge",
    "dns",
    "persist_warning",
    "preferred_chain",
    "profile",
    "account_key",
    "hosts",
    "limits",
)


def _directory(value: str) -> str:
    url = DIRECTORIES.get(value.lower(), value)
    parts = None
    try:
        parts = urlsplit(url)
        well_formed = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if parts is None or not well_formed or not url.isascii() or not url.isprintable():
        raise Invalid(
            f"org_details.id: directory={value[:200]} is neither a URL such as https://ca.example/directory nor one of "
            f"the names {', '.join(DIRECTORIES)}."
        )
    if parts.username is not None or parts.fragment:
        raise Invalid("org_details.id: the directory's URL has no user name and no fragment.")
    return url


def _challenge(value: str) -> str:
    if value.lower() not in CHALLENGES:
        raise Invalid(f"org_details.id: challenge={value[:64]} is not supported; use one of {', '.join(CHALLENGES)}.")
    return value.lower()


def _dns(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise Invalid(f"org_details.id: dns={value[:64]} is not the name of a DNS publisher.")
    return value


def _persist_warning(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", value, re.ASCII):
        raise Invalid(f"org_details.id: persist_warning={value[:64]} is not a number of days from 0 to 9999.")
    return int(value)


def _text(key: str, value: str | None) -> str | None:
    if value is None:
        return None
    text = unquote(value, errors="replace")
    if not text.isprintable() or "\ufffd" in text or len(text) > 256 or not text.strip():
        raise Invalid(f"org_details.id: the value of {key} is not printable text; write a space as %20.")
    return text


def _account_key(value: str) -> str:
    for known in ACCOUNT_KEYS:
        if value.upper() == known:
            return known
    raise Invalid(f"org_details.id: account_key={value[:64]} is not supported; use {', '.join(ACCOUNT_KEYS)}.")


def _hosts(value: str) -> tuple[str, ...]:
    hosts = tuple(host.lower() for host in value.split(",") if host)
    for host in hosts:
        if host.startswith("*"):
            raise Invalid("org_details.id: hosts are named one by one, without a wildcard.")
        if not is_address(host) and not is_dns_name(host):
            raise Invalid(f"org_details.id: hosts has {host[:100]!r}, which is not a host name.")
    return hosts


def _external_account(key_id: str, mac_key: str) -> ExternalAccount | None:
    if not key_id and not mac_key:
        return None
    if not key_id or not mac_key:
        raise Invalid(
            "An external account binding has both a key identifier in credentials.account_id and a MAC key in "
            "credentials.pwd; give both, or neither for a CA that asks for none."
        )
    if not key_id.isprintable() or len(key_id) > 512:
        raise Invalid("credentials.account_id is not the key identifier of an external account binding.")
    # CAs show the key in either alphabet and with or without padding; RFC 8555 section 7.3.4 has base64url.
    mac_key = mac_key.strip().rstrip("=").replace("+", "-").replace("/", "_")
    try:
        decoded = base64.b64decode(mac_key + "=" * (-len(mac_key) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded:
        raise Invalid("credentials.pwd is not the MAC key of an external account binding in base64url.")
    return ExternalAccount(key_id, mac_key)
