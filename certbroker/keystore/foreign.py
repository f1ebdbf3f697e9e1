"""Takes a PFX or PEM apart, as a process with little time and memory.

`services/issuance/foreign.py` starts it and says why.
"""

from __future__ import annotations

import re
import resource
import sys
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

_CPU_SECONDS: Final = 4
_MEMORY_BYTES: Final = 512 * 1024 * 1024
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class Refused(Exception):
    """The input cannot be used; the text says why."""


def main() -> None:
    """Read one request from standard input, and write the reply to standard output."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = msgspec.msgpack.decode(sys.stdin.buffer.read())
    try:
        reply = take_apart(request["data"], request["password"])
    except Refused as refusal:
        reply = {"error": str(refusal)}
    sys.stdout.buffer.write(msgspec.msgpack.encode(reply))


def take_apart(data: bytes, password: str | None) -> dict[str, object]:
    """The parts under the names of `services.issuance.foreign.Reply`. Raises Refused."""
    key, certificates = _from_pem(data, password) if b"-----BEGIN" in data else _from_pfx(data, password)
    if isinstance(key, rsa.RSAPrivateKey):
        if not 2048 <= key.key_size <= 8192:
            raise Refused(f"The RSA key has {key.key_size} bits; keys of 2048 to 8192 bits are accepted.")
    elif not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refused("The private key is of a kind that is not supported: use RSA or EC.")
    return {
        "key": key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        "certificates": [certificate.public_bytes(Encoding.DER) for certificate in certificates],
    }


def _from_pfx(data: bytes, password: str | None) -> tuple[object, list[x509.Certificate]]:
    try:
        key, leaf, others = pkcs12.load_key_and_certificates(data, password.encode() if password else None)
    except UnsupportedAlgorithm:
        raise Refused("The PFX is encrypted with an algorithm that is not supported: export it with AES-256.") from None
    except ValueError as error:
        if "password" in str(error).lower() or "mac" in str(error).lower():
            raise Refused("The password of the PFX is not correct.") from None
        raise Refused("The value is neither a PFX nor PEM with a private key.") from None
    if key is None:
        raise Refused("The PFX has no private key: export it again together with its key.")
    return key, [*([leaf] if leaf else []), *others]


def _from_pem(data: bytes, password: str | None) -> tuple[object, list[x509.Certificate]]:
    blocks = [(match[1], match[0]) for match in _PEM.finditer(data)]
    if len(blocks) != data.count(b"-----BEGIN "):
        raise Refused("A part of the PEM has no end: it was cut off, or its lines are garbled.")
    keys = [block for label, block in blocks if label.endswith(b"PRIVATE KEY")]
    if len(keys) != 1:
        raise Refused(f"The PEM has {len(keys) or 'no'} private key{'s' * (len(keys) > 1)}; it must have exactly one.")
    try:
        key = load_pem_private_key(keys[0], password.encode() if password and b"ENCRYPTED" in keys[0] else None)
    except (TypeError, UnsupportedAlgorithm):
        raise Refused(
            "The private key in the PEM is encrypted: give its password, or write it as plain PKCS#8."
        ) from None
    except ValueError:
        raise Refused("The private key in the PEM cannot be read, or its password is not correct.") from None
    try:
        certificates = [x509.load_pem_x509_certificate(block) for label, block in blocks if label == b"CERTIFICATE"]
    except ValueError:
        raise Refused("A certificate in the PEM cannot be read.") from None
    return key, certificates


if __name__ == "__main__":
    main()
