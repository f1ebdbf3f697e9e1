"""Entity tags (RFC 9110 section 8.8.3): a client that has the current representation is told so, and sent nothing.

Key Vault sends none; its clients ignore them.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from certbroker.web.akv.routes import Call
from certbroker.web.http import Response


def etag_of(shown: dict[str, Any]) -> bytes:
    """The tag of a representation: another one when anything that is shown is another.

    `shown` is without what is secret, so that no tag in any log says something of it. A value never changes under its
    version, which is part of the identifier, so what is shown besides is enough.
    """
    return b'"%s"' % blake2b(msgspec.json.encode(shown), digest_size=12).hexdigest().encode()


def unchanged(call: Call, etag: bytes) -> Response | None:
    """The answer to a client that has the representation with this tag already; None for any other."""
    wanted = call.if_none_match
    if not wanted:
        return None
    tag = etag.decode()
    # Weak comparison (RFC 9110 section 13.1.2): a proxy that compresses makes tags weak.
    if wanted.strip() == "*" or tag in (each.strip().removeprefix("W/") for each in wanted.split(",")):
        return Response(304, None, ((b"etag", etag),))
    return None
