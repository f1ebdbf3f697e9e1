"""Nothing is signed that has not been looked at: `lint` turns what is prepared into what `sign` takes.

The certificate is signed by a throw-away key of the same kind as the CA's, and what comes out is checked as a stranger
would: parsed from its bytes. Those very bytes are then what the CA's key signs.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from certbroker.domain.errors import Invalid
from certbroker.domain.keys import SigningKey
from certbroker.domain.signing import scheme_of
from issuers.private_ca.checks import findings
from issuers.private_ca.prepare import Prepared

_BY_LINT_ALONE: Final = object()


class LintRefused(Invalid):
    """The certificate would break a rule, so it is not signed."""


@dataclass(frozen=True, slots=True)
class Linted:
    """What may be signed: the bytes to sign, the algorithm in DER, and whose key it is that signs.

    Only `lint` makes one. The mark is not kept, so that no altered copy can be made of one either.
    """

    tbs: bytes = field(repr=False)
    algorithm: bytes = field(repr=False)
    prepared: Prepared
    mark: InitVar[object]

    def __post_init__(self, mark: object) -> None:
        if mark is not _BY_LINT_ALONE:
            raise TypeError("What is to be signed comes from lint().")


def lint(prepared: Prepared) -> Linted:
    """Look at the certificate. Raises LintRefused, naming the rules that it breaks."""
    try:
        key = _throw_away(_kind(prepared.key))
        whole = prepared.builder.sign(key, scheme_of(prepared.key).digest).public_bytes(Encoding.DER)
        # From the bytes, because it is them that others will read.
        draft = x509.load_der_x509_certificate(whole)
        found = findings(draft, prepared)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise LintRefused(f"The certificate cannot be expressed in X.509: {error}") from None
    if found:
        raise LintRefused("The CA does not sign this: " + "; ".join(found[:5]) + ".")
    tbs = draft.tbs_certificate_bytes
    return Linted(tbs, _algorithm(whole, tbs), prepared, _BY_LINT_ALONE)


def _kind(key: SigningKey) -> str:
    """What the algorithm of a signature depends on."""
    match key:
        case rsa.RSAPrivateKey():
            return "RSA"
        case ec.EllipticCurvePrivateKey():
            return key.curve.name
        case ed25519.Ed25519PrivateKey():
            return "Ed25519"
        case mldsa.MLDSA44PrivateKey():
            return "ML-DSA-44"
        case mldsa.MLDSA65PrivateKey():
            return "ML-DSA-65"
        case _:
            return "ML-DSA-87"


@lru_cache(maxsize=16)
def _throw_away(kind: str) -> SigningKey:
    """A key that nobody trusts. One of each kind serves for all drafts: it is never used for anything else."""
    match kind:
        case "RSA":
            return rsa.generate_private_key(65537, 2048)
        case "secp384r1":
            return ec.generate_private_key(ec.SECP384R1())
        case "secp521r1":
            return ec.generate_private_key(ec.SECP521R1())
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ML-DSA-44":
            return mldsa.MLDSA44PrivateKey.generate()
        case "ML-DSA-65":
            return mldsa.MLDSA65PrivateKey.generate()
        case "ML-DSA-87":
            return mldsa.MLDSA87PrivateKey.generate()
        case _:
            return ec.generate_private_key(ec.SECP256R1())


def _algorithm(whole: bytes, tbs: bytes) -> bytes:
    """The AlgorithmIdentifier between the two other parts of a Certificate (RFC 5280 section 4.1)."""
    start = whole.index(tbs) + len(tbs)
    # A SEQUENCE of less than 128 bytes, whatever the algorithm.
    return whole[start : start + 2 + whole[start + 1]]
