"""The baseline for reads: a bare Starlette JSON endpoint under the same server. Run as a process of its own.

Without a certificate it serves without TLS.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from certbroker.web.served_certificate import read_certificate
from certbroker.web.server import Listener, bind

BODY = {
    "value": "x" * 32,
    "id": "https://127.0.0.1:8443/secrets/bench/0123456789abcdef0123456789abcdef",
    "attributes": {"enabled": True, "created": 1, "updated": 1, "recoveryLevel": "Recoverable", "recoverableDays": 90},
    "tags": {},
}


async def secret(request: Request) -> JSONResponse:
    return JSONResponse(BODY)


async def main(chain: str, key: str, port_file: str) -> None:
    app = Starlette(routes=[Route("/secrets/bench/", secret)])
    certificate = read_certificate(Path(chain), Path(key)) if chain else None
    listener = Listener(bind("127.0.0.1", 0), app, certificate)
    await listener.start()
    await asyncio.to_thread(Path(port_file).write_text, str(listener.port))
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:4]))
