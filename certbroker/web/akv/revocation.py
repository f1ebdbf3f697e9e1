"""Revocation on the wire. Key Vault has none: no path of its own has a segment after a certificate's version."""

from __future__ import annotations

from typing import Any

import msgspec

from certbroker.domain.errors import Invalid
from certbroker.domain.revocation import Progress, Revocation, read_reason
from certbroker.services.revocation.revocations import RevocationWish
from certbroker.web.akv.messages import decode
from certbroker.web.akv.routes import Call, Route, Router
from certbroker.web.http import Response


class RevokeJSON(msgspec.Struct, frozen=True):
    reason: str
    issuer: str | None = None
    renew: bool | None = None


def revoke(call: Call) -> Response:
    wanted = decode(call.body or b"{}", RevokeJSON)
    if not call.version:
        raise Invalid(
            "Name the version: what is revoked cannot be taken back, and the current one may change meanwhile."
        )
    wish = RevocationWish(read_reason(wanted.reason), wanted.issuer or None, wanted.renew)
    revocation = call.broker.revocations.revoke(call.caller, call.vault, call.name, call.version, wish)
    return Response(202 if revocation.progress is Progress.PENDING else 200, revocation_json(revocation))


def revocation_json(revocation: Revocation) -> dict[str, Any]:
    """How far a revocation is. Times in Unix seconds; what is not known is left out."""
    found: dict[str, Any] = {
        "status": str(revocation.progress),
        "reason": str(revocation.reason),
        "issuer": revocation.issuer,
        "renew": revocation.renew,
        "requested": int(revocation.requested.timestamp()),
    }
    if revocation.revoked is not None:
        found["revoked"] = int(revocation.revoked.timestamp())
    if revocation.problem is not None:
        found["problem"] = revocation.problem
    if revocation.act_at is not None:
        found["next_try"] = int(revocation.act_at.timestamp())
    return found


def register(router: Router) -> None:
    route = Route("CertificateRevoke", "certificates/revoke/action", revoke, writes=True, lane="outside")
    router.add("POST", "/certificates/{name}/{version}/revoke", route)
