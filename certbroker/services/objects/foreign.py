"""Keys and certificates from outside, read where they can do no harm.

Deriving the key of a PFX and checking the primes of an RSA key hold the interpreter for as long as the sender likes:
ten million iterations are five seconds. So both happen in a process of their own, `certbroker.keystore.foreign`, that
gets little time and memory and leaves nothing behind. The input and the password go in by a pipe.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import Final

import msgspec

from certbroker.domain.errors import Invalid, TooLarge

MAX_BYTES: Final = 256 * 1024
_WALL_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Imported:
    """A private key in PKCS#8 and the certificates in DER, as they came."""

    key: bytes = field(repr=False)
    certificates: tuple[bytes, ...]


class Reply(msgspec.Struct):
    """What the process writes: the parts, or why not."""

    key: bytes = b""
    certificates: tuple[bytes, ...] = ()
    error: str = ""


class Request(msgspec.Struct):
    """What the process reads."""

    data: bytes = b""
    password: str | None = None
    jwk: dict[str, str | bytes] = msgspec.field(default_factory=dict)


def take_apart(data: bytes, password: str | None) -> Imported:
    """The key and certificates in a PFX or in PEM text. Blocks for up to seconds. Raises Invalid, TooLarge."""
    if len(data) > MAX_BYTES:
        raise TooLarge(f"The certificate is larger than {MAX_BYTES} bytes.")
    if data[:1] != b"\x30" and b"-----BEGIN" not in data:
        raise Invalid("The value is neither a PFX nor PEM with a private key.")
    reply = _ask(
        Request(data, password),
        "The certificate takes too much time or memory to open. A PFX is best written with at most 600,000 iterations "
        "of PBKDF2: export it again.",
    )
    return Imported(reply.key, reply.certificates)


def put_together(jwk: dict[str, str | bytes]) -> bytes:
    """The private key of a JWK, whose numbers are given as bytes, in PKCS#8. Blocks for seconds. Raises Invalid."""
    return _ask(Request(jwk=jwk), "The key takes too much time or memory to check.").key


def _ask(request: Request, too_costly: str) -> Reply:
    try:
        process = subprocess.run(
            [sys.executable, "-m", "certbroker.keystore.foreign"],
            input=msgspec.msgpack.encode(request),
            capture_output=True,
            timeout=_WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Invalid(too_costly) from None
    if process.returncode != 0:
        raise Invalid(too_costly)
    reply = msgspec.msgpack.decode(process.stdout, type=Reply)
    if reply.error:
        raise Invalid(reply.error)
    return reply
