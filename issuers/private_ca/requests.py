"""Certificate requests from outside (RFC 2986): of what they hold the key and the names are taken, and nothing else.

A request is hostile input: it says who made it, and nothing about what he may have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from certbroker.domain.csr import UPN
from certbroker.domain.errors import Invalid, TooLarge
from certbroker.domain.keys import VerifyingKey
from certbroker.domain.policy import SubjectAlternativeNames
from issuers.private_ca.prepare import verifying_key
from issuers.private_ca.profiles import check_key

# A hundred names of the greatest length and an ML-DSA-87 key with its signature need less.
MAX_BYTES: Final = 48 * 1024

_BEGIN: Final = b"-----BEGIN"


@dataclass(frozen=True, slots=True)
class OutsideRequest:
    """A request whose signature holds. `ignored` are the other extensions that it asks for, by object identifier."""

    key: VerifyingKey
    sans: SubjectAlternativeNames
    ignored: tuple[str, ...]


def read_request(data: bytes) -> OutsideRequest:
    """The request in PEM or DER. Raises Invalid, saying what is wrong with it, and TooLarge."""
    if len(data) > MAX_BYTES:
        raise TooLarge(f"The request has {len(data)} bytes; one of at most {MAX_BYTES} is looked at.")
    try:
        csr = x509.load_pem_x509_csr(data) if _BEGIN in data else x509.load_der_x509_csr(data)
        key = verifying_key(csr.public_key())
        # First, because what it takes to check a signature depends on the key, which is the sender's.
        check_key(key)
        if not csr.is_signature_valid:
            raise Invalid("The signature of the request does not fit its key: make the request anew.")
        extensions = list(csr.extensions)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise Invalid(f"The request cannot be read: it is no PKCS#10 in PEM or DER, or is malformed. {error}") from None
    sans, ignored = SubjectAlternativeNames(), []
    for extension in extensions:
        match extension.value:
            case x509.SubjectAlternativeName():
                sans = _names(extension.value)
            case x509.BasicConstraints(ca=True):
                raise Invalid(
                    "The request asks for the certificate of a CA. CAs are made here with `certbroker ca create "
                    "--parent`; nobody becomes one by a request."
                )
            case x509.KeyUsage() if extension.value.key_cert_sign or extension.value.crl_sign:
                raise Invalid("The request asks for a key that signs certificates or CRLs, which only CAs have.")
            case _:
                ignored.append(extension.oid.dotted_string)
    sans.check()
    return OutsideRequest(key, sans, tuple(ignored))


def _names(extension: x509.SubjectAlternativeName) -> SubjectAlternativeNames:
    dns: list[str] = []
    addresses: list[str] = []
    emails: list[str] = []
    upns: list[str] = []
    uris: list[str] = []
    for name in extension:
        match name:
            case x509.DNSName():
                dns.append(name.value)
            case x509.IPAddress():
                addresses.append(str(name.value))
            case x509.RFC822Name():
                emails.append(name.value)
            case x509.UniformResourceIdentifier():
                uris.append(name.value)
            case x509.OtherName() if name.type_id == UPN and name.value[:1] == b"\x0c" and len(name.value) < 130:
                upns.append(name.value[2:].decode("utf-8", "replace"))
            case _:
                raise Invalid(
                    "The request has a name of a kind that is not certified here: DNS names, addresses, e-mail "
                    "addresses, URIs and user principal names are."
                )
    # A name that is there twice would be twice in the certificate.
    return SubjectAlternativeNames(*(tuple(dict.fromkeys(each)) for each in (dns, emails, upns, uris, addresses)))
