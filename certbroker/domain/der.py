"""The few forms of DER (X.690) that requests and certificates of ours are put together from.

The builders of `cryptography` check and encode every part again each time, which takes several times as long as the
signature. Here a part that is the same for many certificates is encoded once, by that library. What comes of it is what
its builders make, octet for octet: tests/domain/test_der.py compares the two.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

_INTEGER: Final = 0x02
_BIT_STRING: Final = 0x03
_OCTET_STRING: Final = 0x04
_OBJECT_IDENTIFIER: Final = 0x06
_ENUMERATED: Final = 0x0A
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_CONTEXT: Final = 0xA0
_PRIMITIVE_CONTEXT: Final = 0x80

TRUE: Final = b"\x01\x01\xff"
NULL: Final = b"\x05\x00"


def sequence(*parts: bytes | bytearray) -> bytes:
    """A SEQUENCE of these values."""
    return _value(_SEQUENCE, *parts)


def sequence_header(length: int) -> bytes:
    """What stands before the values of a SEQUENCE that have so many octets together: they may be too many to copy."""
    return _header(_SEQUENCE, length)


def set_of_one(part: bytes) -> bytes:
    """A SET OF with one value; several would have to be sorted."""
    return _value(_SET, part)


def tagged(number: int, part: bytes) -> bytes:
    """What is constructed under a context-specific tag."""
    return _value(_CONTEXT | number, part)


def tagged_null(number: int) -> bytes:
    """A NULL under an implicit context-specific tag."""
    return bytes((_PRIMITIVE_CONTEXT | number, 0))


def octet_string(octets: bytes) -> bytes:
    """An OCTET STRING."""
    return _value(_OCTET_STRING, octets)


def bit_string(octets: bytes) -> bytes:
    """Whole octets as a BIT STRING."""
    return _value(_BIT_STRING, b"\0", octets)


def unsigned(number: int) -> bytes:
    """An INTEGER that is not negative."""
    return _value(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def enumerated(number: int) -> bytes:
    """An ENUMERATED of less than 128."""
    return bytes((_ENUMERATED, 1, number))


def object_identifier(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER that is written with dots."""
    first, second, *others = map(int, dotted.split("."))
    return _value(_OBJECT_IDENTIFIER, b"".join(map(_base128, (40 * first + second, *others))))


def time(moment: datetime) -> bytes:
    """A moment in UTC, to the second, in the form that RFC 5280 section 4.1.2.5 has for its year."""
    return _value(_UTC_TIME, _written(moment)[2:]) if moment.year < 2050 else generalized_time(moment)


def generalized_time(moment: datetime) -> bytes:
    """A moment in UTC, to the second, as GeneralizedTime."""
    return _value(_GENERALIZED_TIME, _written(moment))


def subject_public_key(info: bytes) -> bytes:
    """The octets of the key in a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) that the library has encoded."""
    algorithm, _ = _bounds(info, 0)
    _, key = _bounds(info, algorithm)
    start, end = _bounds(info, key)
    return info[start + 1 : end]


def elements(encoded: bytes) -> list[bytes]:
    """The values that a SEQUENCE has, each in DER. It is one that the library has read."""
    position, end = _bounds(encoded, 0)
    found = []
    while position < end:
        _, following = _bounds(encoded, position)
        found.append(encoded[position:following])
        position = following
    return found


def _written(moment: datetime) -> bytes:
    return b"%04d%02d%02d%02d%02d%02dZ" % moment.timetuple()[:6]


def _bounds(encoded: bytes, position: int) -> tuple[int, int]:
    """Where the octets of the value begin that is at this position, and where they end."""
    size = encoded[position + 1]
    if size < 128:
        return position + 2, position + 2 + size
    start = position + 2 + (size & 0x7F)
    return start, start + int.from_bytes(encoded[position + 2 : start], "big")


def _value(tag: int, *parts: bytes | bytearray) -> bytes:
    return b"".join((_header(tag, sum(map(len, parts))), *parts))


def _header(tag: int, size: int) -> bytes:
    if size < 128:
        return bytes((tag, size))
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length


def _base128(number: int) -> bytes:
    octets = [number & 0x7F]
    while number := number >> 7:
        octets.append(0x80 | number & 0x7F)
    return bytes(reversed(octets))
