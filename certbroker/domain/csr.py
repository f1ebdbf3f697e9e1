"""Certificate requests, and the extensions that a policy asks for."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

from cryptography import x509
from msgspec.structs import replace

from certbroker.domain import der
from certbroker.domain.errors import Invalid
from certbroker.domain.keys import KEY_USAGES, PrivateKey, subject_public_key_info
from certbroker.domain.policy import (
    CertificatePolicy,
    SubjectAlternativeNames,
    common_name,
    is_address,
    is_dns_name,
    parse_oid,
    parse_subject,
)
from certbroker.domain.signing import signed

_VERSION_1: Final = der.unsigned(0)
_EXTENSION_REQUEST: Final = der.object_identifier("1.2.840.113549.1.9.14")

# Microsoft's user principal name, an otherName with a UTF8String.
UPN: Final = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


def build_csr(policy: CertificatePolicy, key: PrivateKey) -> bytes:
    """The PKCS#10 request (RFC 2986) in DER for a certificate as the policy wants it, signed with `key`."""
    public = subject_public_key_info(key.public_key())
    attribute = der.sequence(_EXTENSION_REQUEST, der.set_of_one(der.sequence(*extensions(policy))))
    body = der.sequence(_VERSION_1, encoded_subject(policy.subject), public, der.tagged(0, attribute))
    return signed(body, key)


def check_expressible(policy: CertificatePolicy) -> None:
    """Raise Invalid where the policy asks for something that X.509 has no form for."""
    try:
        encoded_subject(policy.subject)
        extensions(policy)
    except ValueError:
        raise Invalid("x509_props has a name that a certificate cannot hold.") from None


def extensions(policy: CertificatePolicy) -> tuple[bytes, ...]:
    """The extensions of RFC 5280 section 4.2.1 that the policy describes, in DER.

    A policy is checked, put into a CSR and often into a certificate, within milliseconds.
    """
    return (*_of_use(policy.key_usage, policy.ekus), *_of_names(policy.subject, policy.sans))


def encoded_extension(value: x509.ExtensionType, *, critical: bool = False) -> bytes:
    """An extension in DER."""
    identifier = der.object_identifier(value.oid.dotted_string)
    return der.sequence(identifier, der.TRUE if critical else b"", der.octet_string(value.public_bytes()))


@lru_cache(maxsize=1024)
def encoded_subject(subject: str) -> bytes:
    """The distinguished name of a policy in DER. Raises Invalid."""
    return parse_subject(subject).public_bytes()


@lru_cache(maxsize=64)
def _of_use(key_usage: tuple[str, ...], ekus: tuple[str, ...]) -> tuple[bytes, ...]:
    found = [encoded_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)]
    if key_usage:
        found.append(encoded_extension(_key_usage(key_usage), critical=True))
    if ekus:
        found.append(encoded_extension(x509.ExtendedKeyUsage([parse_oid(oid) for oid in ekus]), critical=False))
    return tuple(found)


@lru_cache(maxsize=1024)
def _of_names(subject: str, sans: SubjectAlternativeNames) -> tuple[bytes, ...]:
    return subject_alternative_names(_names(subject, sans), has_subject=bool(subject))


def subject_alternative_names(sans: SubjectAlternativeNames, *, has_subject: bool) -> tuple[bytes, ...]:
    """The extension with these names in DER; nothing where there are none. Raises Invalid and ValueError."""
    names = general_names(sans)
    if not names:
        return ()
    # RFC 5280 section 4.2.1.6: without a subject the names are all there is, so nobody may skip them.
    return (encoded_extension(x509.SubjectAlternativeName(names), critical=not has_subject),)


def names_for(policy: CertificatePolicy) -> SubjectAlternativeNames:
    """The names to ask for: those of the policy, and its common name where that is a host.

    RFC 9525 section 2: nobody looks for a host in the common name any more; and an ACME server wants every name that is
    ordered in the CSR.
    """
    return _names(policy.subject, policy.sans)


def _names(subject: str, sans: SubjectAlternativeNames) -> SubjectAlternativeNames:
    name = common_name(subject)
    if name is None or name in sans.dns_names or name in sans.ip_addresses:
        return sans
    if is_address(name):
        return replace(sans, ip_addresses=(name, *sans.ip_addresses))
    if "." in name and is_dns_name(name):
        return replace(sans, dns_names=(name, *sans.dns_names))
    return sans


def general_names(sans: SubjectAlternativeNames) -> list[x509.GeneralName]:
    """The names in the form X.509 has for them."""
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in sans.dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in sans.ip_addresses]
    names += [_email(email) for email in sans.emails]
    names += [x509.UniformResourceIdentifier(uri) for uri in sans.uris]
    names += [x509.OtherName(UPN, _utf8_string(upn)) for upn in sans.upns]
    return names


def names_of(certificate: x509.Certificate) -> SubjectAlternativeNames:
    """The subject alternative names of a certificate that a policy can express."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return SubjectAlternativeNames()
    return SubjectAlternativeNames(
        dns_names=tuple(names.get_values_for_type(x509.DNSName)),
        emails=tuple(names.get_values_for_type(x509.RFC822Name)),
        upns=tuple(
            other.value[2:].decode("utf-8", "replace")
            for other in names.get_values_for_type(x509.OtherName)
            if other.type_id == UPN and len(other.value) < 130
        ),
        uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        ip_addresses=tuple(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    )


def _email(address: str) -> x509.RFC822Name:
    try:
        return x509.RFC822Name(address)
    except ValueError:
        raise Invalid(f"sans.emails has {address[:64]!r}, which is not an e-mail address.") from None


def _key_usage(usages: tuple[str, ...]) -> x509.KeyUsage:
    try:
        return x509.KeyUsage(*(usage in usages for usage in KEY_USAGES))
    except ValueError:
        raise Invalid("x509_props.key_usage: encipherOnly and decipherOnly need keyAgreement beside them.") from None


def _utf8_string(text: str) -> bytes:
    body = text.encode()
    if len(body) > 127:
        raise Invalid("sans.upns has a value longer than 127 bytes.")
    return bytes((0x0C, len(body))) + body
