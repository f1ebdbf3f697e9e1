"""What a test may ask Pebble behind the back of ACME: its management interface."""

import json
from dataclasses import dataclass
from typing import Literal

from pebble.loopback import LoopbackError, LoopbackHTTP


@dataclass(frozen=True)
class CertificateStatus:
    """What the CA holds about one certificate."""

    status: Literal["Valid", "Revoked"]
    certificate: str
    """PEM."""
    reason: int | None = None
    """The RFC 5280 reason code of a revocation that gave one."""
    revoked_at: str | None = None


@dataclass(frozen=True)
class Management:
    """Chain `n` is 0 for the default chain, 1 and up for alternates. PEM in, PEM out."""

    http: LoopbackHTTP

    def root(self, n: int = 0) -> bytes:
        return self._get(f"/roots/{n}")

    def root_key(self, n: int = 0) -> bytes:
        return self._get(f"/root-keys/{n}")

    def intermediate(self, n: int = 0) -> bytes:
        return self._get(f"/intermediates/{n}")

    def intermediate_key(self, n: int = 0) -> bytes:
        """With it, a test signs CRLs and OCSP responses for what Pebble issued. Only of a CA that has RSA keys."""
        return self._get(f"/intermediate-keys/{n}")

    def certificate_status(self, serial: int) -> CertificateStatus | None:
        """None when this CA, since its last start, did not issue such a certificate."""
        body = self.http.get(f"/cert-status-by-serial/{serial:x}")
        if body is None:
            return None
        found = json.loads(body)
        return CertificateStatus(
            status=found["Status"],
            certificate=found["Certificate"],
            reason=found.get("Reason"),
            revoked_at=found.get("RevokedAt"),
        )

    def set_renewal_info(self, certificate: str, body: str) -> None:
        """Answer RFC 9773 queries for the certificate (PEM) with this body, which may be anything at all."""
        self.http.post("/set-renewal-info/", {"Certificate": certificate, "ARIResponse": body})

    def _get(self, path: str) -> bytes:
        body = self.http.get(path)
        if body is None:
            raise LoopbackError(f"{path}: this Pebble has no such chain")
        return body
