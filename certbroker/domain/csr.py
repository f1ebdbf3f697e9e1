"""Certificate requests, and the extensions that a policy asks for."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certbroker.domain.errors import Invalid
from certbroker.domain.keys import KEY_USAGES, PrivateKey, PublicKey
from certbroker.domain.policy import (
    CertificatePolicy,
    SubjectAlternativeNames,
    common_name,
    is_address,
    is_dns_name,
    parse_oid,
    parse_subject,
)

# Microsoft's user principal name, an otherName with a UTF8String.
UPN: Final = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


def build_csr(policy: CertificatePolicy, key: PrivateKey) -> bytes:
    """The PKCS#10 request (RFC 2986) in DER for a certificate as the policy wants it, signed with `key`."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(parse_subject(policy.subject))
    for extension, critical in extensions(policy):
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hash_for(key.public_key())).public_bytes(Encoding.DER)


def check_expressible(policy: CertificatePolicy) -> None:
    """Raise Invalid where the policy asks for something that X.509 has no form for."""
    try:
        parse_subject(policy.subject).public_bytes()
        extensions(policy)
    except ValueError:
        raise Invalid("x509_props has a name that a certificate cannot hold.") from None


def hash_for(key: PublicKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
    """The hash that fits the strength of the key (FIPS 186-5 section 6.1.1 for ECDSA)."""
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size > 256:
        return hashes.SHA384() if key.key_size == 384 else hashes.SHA512()
    return hashes.SHA256()


def extensions(policy: CertificatePolicy) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    """The extensions of RFC 5280 section 4.2.1 that the policy describes, each with whether it is critical."""
    return _extensions(policy.key_usage, policy.ekus, names_for(policy), bool(policy.subject))


# A policy is checked, put into a CSR and often into a certificate, within milliseconds.
@lru_cache(maxsize=1024)
def _extensions(
    key_usage: tuple[str, ...], ekus: tuple[str, ...], sans: SubjectAlternativeNames, has_subject: bool
) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    found: list[tuple[x509.ExtensionType, bool]] = [(x509.BasicConstraints(ca=False, path_length=None), True)]
    if key_usage:
        found.append((_key_usage(key_usage), True))
    if ekus:
        found.append((x509.ExtendedKeyUsage([parse_oid(oid) for oid in ekus]), False))
    names = general_names(sans)
    if names:
        # RFC 5280 section 4.2.1.6: without a subject the names are all there is, so nobody may skip them.
        found.append((x509.SubjectAlternativeName(names), not has_subject))
    return tuple(found)


def names_for(policy: CertificatePolicy) -> SubjectAlternativeNames:
    """The names to ask for: those of the policy, and its common name where that is a host.

    RFC 9525 section 2: nobody looks for a host in the common name any more; and an ACME server wants every name that is
    ordered in the CSR.
    """
    name = common_name(policy.subject)
    if name is None or name in policy.sans.dns_names or name in policy.sans.ip_addresses:
        return policy.sans
    if is_address(name):
        return replace(policy.sans, ip_addresses=(name, *policy.sans.ip_addresses))
    if "." in name and is_dns_name(name):
        return replace(policy.sans, dns_names=(name, *policy.sans.dns_names))
    return policy.sans


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
