"""One HTTP request and one response, and the guard that lets only well-formed requests in.

The server below us is lenient: it passes on two Host headers, a Content-Length beside a Transfer-Encoding, and 200 KB
of headers. Whoever stands between a client and us may read such a request in another way than we do, so it ends here.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct
from starlette.types import Receive, Scope, Send

from certbroker.domain.errors import Invalid, TooLarge, TooSlow

MAX_BODY: Final = 1024 * 1024
MAX_HEADERS: Final = 32 * 1024

# For a body, or for each MiB that one may have. There are as many connections as the server accepts, and a client that
# begins a body and never ends it keeps one: without a limit one client could keep them all, and needs no token for it.
BODY_SECONDS: Final = 15.0

# The last answer on a connection.
CLOSE: Final = (b"connection", b"close")

# RFC 3986 section 3.3 without the characters that no path of ours has.
_PATH: Final = re.compile(rb"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
_HOST: Final = re.compile(rb"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_SINGLE: Final = (b"host", b"authorization", b"content-length", b"content-type", b"transfer-encoding")
_CORRELATION: Final = re.compile(r"[0-9A-Za-z-]{1,64}")

# Correlation ids of requests that bring none: unique, and no secret.
_RUN: Final = secrets.token_hex(8)
_SEQUENCE: Final = itertools.count()


class Request(Struct, frozen=True):
    """A request that has passed the guard. `path` is raw: nothing in it has been decoded."""

    method: str
    path: str
    query_string: bytes
    headers: Mapping[bytes, bytes]
    host: str
    client: str
    correlation_id: str

    def __repr__(self) -> str:
        # The headers have the caller's token.
        return f"Request({self.method} {self.path})"

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    def query(self) -> dict[str, str]:
        """The query parameters, decoded. Raises Invalid when one is given twice."""
        return _query(self.query_string)


@lru_cache(maxsize=256)
def _query(text: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        raise Invalid("The request has more than 32 query parameters.") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Invalid("A query parameter is given more than once.")
    return found


class Response(Struct, frozen=True):
    """A status with a JSON body, or with none."""

    status: int = 200
    body: Any = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


def admit(scope: Scope) -> Request:
    """The request in an ASGI scope. Raises Invalid, TooLarge."""
    headers: dict[bytes, bytes] = {}
    size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name in headers and name in _SINGLE:
            raise Invalid(f"The request has more than one {name.decode()} header.")
        headers[name] = value
    if size > MAX_HEADERS:
        raise TooLarge(f"The headers of the request are larger than {MAX_HEADERS} bytes.")
    if b"content-length" in headers and b"transfer-encoding" in headers:
        raise Invalid("The request has both Content-Length and Transfer-Encoding.")
    raw_path = scope["raw_path"].partition(b"?")[0]
    if _PATH.fullmatch(raw_path) is None or len(raw_path) > 2048:
        raise Invalid("The path of the request has characters that no resource here has.")
    host = headers.get(b"host", b"")
    if _HOST.fullmatch(host) is None:
        raise Invalid("The Host header of the request is missing or malformed.")
    given = headers.get(b"x-ms-client-request-id", b"").decode("latin-1")
    client = scope.get("client")
    return Request(
        scope["method"],
        raw_path.decode("ascii"),
        scope["query_string"],
        headers,
        host.decode("ascii").lower(),
        client[0] if client else "",
        given if _CORRELATION.fullmatch(given) else f"{_RUN}{next(_SEQUENCE):016x}",
    )


async def read_body(request: Request, receive: Receive, most: int = MAX_BODY) -> bytes:
    """The whole body of a request that may have none, of so many bytes at most. Raises TooLarge, TooSlow, Invalid."""
    length = request.headers.get(b"content-length", b"0")
    if length == b"0" and b"transfer-encoding" not in request.headers:
        return b""
    if not length.isdigit() or len(length) > 18:
        raise Invalid("The Content-Length header is not a number.")
    if int(length) > most:
        raise _too_large(most)
    return await receive_body(receive, most)


async def receive_body(receive: Receive, most: int) -> bytes:
    """The whole body, of so many bytes at most, in the time that there is for it. Raises TooLarge, TooSlow, Invalid."""
    seconds = BODY_SECONDS * max(1, most // MAX_BODY)
    try:
        async with asyncio.timeout(seconds):
            return await _received(receive, most)
    except TimeoutError:
        raise TooSlow(f"The body of the request has not come to its end within {seconds:g} seconds.") from None


async def _received(receive: Receive, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Invalid("The request ended before its body did.")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"The body of the request is larger than {most} bytes.")


_JSON: Final = (b"content-type", b"application/json; charset=utf-8")
_NO_STORE: Final = (b"cache-control", b"no-store")
_FIXED: Final = (
    _NO_STORE,
    (b"x-content-type-options", b"nosniff"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
)


async def respond(send: Send, response: Response, *extra: tuple[bytes, bytes]) -> None:
    """Send the response."""
    body = b"" if response.body is None else msgspec.json.encode(response.body)
    kind = (_JSON,) if body else ()
    # What has not changed has a length, and that is not the one of this answer (RFC 9110 section 8.6).
    length = () if response.status == 304 else ((b"content-length", str(len(body)).encode()),)
    headers = [*_FIXED, *kind, *response.headers, *extra, *length]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
