"""Certificates that were seen somewhere: at a server that was looked at, or in what a CT monitor tells."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from msgspec import Struct

from certbroker.domain.one_line import one_line
from certbroker.domain.policy import is_address, is_dns_name

# Looks at servers in one scan. At the usual rate that is most of an hour.
MOST_PROBES: Final = 65_536

# Of one certificate as many are kept.
MOST_NAMES: Final = 100
MOST_PLACES: Final = 16

# From so many hexadecimal digits on a serial number says which certificate it is, whoever issued it: public CAs put 64
# random bits into each (TLS Baseline Requirements, section 7.1). Most are longer, and none has a zero in front.
_TELLING_SERIAL: Final = 14
_MOST_TEXT: Final = 300
_MOST_ENTRIES: Final = 20_000


class Standing(StrEnum):
    """What a certificate that was seen is to us."""

    NEW = "new"
    """It has not been compared with what the vaults have yet."""
    KNOWN = "known"
    UNKNOWN = "unknown"
    """No vault has it."""
    ADOPTED = "adopted"
    """A certificate that is to take its place is managed."""
    IGNORED = "ignored"


class Sighting(Struct, frozen=True):
    """A certificate that was seen.

    `id` stands for it wherever it is seen: a CT log's precertificate and the certificate have the same. `leaf` is there
    where a server has shown it. `key` is such as `RSA 2048`. `vault_id`, `name` and `version` are where it is known or
    adopted.
    """

    id: str
    serial: str
    issuer: str
    subject: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    places: tuple[str, ...]
    seen: datetime
    sha256: str = ""
    leaf: bytes = b""
    key: str = ""
    standing: Standing = Standing.NEW
    first_seen: datetime | None = None
    vault_id: int | None = None
    name: str = ""
    version: str = ""


class Target(Struct, frozen=True):
    """Where to look: a host name or address, and a port."""

    host: str
    port: int

    @property
    def place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def targets(hosts: Sequence[str], ports: Sequence[int]) -> tuple[Target, ...]:
    """Every place that is meant, each once, in a fixed order. Raises ValueError, which names the entry.

    An entry is a name, an address or a network, all at `ports`, or a name or address with a port.
    """
    found: dict[Target, None] = {}
    for entry in hosts:
        room = MOST_PROBES - len(found)
        for target in _expanded(entry.strip(), ports, room):
            found[target] = None
        if len(found) > MOST_PROBES:
            raise ValueError(f"{entry!r} makes more than {MOST_PROBES} places to look at; take fewer hosts or ports")
    return tuple(found)


def _expanded(entry: str, ports: Sequence[int], room: int) -> Iterator[Target]:
    if "/" in entry:
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            raise ValueError(f"{entry!r} is not a network such as 192.0.2.0/24") from None
        if network.num_addresses * len(ports) > room:
            raise ValueError(
                f"{entry!r} has {network.num_addresses} addresses, at {len(ports)} ports each: more than the "
                f"{MOST_PROBES} places that one scan may look at"
            )
        addresses = network.hosts() if network.num_addresses > 2 else iter(network)
        yield from (Target(str(address), port) for address in addresses for port in ports)
        return
    host, given = entry, tuple(ports)
    if not is_address(entry):
        host, colon, port = entry.rpartition(":")
        if not colon:
            host = entry
        elif not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) <= 65535:
            raise ValueError(f"{entry!r} has no port between 1 and 65535")
        else:
            host, given = host.strip("[]"), (int(port),)
    if not is_address(host) and not is_dns_name(host):
        raise ValueError(f"{entry!r} is neither a host name, an address, a network, nor one of these with a port")
    yield from (Target(host.lower(), port) for port in given)


def seen_at(leaf: bytes, place: str, now: datetime) -> Sighting:
    """What a server has shown. Raises ValueError when it cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(leaf)
        issuer, subject = certificate.issuer.rfc4514_string(), certificate.subject.rfc4514_string()
        before, after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        serial, names, key = f"{certificate.serial_number:x}", _names(certificate), _key(certificate)
    except (ValueError, TypeError, OverflowError, UnsupportedAlgorithm) as error:
        raise ValueError(f"The certificate cannot be read: {one_line(str(error), 200)}") from None
    sha256 = hashlib.sha256(leaf).hexdigest()
    return Sighting(
        _id(serial, sha256),
        serial,
        one_line(issuer, _MOST_TEXT),
        one_line(subject, _MOST_TEXT),
        names,
        before,
        after,
        (place,),
        now,
        sha256,
        leaf,
        key,
    )


def logged(body: bytes, place: str, now: datetime) -> list[Sighting]:
    """What a CT monitor tells in crt.sh's form, each certificate once. Raises ValueError when that is something else.

    Entries that make no sense are passed over.
    """
    try:
        entries = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("The answer is not JSON.") from None
    if not isinstance(entries, list):
        raise ValueError("The answer is not a list of certificates.")
    found: dict[str, Sighting] = {}
    for entry in entries[:_MOST_ENTRIES]:
        sighting = _entry(entry, place, now)
        if sighting is not None:
            found[sighting.id] = sighting
    return list(found.values())


def _entry(entry: Any, place: str, now: datetime) -> Sighting | None:
    if not isinstance(entry, dict):
        return None
    text = {name: value if isinstance(value := entry.get(name), str) else "" for name in _FIELDS}
    serial = text["serial_number"].lower().lstrip("0")
    if not serial or len(serial) > 40 or set(serial) - set("0123456789abcdef"):
        return None
    try:
        before, after = (datetime.fromisoformat(text[name]).replace(tzinfo=UTC) for name in ("not_before", "not_after"))
    except ValueError:
        return None
    names = tuple(dict.fromkeys(name for name in text["name_value"].lower().split("\n") if is_dns_name(name)))
    if not names:
        return None
    whose = hashlib.sha256(f"{serial} {text['issuer_name']}".encode()).hexdigest()
    subject = f"CN={text['common_name']}" if text["common_name"] else ""
    return Sighting(
        _id(serial, whose),
        serial,
        one_line(text["issuer_name"], _MOST_TEXT),
        one_line(subject, _MOST_TEXT),
        names[:MOST_NAMES],
        before,
        after,
        (place,),
        now,
    )


_FIELDS: Final = ("serial_number", "issuer_name", "common_name", "name_value", "not_before", "not_after")


def _id(serial: str, otherwise: str) -> str:
    return serial if len(serial) >= _TELLING_SERIAL else f"x{otherwise[:32]}"


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    except ValueError:
        return ()  # One that is malformed is shown all the same: somebody serves it.
    found = [name.lower() for name in sans.get_values_for_type(x509.DNSName) if is_dns_name(name)]
    found += [str(address) for address in sans.get_values_for_type(x509.IPAddress)]
    return tuple(dict.fromkeys(found))[:MOST_NAMES]


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return ""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return f"EC {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__.lstrip("_")
