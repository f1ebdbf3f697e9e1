"""Nothing is signed that has not been looked at: `lint` turns what is prepared into what `sign` takes.

The certificate is checked as a stranger would check it: parsed from its bytes, with nothing where the signature will
be. Those very bytes are then what the CA's key signs.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import Final

from cryptography import x509

from certbroker.domain import der
from certbroker.domain.errors import Invalid
from certbroker.domain.signing import scheme_of
from issuers.private_ca.checks import findings
from issuers.private_ca.prepare import Prepared

_BY_LINT_ALONE: Final = object()
_NO_SIGNATURE: Final = der.bit_string(b"")


class LintRefused(Invalid):
    """The certificate would break a rule, so it is not signed."""


@dataclass(frozen=True, slots=True)
class Linted:
    """What may be signed: the bytes to sign, and whose key it is that signs.

    Only `lint` makes one. The mark is not kept, so that no altered copy can be made of one either.
    """

    tbs: bytes = field(repr=False)
    prepared: Prepared
    mark: InitVar[object]

    def __post_init__(self, mark: object) -> None:
        if mark is not _BY_LINT_ALONE:
            raise TypeError("What is to be signed comes from lint().")


def lint(prepared: Prepared) -> Linted:
    """Look at the certificate. Raises LintRefused, naming the rules that it breaks."""
    algorithm = scheme_of(prepared.key).algorithm
    try:
        # From the bytes, because it is them that others will read.
        draft = x509.load_der_x509_certificate(der.sequence(prepared.tbs, algorithm, _NO_SIGNATURE))
        found = findings(draft, prepared)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise LintRefused(f"The certificate cannot be expressed in X.509: {error}") from None
    if found:
        raise LintRefused("The CA does not sign this: " + "; ".join(found[:5]) + ".")
    return Linted(draft.tbs_certificate_bytes, prepared, _BY_LINT_ALONE)
