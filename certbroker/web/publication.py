"""The listener where private CAs publish: certificates, CRLs and OCSP replies. No token and no TLS: all is signed.

Whoever checks a certificate anywhere asks here, so the quick path is short: what was signed beforehand goes out as it
is. Caches may keep it, and are told for how long.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

import structlog
from starlette.types import Receive, Scope, Send

from certbroker.domain.errors import Invalid
from certbroker.domain.publication import fresh_for
from certbroker.ports.clock import Clock
from certbroker.services.pki.publications import Answer, Publications
from certbroker.web.errors import refusal
from certbroker.web.http import CLOSE, receive_body

# A request about one certificate has about 80 bytes, with a nonce and a signature some hundreds.
_MAX_REQUEST: Final = 4096
_MAX_PATH: Final = 2 * _MAX_REQUEST

# Lists up to this size are kept in memory, so many of them; longer ones are read as they are sent.
_SMALL: Final = 256 * 1024
_KEPT: Final = 64
_CHUNK: Final = 256 * 1024

_ID: Final = r"([0-9a-f]{32})"
_CERTIFICATE: Final = re.compile(rf"/ca/{_ID}\.cer", re.ASCII)
_LIST: Final = re.compile(rf"/crl/{_ID}(?:/(0|[1-9][0-9]{{0,2}}))?\.crl", re.ASCII)
_STATUS: Final = re.compile(rf"/ocsp/{_ID}(?:/(.*))?", re.ASCII)
_SAFE: Final = (b"x-content-type-options", b"nosniff")
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
_NO_STORE: Final = (b"cache-control", b"no-store")

Headers = tuple[tuple[bytes, bytes], ...]
_log = structlog.get_logger("certbroker.publication")


@dataclass(frozen=True, slots=True)
class _Found:
    """What is published at a place: bytes, or a file."""

    headers: Headers
    content: bytes | Path
    etag: bytes = b""
    modified: datetime | None = None


class PublicationApp:
    """Serves what is published. `prefix` is the path of the URL in certificates, which a proxy may have taken away."""

    def __init__(self, publications: Publications, clock: Clock, prefix: str = "") -> None:
        self._publications = publications
        self._clock = clock
        self._prefix = prefix.encode()
        self._small: OrderedDict[str, bytes] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        method = scope["method"]
        path = scope["raw_path"].partition(b"?")[0].removeprefix(self._prefix).decode("latin-1")
        try:
            if len(path) > _MAX_PATH:
                await _refuse(send, 414, "The path is too long.")
            elif found := _STATUS.fullmatch(path):
                await self._status(found[1], found[2] or "", scope, receive, send)
            elif method not in ("GET", "HEAD"):
                await _refuse(send, 405, "Only GET and HEAD are allowed.", (b"allow", b"GET, HEAD"))
            elif found := _LIST.fullmatch(path):
                await self._list(found[1], int(found[2] or 0), scope, send)
            elif found := _CERTIFICATE.fullmatch(path):
                await self._certificate(found[1], scope, send)
            else:
                await _refuse(send, 404, "Nothing is published here.")
        except Exception:
            _log.exception("what is published could not be served")
            await _refuse(send, 503, "It cannot be served now.", (b"retry-after", b"30"))

    async def _status(self, authority: str, text: str, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["method"]:
            case "POST" if not text:
                try:
                    request = await receive_body(receive, _MAX_REQUEST)
                except Invalid as error:
                    await _refuse(send, refusal(error).status, error.message, CLOSE)
                    return
            case "GET" | "HEAD" if text:
                request = _decoded(text)
            case _:
                await _refuse(send, 405, "Send a request by POST, or in the path by GET.", (b"allow", b"GET, POST"))
                return
        found = self._publications.status(authority, request, self._rendered)
        await _send(scope, send, found)

    def _rendered(self, answer: Answer) -> _Found:
        kind = (b"content-type", b"application/ocsp-response")
        if answer.since is None or answer.until is None:
            return _Found((kind, _NO_STORE), answer.content)
        etag = hashlib.sha256(answer.content).hexdigest()
        return self._found(kind, answer.content, etag, answer.since, answer.until)

    async def _list(self, authority: str, shard: int, scope: Scope, send: Send) -> None:
        found = self._publications.revocation_list(authority, shard)
        if found is None or found.sha256 is None or found.this_update is None or found.next_update is None:
            await _refuse(send, 404, "There is no such list.")
            return
        kind = (b"content-type", b"application/pkix-crl")
        path = self._publications.path(found.sha256)
        content = await self._content(found.sha256, path) if found.size <= _SMALL else path
        whole = self._found(kind, content, found.sha256, found.this_update, found.next_update)
        await _send(scope, send, whole, found.size)

    async def _certificate(self, authority: str, scope: Scope, send: Send) -> None:
        found = self._publications.publisher(authority)
        if found is None:
            await _refuse(send, 404, "There is no such CA.")
            return
        headers = ((b"content-type", b"application/pkix-cert"), (b"cache-control", b"public, max-age=86400"))
        etag = b'"%b"' % found.sha256.encode()
        whole = _Found((*headers, (b"etag", etag)), found.certificate, etag, found.created)
        await _send(scope, send, whole)

    def _found(
        self, kind: tuple[bytes, bytes], content: bytes | Path, etag: str, since: datetime, until: datetime
    ) -> _Found:
        """With what RFC 5019 section 6 wants caches to be told."""
        now = self._clock.now()
        seconds = fresh_for(until, now)
        quoted = b'"%b"' % etag.encode()
        headers = (
            kind,
            (b"cache-control", b"max-age=%d, public, no-transform, must-revalidate" % seconds),
            (b"expires", _date(datetime.fromtimestamp(int(now.timestamp()) + seconds, UTC))),
            (b"last-modified", _date(since)),
            (b"etag", quoted),
        )
        return _Found(headers, content, quoted, since)

    async def _content(self, sha256: str, path: Path) -> bytes:
        """A short list. What has this digest never changes, so it is read once."""
        content = self._small.get(sha256)
        if content is None:
            content = await asyncio.to_thread(path.read_bytes)
            self._small[sha256] = content
            if len(self._small) > _KEPT:
                self._small.popitem(last=False)
        return content


def _decoded(text: str) -> bytes:
    """The request in a path: base64, then URL encoding (RFC 6960 appendix A.1), as lenient as clients are with it.

    What makes no sense is no request, and is answered as such.
    """
    plain = unquote_to_bytes(text).replace(b" ", b"+")
    try:
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return b""


async def _send(scope: Scope, send: Send, found: _Found, size: int | None = None) -> None:
    """Send what was found, or that the client has it already."""
    if _has_it(scope, found):
        await send({"type": "http.response.start", "status": 304, "headers": [_SAFE, *found.headers[1:]]})
        await send({"type": "http.response.body", "body": b""})
        return
    content = found.content
    length = len(content) if isinstance(content, bytes) else size or 0
    headers = [*found.headers, _SAFE, (b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["method"] == "HEAD":
        await send({"type": "http.response.body", "body": b""})
    elif isinstance(content, bytes):
        await send({"type": "http.response.body", "body": content})
    else:
        async for chunk in _chunks(content):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _has_it(scope: Scope, found: _Found) -> bool:
    """Whether the client has just that (RFC 9110 section 13.2.2)."""
    if not found.etag or scope["method"] == "POST":
        return False
    since = b""
    for name, value in scope["headers"]:
        if name == b"if-none-match":
            return value == b"*" or found.etag in value
        if name == b"if-modified-since":
            since = value
    if not since or found.modified is None:
        return False
    try:
        return found.modified.replace(microsecond=0) <= parsedate_to_datetime(since.decode("latin-1"))
    except (ValueError, TypeError):  # TypeError: a date without a zone.
        return False


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


async def _refuse(send: Send, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    body = f"{text}\n".encode()
    about = [_TEXT, _NO_STORE, _SAFE, *headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": about})
    await send({"type": "http.response.body", "body": body})


def _date(moment: datetime) -> bytes:
    return format_datetime(moment, usegmt=True).encode()
