"""Certificate revocation lists (RFC 5280 section 5), written for a million entries.

`cryptography` makes an object of each entry, which takes half a minute and most of a gigabyte for a million of them. So
the entries, which have one form only, are written here, and the list is what `cryptography` then reads and verifies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, assert_never

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa

from certbroker.domain.keys import SigningKey
from issuers.private_ca.lint import signature_hash
from issuers.private_ca.prepare import identifier_of
from issuers.private_ca.signing import signed_bytes

Entry = tuple[str, int, int | None]
"""The serial number in hexadecimal digits, when it was revoked in Unix seconds, and the CRLReason."""

_VERSION_2: Final = b"\x02\x01\x01"
_SEQUENCE: Final = 0x30
_BIT_STRING: Final = 0x03
_EXTENSIONS: Final = 0xA0

# An entry's extensions with its reason code, by the code. `unspecified` is left out (RFC 5280 section 5.3.1), and there
# are none of those that can be taken back, which nobody can here.
_REASONS: Final[dict[int | None, bytes]] = {
    **dict.fromkeys((None, 0), b""),
    **{code: bytes.fromhex("300c300a0603551d1504030a01") + bytes((code,)) for code in (1, 2, 3, 4, 5, 9, 10)},
}

# AlgorithmIdentifier (RFC 5280 section 5.1.1.2): with NULL for parameters for RSA (RFC 4055), and without any for ECDSA
# (RFC 5758), Ed25519 (RFC 8410) and ML-DSA (RFC 9881).
_RSA: Final = bytes.fromhex("300d06092a864886f70d01010b0500")
_ECDSA: Final = {
    "sha256": bytes.fromhex("300a06082a8648ce3d040302"),
    "sha384": bytes.fromhex("300a06082a8648ce3d040303"),
    "sha512": bytes.fromhex("300a06082a8648ce3d040304"),
}
_ED25519: Final = bytes.fromhex("300506032b6570")
_MLDSA_44: Final = bytes.fromhex("300b0609608648016503040311")
_MLDSA_65: Final = bytes.fromhex("300b0609608648016503040312")
_MLDSA_87: Final = bytes.fromhex("300b0609608648016503040313")

_DIGITS: Final = tuple(b"%02d" % number for number in range(60))


@dataclass(frozen=True, slots=True)
class Frame:
    """What a list says besides its entries. Times are in whole seconds.

    `places` are the URLs under which it is found, for a list that does not have all of its issuer's revocations: it
    says so, by a critical extension (RFC 5280 section 5.2.5), and holds for the certificates that name one of them.
    """

    issuer: x509.Certificate
    key: SigningKey = field(repr=False)
    number: int
    this_update: datetime
    next_update: datetime
    places: Sequence[str] = ()


def build(frame: Frame, batches: Iterable[Sequence[Entry]]) -> bytes:
    """The signed list in DER. Takes 3 s and 150 MB for a million entries. Raises what the key raises."""
    entries = bytearray()
    for batch in batches:
        entries += b"".join([_entry(*entry) for entry in batch])
    algorithm = _identifier(frame.key)
    signed = _tagged(
        _SEQUENCE,
        _VERSION_2,
        algorithm,
        frame.issuer.subject.public_bytes(),
        _time(int(frame.this_update.timestamp())),
        _time(int(frame.next_update.timestamp())),
        # RFC 5280 section 5.1.2.6: absent where there is none.
        *((_header(_SEQUENCE, len(entries)), entries) if entries else ()),
        _tagged(_EXTENSIONS, _tagged(_SEQUENCE, *_extensions(frame))),
    )
    del entries
    return _tagged(_SEQUENCE, signed, algorithm, _tagged(_BIT_STRING, b"\0", signed_bytes(frame.key, signed)))


def _identifier(key: SigningKey) -> bytes:
    """The AlgorithmIdentifier of what `signed_bytes` does with the key."""
    match key:
        case rsa.RSAPrivateKey():
            return _RSA
        case ec.EllipticCurvePrivateKey():
            algorithm = signature_hash(key)
            assert algorithm is not None
            return _ECDSA[algorithm.name]
        case ed25519.Ed25519PrivateKey():
            return _ED25519
        case mldsa.MLDSA44PrivateKey():
            return _MLDSA_44
        case mldsa.MLDSA65PrivateKey():
            return _MLDSA_65
        case mldsa.MLDSA87PrivateKey():
            return _MLDSA_87
        case _:
            assert_never(key)


def _extensions(frame: Frame) -> list[bytes]:
    identifier = identifier_of(frame.issuer)
    found = [
        _extension(x509.AuthorityKeyIdentifier(identifier.digest, None, None)),
        _extension(x509.CRLNumber(frame.number)),
    ]
    if frame.places:
        place = x509.IssuingDistributionPoint(
            full_name=[x509.UniformResourceIdentifier(url) for url in frame.places],
            relative_name=None,
            only_contains_user_certs=False,
            only_contains_ca_certs=False,
            only_some_reasons=None,
            indirect_crl=False,
            only_contains_attribute_certs=False,
        )
        found.append(_extension(place, critical=True))
    return found


def _extension(value: x509.ExtensionType, *, critical: bool = False) -> bytes:
    oid = bytes.fromhex("551d") + bytes((int(value.oid.dotted_string.rpartition(".")[2]),))  # All are below 2.5.29.
    flag = b"\x01\x01\xff" if critical else b""
    return _tagged(_SEQUENCE, _tagged(0x06, oid), flag, _tagged(0x04, value.public_bytes()))


def _entry(serial: str, revoked: int, reason: int | None) -> bytes:
    number = int(serial, 16)
    size = (number.bit_length() >> 3) + 1
    # Nothing in an entry is longer than 127 bytes, so each length is one byte.
    body = b"\x02%c%b%b%b" % (size, number.to_bytes(size, "big"), _time(revoked), _REASONS[reason])
    return b"\x30%c%b" % (len(body), body)


def _time(seconds: int) -> bytes:
    """UTCTime until 2049, GeneralizedTime from then on (RFC 5280 section 5.1.2.4)."""
    day, second = divmod(seconds, 86400)
    minute = second // 60
    return b"%b%b%b%bZ" % (_day(day), _DIGITS[minute // 60], _DIGITS[minute % 60], _DIGITS[second % 60])


@lru_cache(maxsize=4096)
def _day(day: int) -> bytes:
    date = datetime.fromtimestamp(day * 86400, UTC)
    if date.year < 2050:
        return b"\x17\x0d" + date.strftime("%y%m%d").encode()
    return b"\x18\x0f" + date.strftime("%Y%m%d").encode()


def _tagged(tag: int, *parts: bytes | bytearray) -> bytes:
    return b"".join((_header(tag, sum(map(len, parts))), *parts))


def _header(tag: int, length: int) -> bytes:
    if length < 128:
        return bytes((tag, length))
    size = (length.bit_length() + 7) >> 3
    return bytes((tag, 128 | size)) + length.to_bytes(size, "big")
