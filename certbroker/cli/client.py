"""A thin client of the broker: tokens, requests, pages, and one kind of failure for whatever goes wrong."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

import httpx

from certbroker.cli.paths import Place

API_VERSION: Final = "7.6"

# Longer than the broker takes for anything: what takes long there is an operation, and is polled.
_TIMEOUT: Final = httpx.Timeout(30, connect=10)


class ExitCode(IntEnum):
    """What a command ends with."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    UNAUTHORISED = 4
    NOT_FOUND = 5
    NEEDS_PERSON = 6


class CommandFailed(Exception):
    """The command cannot do what it was asked to; `code` is for machines, the message for people."""

    def __init__(self, exit_code: ExitCode, message: str, code: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are, and whom to ask for tokens."""

    authority: str
    tenant: str
    client_id: str
    client_secret: str = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """From the variables that Azure's own libraries read. Raises CommandFailed, naming what is missing."""
        names = ("AZURE_AUTHORITY_HOST", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
        file = environment.get("AZURE_CLIENT_SECRET_FILE")
        if file and not environment.get("AZURE_CLIENT_SECRET"):
            try:
                secret = Path(file).read_text("utf-8").partition("\n")[0].strip()
            except (OSError, UnicodeDecodeError) as error:
                raise CommandFailed(ExitCode.USAGE, f"AZURE_CLIENT_SECRET_FILE cannot be read: {error}.") from None
            environment = {**environment, "AZURE_CLIENT_SECRET": secret}
        missing = [name for name in names if not environment.get(name)]
        if missing:
            raise CommandFailed(
                ExitCode.USAGE,
                f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set. "
                "`certbroker dev` writes a file with them, `certbroker init` prints them.",
            )
        authority, tenant, client_id, secret = (environment[name] for name in names)
        authority = authority if "//" in authority else f"https://{authority}"
        if not authority.startswith("https://"):
            raise CommandFailed(ExitCode.USAGE, "AZURE_AUTHORITY_HOST is not an https URL, and secrets are sent there.")
        return cls(authority.rstrip("/"), tenant, client_id, secret)


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A file that somebody else keeps a token in. It is read for each request, because tokens run out."""

    path: Path

    def read(self) -> str:
        """Raises CommandFailed."""
        try:
            token = self.path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandFailed(ExitCode.USAGE, f"The token file {self.path} cannot be read: {error}.") from None
        if not token or not token.isprintable() or " " in token:
            raise CommandFailed(ExitCode.USAGE, f"The file {self.path} holds no token.")
        return token


class Connection:
    """One pool of connections, and the tokens of one application."""

    def __init__(self, credentials: Credentials | TokenFile, ca_file: str | None = None) -> None:
        self._credentials = credentials
        self._http = open_http(ca_file)
        self._tokens: dict[str, tuple[str, float]] = {}

    def vault(self, url: str) -> Client:
        """The client of a vault. Its tokens are for the host without the first label, as Key Vault wants it."""
        parts = urlsplit(url)
        host = (parts.hostname or "").partition(".")[2]
        port = f":{parts.port}" if parts.port else ""
        return Client(self, url, f"https://{host}{port}", {"api-version": API_VERSION})

    def administration(self, url: str) -> Client:
        """The client of the broker itself."""
        return Client(self, url, f"https://{urlsplit(url).hostname or ''}", {})

    def send(self, request: httpx.Request, resource: str) -> Any:
        """The body of the reply to an authenticated request. Raises CommandFailed."""
        return _body(self.reply(request, resource))

    def reply(self, request: httpx.Request, resource: str) -> httpx.Response:
        """The reply to an authenticated request, whatever it says. Raises CommandFailed when there is none."""
        request.headers["authorization"] = f"Bearer {self._token(resource)}"
        return exchange(self._http, request)

    def build(self, method: str, url: str, query: Mapping[str, str] | None, body: object) -> httpx.Request:
        return self._http.build_request(method, url, params=query, json=body)

    def close(self) -> None:
        self._http.close()

    def _token(self, resource: str) -> str:
        if isinstance(self._credentials, TokenFile):
            return self._credentials.read()
        token, until = self._tokens.get(resource, ("", 0.0))
        if time.monotonic() >= until:
            credentials = self._credentials
            form = {
                "grant_type": "client_credentials",
                "client_id": credentials.client_id,
                "client_secret": credentials.client_secret,
                "scope": f"{resource}/.default",
            }
            url = f"{credentials.authority}/{quote(credentials.tenant, safe='')}/oauth2/v2.0/token"
            reply = exchange(self._http, self._http.build_request("POST", url, data=form))
            found = _token_reply(reply)
            token, until = found["access_token"], time.monotonic() + int(found["expires_in"]) / 2
            self._tokens[resource] = token, until
        return token


class Client:
    """The operations of one host. Bodies are JSON in the form of its API."""

    def __init__(self, connection: Connection, url: str, resource: str, query: Mapping[str, str]) -> None:
        self.url = url.rstrip("/")
        self._connection = connection
        self._resource = resource
        self._query = dict(query)

    def get(self, path: Place, **query: str) -> Any:
        return self.request("GET", path, None, **query)

    def get_unless(self, path: Place, etag: str, **query: str) -> tuple[Any, str] | None:
        """The body and its tag; None when it is the one with that tag still. Raises CommandFailed."""
        request = self._connection.build("GET", self.url + path, self._query | query, None)
        if etag:
            request.headers["if-none-match"] = etag
        reply = self._connection.reply(request, self._resource)
        return None if reply.status_code == 304 else (_body(reply), reply.headers.get("etag", ""))

    def put(self, path: Place, body: object) -> Any:
        return self.request("PUT", path, body)

    def post(self, path: Place, body: object = None, **query: str) -> Any:
        return self.request("POST", path, body, **query)

    def patch(self, path: Place, body: object) -> Any:
        return self.request("PATCH", path, body)

    def delete(self, path: Place) -> Any:
        return self.request("DELETE", path, None)

    def request(self, method: str, path: Place, body: object, **query: str) -> Any:
        """The body of the reply; None when it has none. Raises CommandFailed."""
        request = self._connection.build(method, self.url + path, self._query | query, body)
        return self._connection.send(request, self._resource)

    def items(self, path: Place, **query: str) -> Iterator[Any]:
        """All items of a listing, over all of its pages. Raises CommandFailed."""
        page = self.get(path, **query)
        yield from page["value"]
        while following := page.get("nextLink"):
            # A token goes only where the user sent it.
            if not _same_origin(following, self.url):
                raise CommandFailed(ExitCode.REFUSED, f"The next page is on another host: {following[:200]}.")
            page = self._connection.send(self._connection.build("GET", following, None, None), self._resource)
            yield from page["value"]


class _LoopbackNames(httpx.HTTPTransport):
    """Finds `<name>.localhost` on this machine (RFC 6761 section 6.3), because plain glibc does not."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        if host.endswith(".localhost"):
            request.extensions = dict(request.extensions) | {"sni_hostname": host}
            request.url = request.url.copy_with(host="127.0.0.1")
        return super().handle_request(request)


def open_http(ca_file: str | None) -> httpx.Client:
    """HTTP that trusts the CA certificates in a file, or the system's. Raises CommandFailed."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise CommandFailed(ExitCode.USAGE, f"The CA certificates in {ca_file} cannot be read: {error}.") from None
    mounts = {"all://*.localhost": _LoopbackNames(verify=context)}
    return httpx.Client(verify=context, timeout=_TIMEOUT, mounts=mounts, headers={"user-agent": "certbroker-cli"})


def exchange(http: httpx.Client, request: httpx.Request) -> httpx.Response:
    """Send a request. Raises CommandFailed when there is no answer."""
    where = f"{request.url.host}:{request.url.port or 443}"
    try:
        return http.send(request)
    except httpx.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise CommandFailed(
                ExitCode.UNREACHABLE,
                f"The certificate of {where} is not trusted: {str(error).partition('failed: ')[2] or error}. Name the "
                "file with its CA certificate in SSL_CERT_FILE.",
            ) from None
        raise CommandFailed(ExitCode.UNREACHABLE, f"{where} cannot be reached: {error}.") from None
    except httpx.TimeoutException:
        raise CommandFailed(ExitCode.UNREACHABLE, f"{where} did not answer in time.") from None
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise CommandFailed(ExitCode.UNREACHABLE, f"{where} broke off: {str(error) or type(error).__name__}.") from None


def _same_origin(one: str, other: str) -> bool:
    """Whether both URLs lead to the same host and port, however they are written (RFC 3986 section 6.2)."""
    try:
        origins = {(url.scheme, url.host, url.port) for url in (httpx.URL(one), httpx.URL(other))}
    except httpx.InvalidURL:
        return False
    return len(origins) == 1


def _body(response: httpx.Response) -> Any:
    if response.is_success:
        return response.json() if response.content else None
    try:
        error = response.json()["error"]
        code, message = error["code"], error["message"]
        inner = (error.get("innererror") or {}).get("code", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        code, inner, message = f"HTTP {response.status_code}", "", "The answer is not one of a key vault."
    raise CommandFailed(_exit_code(response.status_code, inner), message, inner or code)


def _exit_code(status: int, inner: str) -> ExitCode:
    if status == 401 or (status == 403 and inner.startswith("ForbiddenBy")):
        return ExitCode.UNAUTHORISED
    return ExitCode.NOT_FOUND if status == 404 else ExitCode.REFUSED


def _token_reply(response: httpx.Response) -> Any:
    try:
        found = response.json()
        if response.is_success:
            return found
        code, message = found["error"], found["error_description"]
    except (ValueError, KeyError, TypeError):
        raise CommandFailed(
            ExitCode.UNREACHABLE, f"{response.url} is not a token endpoint (HTTP {response.status_code})."
        ) from None
    if isinstance(code, dict):  # A vault's form of error, from a host that is no authority.
        code, message = code.get("code", ""), code.get("message", "")
    refused = ExitCode.UNAUTHORISED if response.status_code in (401, 403) else ExitCode.USAGE
    raise CommandFailed(refused, message, code)
