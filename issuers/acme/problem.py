"""What a CA says went wrong (RFC 7807, RFC 8555 section 6.7), and what it means for a request.

Texts from a CA are shown to people, so they are cut short and stripped of control characters; nothing is decided by
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeGuard

from certbroker.domain.one_line import one_line
from certbroker.domain.operation import Problem
from certbroker.ports.issuer import IssuerUnavailable

PREFIX: Final = "urn:ietf:params:acme:error:"

_MAX_DETAIL: Final = 600
_MAX_SUBPROBLEMS: Final = 100
_SHOWN_SUBPROBLEMS: Final = 10


@dataclass(frozen=True, slots=True)
class ProblemDocument:
    """One problem, with those it is made of. `kind` is the ACME type without its prefix, or the whole foreign type."""

    kind: str
    detail: str
    identifier: str | None = None
    subproblems: tuple[ProblemDocument, ...] = ()
    instance: str | None = None
    """A page for the person who has to act (RFC 8555 section 7.3.3)."""

    def text(self) -> str:
        """For people: the detail, then one line for each subproblem."""
        own = f"{self.identifier}: {self.detail}" if self.identifier else self.detail
        kind = f"{self.kind}, see {self.instance}" if self.instance else self.kind
        shown = [problem.text() for problem in self.subproblems[:_SHOWN_SUBPROBLEMS]]
        hidden = len(self.subproblems) - len(shown)
        return "; ".join([f"{own} ({kind})", *shown, *([f"and {hidden} more"] if hidden else [])])


def read_problem(value: object, depth: int = 0) -> ProblemDocument | None:
    """The problem in a parsed JSON value, or None when there is none."""
    if not isinstance(value, Mapping):
        return None
    kind, detail = value.get("type"), value.get("detail") or value.get("title")
    if not isinstance(kind, str) and not isinstance(detail, str):
        return None
    nested = value.get("subproblems")
    found = [read_problem(item, depth + 1) for item in nested[:_MAX_SUBPROBLEMS]] if _nests(nested, depth) else []
    identifier = value.get("identifier")
    name = identifier.get("value") if isinstance(identifier, Mapping) else None
    instance = str(value.get("instance"))
    return ProblemDocument(
        kind=printable(kind).removeprefix(PREFIX)[:80] if isinstance(kind, str) else "about:blank",
        detail=printable(detail) if isinstance(detail, str) else "no detail was given",
        identifier=printable(name)[:255] if isinstance(name, str) else None,
        subproblems=tuple(problem for problem in found if problem is not None),
        instance=printable(instance) if instance.startswith("https://") else None,
    )


def _nests(value: Any, depth: int) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and depth < 2


def printable(text: str) -> str:
    """The text on one line, without control characters, of bounded length."""
    return one_line(text, _MAX_DETAIL)


class CARefused(Exception):
    """The CA answered a request with an error."""

    def __init__(self, status: int, problem: ProblemDocument, url: str, retry_at: datetime | None) -> None:
        super().__init__(f"{url} answered {status}: {problem.text()}")
        self.status = status
        self.problem = problem
        self.url = url
        self.retry_at = retry_at

    @property
    def kind(self) -> str:
        return self.problem.kind

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later; also when something before the CA has answered."""
        return self.kind in _TRANSIENT or self.status in (408, 429) or self.status >= 500

    def unavailable(self) -> IssuerUnavailable:
        """The exception for the engine, which then asks again at `retry_at` or after a wait of its own."""
        limited = self.kind == "rateLimited" or self.status == 429
        said = "limits our requests" if limited else "cannot serve the request now"
        return IssuerUnavailable(
            Problem(
                "RateLimited" if limited else "IssuerUnavailable",
                f"The CA {said}: {self.problem.text()}",
                f"{self.kind}, HTTP {self.status}",
            ),
            self.retry_at,
        )

    def refusal(self) -> Problem:
        """The problem of a request that the CA will not serve."""
        return refusal_of(self.problem)


class Nonsense(IssuerUnavailable):
    """The CA's answer is not ACME: wrong media type, too large, malformed, or leading elsewhere."""

    def __init__(self, message: str) -> None:
        super().__init__(Problem("IssuerAnswerInvalid", f"The CA's answer makes no sense: {message}"))


_TRANSIENT: Final = frozenset({"rateLimited", "serverInternal", "badNonce", "about:blank"})


def is_transient(problem: ProblemDocument) -> bool:
    """Whether an order that failed for this reason may succeed when it is made again."""
    return problem.kind in _TRANSIENT


# What the person who configured the certificate or the issuer can do about it.
_ADVICE: Final = {
    "badCSR": "Choose another key type or size, or other names, in the certificate's policy.",
    "badPublicKey": "Choose another account_key in the issuer's options.",
    "badSignatureAlgorithm": "Choose another account_key in the issuer's options.",
    "caa": "Allow this CA in the CAA records of the name, or remove them.",
    "connection": "Make port 80 of the name reachable from the Internet and lead it to certbroker's http-01 listener.",
    "dns": "Correct the DNS records of the name, so that the CA can resolve it.",
    "dnssec": "Repair the DNSSEC signatures of the zone.",
    "externalAccountRequired": (
        "Put the key identifier and the MAC key that the CA gave you into the issuer's account_id and password."
    ),
    "incorrectResponse": "Lead /.well-known/acme-challenge/ of the name to certbroker's http-01 listener.",
    "invalidContact": "Correct the mail addresses of the issuer's administrators.",
    "invalidProfile": "Choose a profile that the CA offers in the issuer's options.",
    "rejectedIdentifier": "Remove the name from the certificate's policy, or use another CA.",
    "tls": "Correct the TLS configuration of the server that the name leads to.",
    "unauthorized": "Check that the name leads to this certbroker, and that the CA's account may order it.",
    "unknownHost": "Create DNS records for the name.",
    "unsupportedContact": "Use mail addresses for the issuer's administrators.",
    "unsupportedIdentifier": "Remove the name from the certificate's policy, or use another CA.",
    "userActionRequired": "Follow the CA's instructions, for example agree to its new terms of service.",
}


def refusal_of(problem: ProblemDocument) -> Problem:
    """The problem with the CA's own words and what to do about it."""
    kinds = [problem.kind, *(nested.kind for nested in problem.subproblems)]
    advice = " ".join(dict.fromkeys(_ADVICE[kind] for kind in kinds if kind in _ADVICE))
    advice = advice or "Correct the cause and create the certificate again."
    return Problem("IssuerRefused", f"The CA refused: {problem.text()} {advice}", problem.kind)
