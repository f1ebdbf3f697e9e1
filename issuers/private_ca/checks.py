"""What a certificate of a private CA has to be: RFC 5280, the CA's own limits, and the profile.

Each check looks at a draft that was parsed from its bytes, and yields what is wrong with it. None of them trusts the
code that put the draft together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID
from msgspec import Struct

from certbroker.domain import der
from certbroker.domain.errors import Invalid
from certbroker.domain.policy import is_dns_name
from certbroker.domain.signing import scheme_of
from certbroker.ports.authority import Signer
from issuers.private_ca.constraints import constraints_of, shown, violation
from issuers.private_ca.prepare import Prepared, identifier_of, verifying_key
from issuers.private_ca.profiles import check_key

T = TypeVar("T", bound=x509.ExtensionType)

# What the largest sensible certificate needs, with room: a hundred names of the greatest length, and an ML-DSA-87 key.
_MAX_BYTES: Final = 48 * 1024

# RFC 5280 section 4.1.2.2, and the 64 bits of a random number that the CA/Browser Forum wants at least.
_MAX_SERIAL: Final = 1 << 159
_MIN_SERIAL_BITS: Final = 64

# The fields of a TBSCertificate (RFC 5280 section 4.1): version, serial number, signature, issuer, validity, subject,
# subject's key, extensions.
_FIELDS: Final = 8
_ALGORITHM, _ISSUER, _SUBJECT = 2, 3, 5
_NOBODY: Final = der.sequence()

_CRITICAL: Final = {
    ExtensionOID.BASIC_CONSTRAINTS: True,
    ExtensionOID.KEY_USAGE: True,
    ExtensionOID.NAME_CONSTRAINTS: True,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS: False,
    ExtensionOID.CRL_DISTRIBUTION_POINTS: False,
}


class _Draft(Struct, frozen=True):
    """A draft that is taken apart once for all checks. `fields` are those of the TBSCertificate, in DER."""

    certificate: x509.Certificate
    fields: list[bytes]
    extensions: Mapping[x509.ObjectIdentifier, x509.Extension[Any]]
    names: tuple[x509.GeneralName, ...]
    key: object

    def extension(self, kind: type[T]) -> x509.Extension[T]:
        """The extension of that kind. Raises ValueError where there is none."""
        found: x509.Extension[T] | None = self.extensions.get(kind.oid)
        if found is None:
            raise ValueError(f"it lacks the extension {kind.oid.dotted_string}")
        return found


def findings(certificate: x509.Certificate, prepared: Prepared) -> list[str]:
    """All that is wrong with a draft; nothing where it may be signed. Raises ValueError where it lacks a part."""
    extensions = {each.oid: each for each in certificate.extensions}
    san = extensions.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    names = () if san is None else tuple(san.value)
    fields = der.elements(certificate.tbs_certificate_bytes)
    draft = _Draft(certificate, fields, extensions, names, certificate.public_key())
    return [finding for check in _CHECKS for finding in check(draft, prepared)]


def _frame(draft: _Draft, prepared: Prepared) -> Iterator[str]:
    certificate = draft.certificate
    if len(certificate.tbs_certificate_bytes) > _MAX_BYTES:
        yield f"it has more than {_MAX_BYTES} bytes"
    if certificate.version is not x509.Version.v3 or len(draft.fields) != _FIELDS:
        yield "it is not of version 3, or has unique identifiers"
    # RFC 5280 section 4.1.2.3: what is signed says the same as what stands beside the signature.
    if draft.fields[_ALGORITHM] != scheme_of(prepared.key).algorithm:
        yield "it names another algorithm than the one that the CA's key signs with"
    serial = certificate.serial_number
    if not 0 < serial < _MAX_SERIAL or serial.bit_length() < _MIN_SERIAL_BITS or serial != prepared.serial:
        yield "its serial number is not a positive random number of at most 20 octets"


def _validity(draft: _Draft, prepared: Prepared) -> Iterator[str]:
    start, end = draft.certificate.not_valid_before_utc, draft.certificate.not_valid_after_utc
    if start >= end:
        yield "it would never be valid"
    signer, profile = prepared.signer, prepared.profile
    issuer = None if signer is None else signer.certificate
    if issuer is not None and not issuer.not_valid_before_utc <= start < end <= issuer.not_valid_after_utc:
        yield "it would be valid while its issuer is not"
    if profile is not None and end - start > timedelta(days=profile.max_days):
        yield f"it would be valid for more than {profile.max_days} days"


def _key(draft: _Draft, prepared: Prepared) -> Iterator[str]:
    try:
        key = verifying_key(draft.key)
        check_key(key)
    except Invalid as refusal:
        yield refusal.message.rstrip(".")
        return
    if prepared.signer is not None and prepared.profile is not None and key == _own_key(prepared.signer):
        yield "its key is the CA's own"


def _names(draft: _Draft, prepared: Prepared) -> Iterator[str]:
    """The issuer as it calls itself, a subject or names, and the names well formed, each once."""
    if prepared.signer is not None:
        if draft.fields[_ISSUER] != _name_of(prepared.signer):
            yield "its issuer is not written as in the CA's certificate"
    elif draft.fields[_ISSUER] != draft.fields[_SUBJECT]:
        yield "a root is its own issuer"
    names, has_subject = draft.names, draft.fields[_SUBJECT] != _NOBODY
    if not has_subject and (not names or prepared.profile is None):
        yield "it names nobody"
    if names and draft.extension(x509.SubjectAlternativeName).critical is has_subject:
        yield "its names are critical where there is a subject too, or are not where there is none"
    if len(names) > 1 and len(set(map(shown, names))) != len(names):
        yield "it has the same name twice"
    for name in names:
        if isinstance(name, x509.DNSName) and not is_dns_name(name.value):
            yield f"{shown(name)} is no DNS name"
        if isinstance(name, x509.RFC822Name | x509.UniformResourceIdentifier) and not name.value.isascii():
            yield f"{shown(name)} is not ASCII"


def _constraints(draft: _Draft, prepared: Prepared) -> Iterator[str]:
    """RFC 5280 section 4.2.1.10: all CAs on the path have a say."""
    if prepared.signer is None:
        return
    limits = _limits(prepared.signer)
    if not limits:
        return
    names = list(draft.names)
    subject = draft.certificate.subject
    if subject.rdns:
        names.append(x509.DirectoryName(subject))
    names += [
        x509.RFC822Name(str(attribute.value)) for attribute in subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
    ]
    for constraints in limits:
        wrong = violation(names, constraints)
        if wrong:
            yield f"{wrong} by the name constraints of the CA"


def _extensions(draft: _Draft, prepared: Prepared) -> Iterator[str]:
    """Each critical or not as it has to be, and the key identifiers in their places."""
    for extension in draft.extensions.values():
        wanted = _CRITICAL.get(extension.oid)
        if wanted is not None and extension.critical is not wanted:
            yield f"{extension.oid.dotted_string} is {'not ' if wanted else ''}critical"
        if isinstance(extension.value, x509.UnrecognizedExtension):
            yield f"it has an extension that nobody asked for, {extension.oid.dotted_string}"
    draft.extension(x509.SubjectKeyIdentifier)
    if prepared.signer is not None:
        identifier = draft.extension(x509.AuthorityKeyIdentifier).value.key_identifier
        if identifier != _identifier_of(prepared.signer):
            yield "its authority key identifier is not that of the CA"


def _usages(draft: _Draft, prepared: Prepared) -> Iterator[str]:
    """An end entity has the profile's purposes and signs no certificates; a CA does."""
    basic = draft.extension(x509.BasicConstraints).value
    usage = draft.extension(x509.KeyUsage).value
    profile = prepared.profile
    if profile is None:
        if not basic.ca or not usage.key_cert_sign or not usage.crl_sign:
            yield "a CA's certificate has to say that it is one"
        return
    if basic.ca or usage.key_cert_sign or usage.crl_sign:
        yield "an end entity cannot be a CA"
    if usage != profile.key_usage(verifying_key(draft.key)):
        yield f"its key usage is not that of the profile {profile.name}"
    has_purposes = x509.ExtendedKeyUsage.oid in draft.extensions
    purposes = tuple(draft.extension(x509.ExtendedKeyUsage).value) if has_purposes else ()
    if purposes != profile.ekus:
        yield f"its purposes are not those of the profile {profile.name}"


def _issuer(draft: _Draft, prepared: Prepared) -> Iterator[str]:
    """The CA may sign certificates, and CAs no deeper than it says itself (RFC 5280 section 4.2.1.9)."""
    signer = prepared.signer
    if signer is None:
        return
    if not is_ca(signer.certificate):
        yield "the CA's own certificate does not allow it to sign certificates"
    depth = room_below(signer)
    if prepared.profile is None and depth is not None:
        length = draft.extension(x509.BasicConstraints).value.path_length
        if depth < 1:
            yield "the CA may have no other CA below it (path length 0)"
        elif length is None or length > depth - 1:
            yield f"a CA below this one has a path length of at most {depth - 1}"


_CHECKS: Final[tuple[Callable[[_Draft, Prepared], Iterator[str]], ...]] = (
    _frame,
    _validity,
    _key,
    _names,
    _constraints,
    _extensions,
    _usages,
    _issuer,
)


@lru_cache(maxsize=64)
def _limits(signer: Signer) -> tuple[x509.NameConstraints, ...]:
    return tuple(found for certificate in signer.path if (found := constraints_of(certificate)) is not None)


@lru_cache(maxsize=64)
def _own_key(signer: Signer) -> object:
    return signer.certificate.public_key()


@lru_cache(maxsize=64)
def _name_of(signer: Signer) -> bytes:
    return signer.certificate.subject.public_bytes()


@lru_cache(maxsize=64)
def _identifier_of(signer: Signer) -> bytes:
    return identifier_of(signer.certificate).digest


@lru_cache(maxsize=64)
def is_ca(certificate: x509.Certificate) -> bool:
    """Whether a certificate allows its key to sign certificates. One without a key usage, as old roots are, does."""
    try:
        if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
    except x509.ExtensionNotFound:
        return False
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


@lru_cache(maxsize=64)
def room_below(signer: Signer) -> int | None:
    """How many CAs may still come below this one, by its own certificate and those above it; None is any number."""
    rooms = []
    for above, certificate in enumerate(signer.path):
        length = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if length is not None:
            rooms.append(length - above)
    return max(0, min(rooms)) if rooms else None
