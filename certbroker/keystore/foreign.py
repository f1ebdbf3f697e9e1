"""Takes apart a PFX or PEM, or puts a key in JWK together, as a process with little time and memory.

`services/objects/foreign.py` starts it and says why.
"""

from __future__ import annotations

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

from certbroker.domain import pem
from certbroker.domain.errors import Invalid
from certbroker.domain.keys import CURVES, check_rsa_size

_CPU_SECONDS: Final = 4
_MOST_EXPONENT: Final = 2**64
_MEMORY_BYTES: Final = 512 * 1024 * 1024


def main() -> None:
    """Read one request from standard input, and write the reply to standard output."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = msgspec.msgpack.decode(sys.stdin.buffer.read())
    try:
        jwk = request.get("jwk")
        reply = put_together(jwk) if jwk else take_apart(request["data"], request["password"])
    except Invalid as refusal:
        reply = {"error": str(refusal)}
    sys.stdout.buffer.write(msgspec.msgpack.encode(reply))


def take_apart(data: bytes, password: str | None) -> dict[str, object]:
    """The parts under the names of `services.objects.foreign.Reply`. Raises Invalid."""
    key, certificates = _from_pem(data, password) if b"-----BEGIN" in data else _from_pfx(data, password)
    return {
        "key": _encoded(key),
        "certificates": [certificate.public_bytes(Encoding.DER) for certificate in certificates],
    }


def put_together(jwk: dict[str, str | bytes]) -> dict[str, object]:
    """The key of a JWK (RFC 7518 section 6), whose numbers are given as bytes, in the same form. Raises Invalid."""
    numbers = {name: int.from_bytes(value) for name, value in jwk.items() if isinstance(value, bytes)}
    try:
        return {"key": _encoded(_rsa(numbers) if jwk["kty"] == "RSA" else _ec(str(jwk["crv"]), numbers))}
    except KeyError as missing:
        raise Invalid(f"key.{missing.args[0]} is missing.") from None
    except ValueError:
        raise Invalid("The members of the key do not belong together.") from None


def _rsa(numbers: dict[str, int]) -> rsa.RSAPrivateKey:
    n, e, d = numbers["n"], numbers["e"], numbers["d"]
    check_rsa_size(n.bit_length())
    # RFC 7518 section 6.3.2: whoever writes one of them has to write all; whoever writes none is understood.
    p, q = (numbers["p"], numbers["q"]) if "p" in numbers else rsa.rsa_recover_prime_factors(n, e, d)
    more = (
        numbers.get("dp") or rsa.rsa_crt_dmp1(d, p),
        numbers.get("dq") or rsa.rsa_crt_dmq1(d, q),
        numbers.get("qi") or rsa.rsa_crt_iqmp(p, q),
    )
    return rsa.RSAPrivateNumbers(p, q, d, *more, rsa.RSAPublicNumbers(e, n)).private_key()


def _ec(curve: str, numbers: dict[str, int]) -> ec.EllipticCurvePrivateKey:
    public = ec.EllipticCurvePublicNumbers(numbers["x"], numbers["y"], CURVES[curve]())
    return ec.EllipticCurvePrivateNumbers(numbers["d"], public).private_key()


def _encoded(key: object) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        check_rsa_size(key.key_size)
        if key.public_key().public_numbers().e >= _MOST_EXPONENT:
            raise Invalid(
                "The public exponent of the RSA key has more than 64 bits: checking its signatures would take long."
            )
    elif not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Invalid("The private key is of a kind that is not supported: use RSA or EC.")
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _from_pfx(data: bytes, password: str | None) -> tuple[object, list[x509.Certificate]]:
    try:
        key, leaf, others = pkcs12.load_key_and_certificates(data, password.encode() if password else None)
    except UnsupportedAlgorithm:
        raise Invalid("The PFX is encrypted with an algorithm that is not supported: export it with AES-256.") from None
    except ValueError as error:
        if "password" in str(error).lower() or "mac" in str(error).lower():
            raise Invalid("The password of the PFX is not correct.") from None
        raise Invalid("The value is neither a PFX nor PEM with a private key.") from None
    if key is None:
        raise Invalid("The PFX has no private key: export it again together with its key.")
    return key, [*([leaf] if leaf else []), *others]


def _from_pem(data: bytes, password: str | None) -> tuple[object, list[x509.Certificate]]:
    try:
        blocks = [*pem.blocks(data)]
    except ValueError:
        raise Invalid("A part of the PEM has no end: it was cut off, or its lines are garbled.") from None
    keys = [block for label, block in blocks if label.endswith(b"PRIVATE KEY")]
    if len(keys) != 1:
        raise Invalid(f"The PEM has {len(keys) or 'no'} private key{'s' * (len(keys) > 1)}; it must have exactly one.")
    try:
        key = load_pem_private_key(keys[0], password.encode() if password and b"ENCRYPTED" in keys[0] else None)
    except (TypeError, UnsupportedAlgorithm):
        raise Invalid(
            "The private key in the PEM is encrypted: give its password, or write it as plain PKCS#8."
        ) from None
    except ValueError:
        raise Invalid("The private key in the PEM cannot be read, or its password is not correct.") from None
    try:
        certificates = [x509.load_pem_x509_certificate(block) for label, block in blocks if label == pem.CERTIFICATE]
    except ValueError:
        raise Invalid("A certificate in the PEM cannot be read.") from None
    return key, certificates


if __name__ == "__main__":
    main()
