"""Answers http-01 challenges (RFC 8555 section 8.3) on a listener of their own, without TLS."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final

from starlette.types import Receive, Scope, Send

_PATH: Final = re.compile(r"/\.well-known/acme-challenge/([A-Za-z0-9_-]{1,256})", re.ASCII)


class ChallengeApp:
    """Serves key authorizations that have been put up, and nothing else."""

    def __init__(self, answer: Callable[[str], str | None]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        found = _PATH.fullmatch(scope["path"]) if scope["method"] in ("GET", "HEAD") else None
        text = await asyncio.to_thread(self._answer, found[1]) if found else None
        body = b"" if text is None else text.encode()
        headers = [(b"content-type", b"application/octet-stream"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 404 if text is None else 200, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] == "GET" else b""})
