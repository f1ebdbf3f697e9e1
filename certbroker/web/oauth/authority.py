"""Token endpoint, discovery and keys, in the forms that Azure's identity libraries ask for.

Every path begins with a tenant: the broker's own id, or `adfs`, or `dstsv2/<tenant>`, which are the two forms in
which these libraries do not ask the public cloud whether the authority exists.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from certbroker.domain.errors import Invalid
from certbroker.services.identity.tokens import LIFETIME, BadCredentials, Tokens
from certbroker.web.errors import refusal
from certbroker.web.hosts import Hosts
from certbroker.web.http import receive_body

_MAX_FORM: Final = 64 * 1024
_GRANT: Final = "client_credentials"
_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_log = structlog.get_logger("certbroker.oauth")


class Authority:
    """The endpoints of the authority."""

    def __init__(self, tokens: Tokens, hosts: Hosts) -> None:
        self._tokens = tokens
        self._hosts = hosts

    def routes(self) -> list[Route]:
        """Where they are served."""
        tokens = (
            "/{tenant}/oauth2/v2.0/token",
            "/{tenant}/oauth2/token",
            "/dstsv2/{tenant}/oauth2/v2.0/token",
            "/dstsv2/{tenant}/oauth2/token",
        )
        configurations = (
            "/{tenant}/v2.0/.well-known/openid-configuration",
            "/{tenant}/.well-known/openid-configuration",
            "/dstsv2/{tenant}/v2.0/.well-known/openid-configuration",
            "/dstsv2/{tenant}/.well-known/openid-configuration",
        )
        keys = ("/{tenant}/discovery/v2.0/keys", "/{tenant}/discovery/keys", "/dstsv2/{tenant}/discovery/v2.0/keys")
        return [
            *(Route(path, self.token, methods=["POST"]) for path in tokens),
            *(Route(path, self.configuration) for path in configurations),
            *(Route(path, self.keys) for path in keys),
            Route("/common/discovery/instance", self.instance),
        ]

    async def token(self, request: Request) -> Response:
        """RFC 6749 section 4.4 with the client secret in the form or in Basic authentication."""
        try:
            form = await _form(request)
        except Invalid as error:
            refused = refusal(error)
            return _error(refused.status, "invalid_request", error.message, refused.headers)
        if form.get("grant_type") != _GRANT:
            return _error(400, "unsupported_grant_type", f"grant_type must be {_GRANT}.")
        client_id, secret = _credentials(request, form)
        if not client_id or not secret:
            return _error(401, "invalid_client", "client_id and client_secret are missing from the request.")
        tenant = request.path_params["tenant"]
        if tenant.lower() not in (self._tokens.tenant, "adfs"):
            return _error(400, "invalid_request", f"AADSTS90002: Tenant '{tenant[:64]}' not found here.")
        requested = form.get("scope") or form.get("resource") or ""
        try:
            audience = self._hosts.audience(requested.split(" ")[0])
        except Invalid as error:
            return _error(400, "invalid_scope" if "scope" in form else "invalid_resource", error.message)
        try:
            token = self._tokens.issue(client_id, secret, audience, self._issuer(request))
        except BadCredentials as error:
            _log.warning("token refused", client_id=client_id[:64], address=request.client and request.client.host)
            return _error(401, "invalid_client", f"AADSTS7000215: {error.message}")
        body = {
            "token_type": "Bearer",
            "expires_in": LIFETIME,
            "ext_expires_in": LIFETIME,
            "refresh_in": LIFETIME // 2,
            "access_token": token,
            "resource": audience,
        }
        return JSONResponse(body, headers=_NO_STORE)

    async def configuration(self, request: Request) -> Response:
        """OpenID Connect discovery. Libraries want the tenant in the path of each endpoint, on the host they asked."""
        base = self._base(request)
        tail = "/oauth2/v2.0" if "/v2.0/" in request.url.path or "dstsv2" in request.url.path else "/oauth2"
        return JSONResponse(
            {
                "issuer": self._issuer(request),
                "authorization_endpoint": f"{base}{tail}/authorize",
                "token_endpoint": f"{base}{tail}/token",
                "device_authorization_endpoint": f"{base}{tail}/devicecode",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
                "grant_types_supported": [_GRANT],
                "response_types_supported": ["token"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": ["openid"],
                "tenant_region_scope": None,
            }
        )

    async def keys(self, request: Request) -> Response:
        """The public keys of our tokens (RFC 7517)."""
        return JSONResponse({"keys": [key | {"use": "sig", "alg": "RS256"} for key in self._tokens.public_keys()]})

    async def instance(self, request: Request) -> Response:
        """Instance discovery: this host is its own authority."""
        host = request.headers["host"].lower()
        return JSONResponse(
            {
                "tenant_discovery_endpoint": (
                    f"https://{host}/{self._tokens.tenant}/v2.0/.well-known/openid-configuration"
                ),
                "api-version": "1.1",
                "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
            }
        )

    def _base(self, request: Request) -> str:
        prefix = "/dstsv2" if request.url.path.startswith("/dstsv2/") else ""
        return f"https://{request.headers['host'].lower()}{prefix}/{request.path_params['tenant']}"

    def _issuer(self, request: Request) -> str:
        tail = "/v2.0" if "/v2.0/" in request.url.path else ""
        return f"{self._base(request)}{tail}"


async def _form(request: Request) -> dict[str, str]:
    """The form of a token request, each field at most once (RFC 6749 section 3.2). Raises Invalid."""
    body = await receive_body(request.receive, _MAX_FORM)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=64)
    except (UnicodeDecodeError, ValueError):
        raise Invalid("The body must be an application/x-www-form-urlencoded form.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Invalid("A field of the form is given more than once.")
    return form


def _credentials(request: Request, form: dict[str, str]) -> tuple[str, str]:
    """Client id and secret, from the form or from Basic authentication (RFC 6749 section 2.3.1)."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return "", ""
    return unquote_plus(client_id), unquote_plus(secret)


def _error(status: int, code: str, description: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Response:
    body: dict[str, Any] = {"error": code, "error_description": description}
    return JSONResponse(body, status, _NO_STORE | {name.decode(): value.decode() for name, value in headers})
