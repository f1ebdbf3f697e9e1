"""The certificates that an order brought: downloaded, chosen among alternates, checked (RFC 8555 section 7.4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from certbroker.domain import pem
from certbroker.domain.keys import PublicKey, same_public_key
from certbroker.ports.issuer import IssuerUnavailable
from issuers.acme.account import Account
from issuers.acme.messages import Identifier
from issuers.acme.problem import CARefused, Nonsense
from issuers.acme.transport import Answer

MEDIA_TYPE: Final = "application/pem-certificate-chain"
_MAX_CERTIFICATES: Final = 10
_MAX_ALTERNATES: Final = 8


def download(account: Account, url: str, preferred: str | None) -> tuple[x509.Certificate, ...]:
    """The chain at `url`, or an alternate that has the `preferred` issuer where the one at `url` has not.

    An alternate that cannot be had is passed over: the certificate matters more than the taste in chains. Raises
    IssuerUnavailable, CARefused.
    """
    answer = account.fetch(url, MEDIA_TYPE)
    chain = read_chain(answer)
    if preferred is None or issued_under(chain, preferred):
        return chain
    for alternate in answer.links("alternate")[:_MAX_ALTERNATES]:
        try:
            other = read_chain(account.fetch(alternate, MEDIA_TYPE))
        except (CARefused, IssuerUnavailable):
            continue
        if other[0] == chain[0] and issued_under(other, preferred):
            return other
    return chain


def read_chain(answer: Answer) -> tuple[x509.Certificate, ...]:
    """The certificates in an answer, in their order. Raises IssuerUnavailable when it has none (section 9.1)."""
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != MEDIA_TYPE:
        raise Nonsense(f"the certificate came as {media_type or 'no media type'} instead of {MEDIA_TYPE}")
    found = (block.text for block in pem.blocks(answer.body) if block.label == pem.CERTIFICATE)
    try:
        chain = tuple(x509.load_pem_x509_certificate(text) for text in islice(found, _MAX_CERTIFICATES + 1))
    except ValueError:
        raise Nonsense("a certificate of the chain is malformed") from None
    if not chain:
        raise Nonsense("the chain has no certificates")
    if len(chain) > _MAX_CERTIFICATES:
        raise Nonsense(f"the chain has more than {_MAX_CERTIFICATES} certificates")
    return chain


def issued_under(chain: Sequence[x509.Certificate], name: str) -> bool:
    """Whether an issuer in the chain, up to the root that is not in it, has this common name."""
    return any(
        attribute.value == name
        for certificate in chain
        for attribute in certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    )


def has_key(certificate: x509.Certificate, key: PublicKey) -> bool:
    """Whether the certificate is for this key."""
    try:
        return same_public_key(key, certificate.public_key())
    except ValueError:
        return False  # A key of a kind that cannot be ours.


def names_of(certificate: x509.Certificate) -> set[Identifier]:
    """The DNS names and addresses that the certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return set()
    dns = {Identifier("dns", name.lower()) for name in names.get_values_for_type(x509.DNSName)}
    return dns | {Identifier("ip", str(address)) for address in names.get_values_for_type(x509.IPAddress)}


def missing_names(certificate: x509.Certificate, wanted: Sequence[Identifier]) -> list[str]:
    """Those of the wanted names that the certificate does not have as subject alternative names."""
    names = names_of(certificate)
    return [identifier.value for identifier in wanted if identifier not in names]


def der(chain: Sequence[x509.Certificate]) -> tuple[bytes, ...]:
    """The chain as the issuer port has it."""
    return tuple(certificate.public_bytes(serialization.Encoding.DER) for certificate in chain)
