"""The vault of a `DevBroker` over the wire, with no retries and no pooled connection that hides a death."""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.support.broker import DevBroker

T = TypeVar("T")
_VERSION = {"api-version": "7.6"}


class StillNot(AssertionError):
    """What was waited for has not come."""


def until(what: str, probe: Callable[[], T | None], seconds: float = 30.0) -> T:
    """The first result of `probe` that is not None. Raises StillNot."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = probe()
        if found is not None:
            return found
        time.sleep(0.03)
    raise StillNot(f"not within {seconds} s: {what}")


@dataclass(frozen=True)
class Stored:
    """A certificate with what its secret holds, as the broker gives them."""

    certificate: x509.Certificate
    in_secret: x509.Certificate
    key: PublicKeyTypes
    """The public half of the private key in the secret."""


class Wire:
    """Requests to the vault named demo. The token outlives a restart of the broker."""

    def __init__(self, broker: DevBroker) -> None:
        self._broker = broker
        self._token = ""

    def context(self) -> ssl.SSLContext:
        """What trusts the broker and nobody else."""
        return ssl.create_default_context(cafile=self._broker.ca_path)

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self._broker.port}{path}"

    def token(self) -> str:
        if not self._token:
            form = {
                "grant_type": "client_credentials",
                "client_id": self._broker.env["AZURE_CLIENT_ID"],
                "client_secret": self._broker.env["AZURE_CLIENT_SECRET"],
                "scope": "https://vault.localhost/.default",
            }
            address = f"https://localhost:{self._broker.port}/adfs/oauth2/v2.0/token"
            with httpx.Client(verify=self.context(), timeout=30) as http:
                reply = http.post(address, data=form)
            assert reply.status_code == 200, reply.text
            self._token = reply.json()["access_token"]
        return self._token

    def open(self) -> httpx.Client:
        """A client with the token, whose connections are kept alive."""
        headers = {"authorization": f"Bearer {self.token()}"}
        base = f"https://127.0.0.1:{self._broker.port}"
        return httpx.Client(base_url=base, verify=self.context(), headers=headers, params=_VERSION, timeout=30)

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """One request on a connection of its own. Raises httpx.TransportError."""
        with self.open() as http:
            return http.request(method, path, json=body)

    def ok(self, method: str, path: str, body: object = None) -> Any:
        """The body of a reply that has to be a success."""
        reply = self.ask(method, path, body)
        assert reply.is_success, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    def try_to(self, method: str, path: str, body: object = None) -> httpx.Response | None:
        """The reply, or None when the broker died first."""
        try:
            return self.ask(method, path, body)
        except httpx.TransportError:
            return None

    def set_acme_issuer(self, name: str, directory: str) -> None:
        body = {"provider": "ACME", "org_details": {"id": f"directory={directory};challenge=http-01"}}
        self.ok("PUT", f"/certificates/issuers/{name}", body)

    def pending(self, name: str) -> Any:
        """The operation of a certificate, or None where there is none."""
        reply = self.ask("GET", f"/certificates/{name}/pending")
        assert reply.status_code in (200, 404), reply.text
        return reply.json() if reply.status_code == 200 else None

    def completed(self, name: str, seconds: float = 30.0) -> Any:
        """The operation, once it is completed."""

        def probe() -> Any:
            operation = self.pending(name)
            assert operation["status"] in ("inProgress", "completed"), operation
            return operation if operation["status"] == "completed" else None

        return until(f"{name} completed", probe, seconds)

    def versions(self, name: str) -> list[str]:
        """The versions of a certificate."""
        listed = self.ok("GET", f"/certificates/{name}/versions")["value"]
        return [each["id"].rpartition("/")[2] for each in listed]

    def stored(self, name: str) -> Stored:
        """What the broker holds under a name."""
        certificate = x509.load_der_x509_certificate(base64.b64decode(self.ok("GET", f"/certificates/{name}")["cer"]))
        bundle = pkcs12.load_pkcs12(base64.b64decode(self.ok("GET", f"/secrets/{name}")["value"]), None)
        assert bundle.key is not None
        assert bundle.cert is not None
        return Stored(certificate, bundle.cert.certificate, bundle.key.public_key())


def creation(issuer: str, host: str, curve: str = "P-256") -> dict[str, Any]:
    """The body that creates a certificate for a host, with a key that is made quickly."""
    return {
        "policy": {
            "issuer": {"name": issuer},
            "x509_props": {"subject": f"CN={host}", "sans": {"dns_names": [host]}},
            "key_props": {"kty": "EC", "crv": curve},
        }
    }
