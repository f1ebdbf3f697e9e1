"""The test CA's CRL: signed with the CA's own key, which it gives to tests, and served where the broker looks."""

from __future__ import annotations

import http.server
import threading
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from pebble.management import Management

_HOST: Final = "127.0.0.1"
_PATH: Final = "/pebble.crl"

ISSUER: Final = "CN=Pebble Intermediate CA*"


class CRLServer:
    """Serves one CRL on loopback. `publish` may be called again and again; each list is newer than the one before."""

    def __init__(self) -> None:
        self._crl = b""
        self._number = 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = server._crl if self.path == _PATH else b""
                self.send_response(200 if found else 404)
                self.send_header("content-length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it.
                pass

        self._server = http.server.ThreadingHTTPServer((_HOST, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self._server.server_address[1]}{_PATH}"

    def publish(self, ca: Management, *revoked: int) -> None:
        """A list with these serial numbers, each for the reason keyCompromise."""
        issuer = x509.load_pem_x509_certificate(ca.intermediate())
        key = load_pem_private_key(ca.intermediate_key(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        self._number += 1
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(issuer.subject, now, now + timedelta(days=7))
        builder = builder.add_extension(x509.CRLNumber(self._number), critical=False)
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
            builder = builder.add_revoked_certificate(entry.add_extension(reason, critical=False).build())
        self._crl = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
