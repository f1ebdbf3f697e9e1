"""The one table that turns refusals into HTTP."""

from __future__ import annotations

from typing import Any, Final

from certbroker.domain import errors
from certbroker.services.identity.tokens import BadCredentials
from certbroker.web.http import CLOSE, Response

# The first class that fits decides: status, code, inner code.
_TABLE: Final[tuple[tuple[type[errors.BrokerError], int, str, str | None], ...]] = (
    (errors.TooLarge, 413, "RequestEntityTooLarge", None),
    (errors.TooSlow, 408, "RequestTimeout", None),
    (errors.Invalid, 400, "BadParameter", None),
    (BadCredentials, 401, "invalid_client", None),
    (errors.Unauthenticated, 401, "Unauthorized", None),
    (errors.AccessDenied, 403, "Forbidden", "ForbiddenByRbac"),
    (errors.Disabled, 403, "Forbidden", "{kind}Disabled"),
    (errors.NotFound, 404, "{kind}NotFound", None),
    (errors.DeletedButRecoverable, 409, "Conflict", "ObjectIsDeletedButRecoverable"),
    (errors.OperationInProgress, 409, "Forbidden", None),
    (errors.Conflict, 409, "Conflict", None),
    (errors.Forbidden, 403, "Forbidden", None),
    (errors.Unavailable, 503, "ServiceUnavailable", None),
    (errors.Sealed, 503, "ServiceUnavailable", None),
    (errors.LeaseLost, 409, "Conflict", None),
)

_RETRY: Final = ((b"retry-after", b"10"),)

# After 408 and 413 the rest of the body is still on its way, and nobody will read it.
_HEADERS: Final = {408: (CLOSE,), 413: (CLOSE,), 503: _RETRY}

# Key Vault's word where it is not the domain's own.
_KINDS: Final = {
    "deleted secret": "Secret",
    "deleted key": "Key",
    "deleted certificate": "Certificate",
    "pending certificate": "PendingCertificate",
    "contacts": "Contacts",
    "issuer": "CertificateIssuer",
    "dead letter": "DeadLetter",
    "path": "Resource",
}


def refusal(error: errors.BrokerError) -> Response:
    """The response for a refusal."""
    for kind, status, code, inner in _TABLE:
        if isinstance(error, kind):
            word = getattr(error, "kind", "")
            name = _KINDS.get(word, word.capitalize())
            found = body(code.format(kind=name), error.message, inner and inner.format(kind=name))
            return Response(status, found, _HEADERS.get(status, ()))
    return unexpected()


def unavailable(message: str) -> Response:
    """The response while the broker cannot serve; trying later helps."""
    return Response(503, body("ServiceUnavailable", message), _RETRY)


def unexpected() -> Response:
    """The response for an error that nobody foresaw: its text goes to the log, not to the caller."""
    return Response(500, body("InternalServerError", "An unexpected error happened; the log of the broker has it."))


def body(code: str, message: str, inner: str | None = None) -> dict[str, Any]:
    """A Key Vault error body."""
    error: dict[str, Any] = {"code": code, "message": message}
    if inner:
        error["innererror"] = {"code": inner}
    return {"error": error}
