"""Where it is said whether a certificate is revoked: what certificates name, and what the operator adds.

The URLs come from certificates, so they are hostile: they are few, short and http, and whoever fetches one asks the
egress policy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID
from msgspec import Struct, field

from certbroker.domain.chain import issued
from certbroker.domain.crl import CRLFacts
from certbroker.domain.keys import subject_public_key_info
from certbroker.domain.ocsp import OCSPReply

# Of each sort that one certificate may name. Those that are issued name one or two.
_MOST: Final = 4
_LONGEST: Final = 2048


# Who publishes CRLs may be away for so long before that is something for a person: other clients have its last one.
PATIENCE: Final = timedelta(hours=6)


class SourceKind(StrEnum):
    """What is at a URL."""

    CRL = "crl"
    OCSP = "ocsp"
    ISSUER = "issuer"
    """The certificate of an issuer, where a chain ends too early (RFC 5280 section 4.2.2.1)."""


class SourceStatus(StrEnum):
    """How a source is."""

    NEW = "new"
    """It has not been asked yet."""
    FRESH = "fresh"
    """What it has said holds, and it could be asked."""
    FAILING = "failing"
    """What it has said still holds, and it could not be asked since."""
    STALE = "stale"
    """It has said nothing that holds now."""


class HeldList(Struct, frozen=True):
    """A CRL that was taken in: what it says of itself, its index, and how to ask whether it has changed."""

    facts: CRLFacts
    file: str
    url: str
    etag: str = ""
    last_modified: str = ""


class Holding(Struct, frozen=True):
    """What is remembered of a source: what it has said, and how asking it goes.

    `certificate` is an issuer's, in DER. `confirmed` is when the source last gave what holds; `failures` are in a row,
    since `failing_since`, and `told` says that people have been told of them.
    """

    base: HeldList | None = None
    delta: HeldList | None = None
    reply: OCSPReply | None = None
    certificate: bytes | None = None
    confirmed: datetime | None = None
    failures: int = 0
    failing_since: datetime | None = None
    told: bool = False
    problem: str = ""
    delta_problem: str = ""

    @property
    def news(self) -> HeldList | None:
        """The delta, if it is newer than the list that it belongs to (RFC 5280 section 5.2.4)."""
        if self.delta is None or self.base is None:
            return None
        return self.delta if (self.delta.facts.number or 0) > (self.base.facts.number or 0) else None

    @property
    def fresh_until(self) -> datetime | None:
        """When what it has said ceases to hold; None where it has said nothing, or that for good."""
        if self.base is not None:
            return self.base.facts.fresh_until
        return self.reply.fresh_until if self.reply is not None else None


class Source(Struct, frozen=True):
    """A place to ask. `about` is the certificate that signs a CRL or issues what OCSP tells of; for an issuer's
    certificate it is the one whose issuer is looked for. `serial` is set for OCSP. `generation` counts what was stored.
    """

    id: str
    kind: SourceKind
    url: str
    about: bytes
    serial: str = ""
    holding: Holding = field(default=Holding())
    status: SourceStatus = SourceStatus.NEW
    act_at: datetime | None = None
    generation: int = 0


def source(kind: SourceKind, url: str, about: bytes, serial: str = "") -> Source:
    """A source that has not been asked. Its id is made from all of them: certificates of one CA share one list."""
    said = "\0".join((kind, url, _identity(kind, about), serial))
    return Source(hashlib.sha256(said.encode()).hexdigest()[:32], kind, url, about, serial)


class Named(Struct, frozen=True):
    """Sources that the operator names for certificates of an issuer, whose name may hold `*`, instead of their own."""

    issuer: str
    crl: str | None = None
    ocsp: str | None = None


def source_settings(named: Sequence[Named], ocsp: str) -> str:
    """What the operator says about sources, in a form that shows whether it has changed."""
    said = "\n".join([ocsp, *(f"{each.issuer}\0{each.crl or ''}\0{each.ocsp or ''}" for each in named)])
    return hashlib.sha256(said.encode()).hexdigest()


class Element(Struct, frozen=True):
    """One certificate of a chain, with its issuer's where that is known, and the URLs that are named for it.

    `lists` are where CRLs are; `points` are the names that a CRL may have for its distribution point. `unsupported`
    says why a point is left out.
    """

    certificate: x509.Certificate
    der: bytes
    issuer: bytes | None
    is_authority: bool
    lists: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    responders: tuple[str, ...] = ()
    issuers: tuple[str, ...] = ()
    unsupported: str = ""

    @property
    def serial(self) -> str:
        return f"{self.certificate.serial_number:x}"

    @property
    def is_covered(self) -> bool:
        """Whether it names anybody who may tell of it."""
        return bool(self.lists or self.responders)


def elements_of(chain: Sequence[bytes], leaf: bytes, named: Sequence[Named]) -> list[Element]:
    """The end entity's certificate and its issuers, in order, without the root, which nobody can revoke."""
    parsed = {der: x509.load_der_x509_certificate(der) for der in (leaf, *chain)}
    found: list[Element] = []
    der = leaf
    while True:
        certificate = parsed.pop(der)
        if certificate.subject == certificate.issuer:
            break
        issuer = next((other for other, issuing in parsed.items() if issued(issuing, certificate)), None)
        found.append(element_of(der, certificate, issuer, named))
        if issuer is None:
            break
        der = issuer
    return found


def element_of(der: bytes, certificate: x509.Certificate, issuer: bytes | None, named: Sequence[Named] = ()) -> Element:
    """What one certificate names. What is broken in it is left out."""
    points, unsupported = _points(certificate)
    lists = points
    responders, issuers = _access(certificate)
    name = certificate.issuer.rfc4514_string()
    for each in named:
        if fnmatchcase(name, each.issuer):
            lists = (each.crl,) if each.crl else lists
            responders = (each.ocsp,) if each.ocsp else responders
            break
    authority = _is_authority(certificate)
    names = tuple(dict.fromkeys((*points, *lists)))
    return Element(certificate, der, issuer, authority, lists, names, responders, issuers, unsupported)


# All certificates of an issuer ask for the same.
@lru_cache(maxsize=1024)
def _identity(kind: SourceKind, der: bytes) -> str:
    """What a certificate is known by: for an issuer its name and key, which several certificates may share."""
    if kind is SourceKind.ISSUER:
        return hashlib.sha256(der).hexdigest()
    certificate = x509.load_der_x509_certificate(der)
    key = subject_public_key_info(certificate.public_key())
    return hashlib.sha256(certificate.subject.public_bytes() + key).hexdigest()


def _points(certificate: x509.Certificate) -> tuple[tuple[str, ...], str]:
    try:
        value = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return (), ""
    found: list[str] = []
    unsupported = ""
    for point in [*value][:_MOST]:
        urls = _urls([name.value for name in point.full_name or () if _is_url(name)])
        if point.crl_issuer or not urls:
            unsupported = "A distribution point that it names has another issuer, or no http URL, and is left out."
        else:
            found += urls
    return tuple(dict.fromkeys(found))[:_MOST], unsupported


def _access(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The URLs of OCSP responders, and of the issuer's certificate."""
    try:
        value = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return (), ()
    said = [(each.access_method, each.access_location.value) for each in value if _is_url(each.access_location)]
    wanted = (AuthorityInformationAccessOID.OCSP, AuthorityInformationAccessOID.CA_ISSUERS)
    ocsp, issuers = (_urls([url for method, url in said if method == each]) for each in wanted)
    return ocsp, issuers


def _is_url(name: x509.GeneralName) -> bool:
    return isinstance(name, x509.UniformResourceIdentifier)


def _urls(found: list[str]) -> tuple[str, ...]:
    usable = [url for url in found if url.lower().startswith(("http://", "https://")) and len(url) <= _LONGEST]
    return tuple(dict.fromkeys(usable))[:_MOST]


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return False
