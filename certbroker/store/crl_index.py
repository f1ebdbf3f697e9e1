"""A CRL as it is looked up: one file of records of the same width, sorted by serial number, mapped into memory.

A file begins with a magic word, the width of a serial number in bytes, and the number of records. A record is the
serial number, the time of the revocation in Unix seconds, and the reason's code. The name of a file is the SHA-256 of
what is in it, so that no half of one, and none that has changed, is taken for the whole.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from certbroker.domain.crl import Entry

_HEADER: Final = struct.Struct(">8sBQ")
_MAGIC: Final = b"CRLINDX1"
_REST: Final = struct.Struct(">IB")
_LAST: Final = (1 << 32) - 1

# RFC 5280 section 4.1.2.2 allows 20. What is longer belongs to no certificate that a library opens.
WIDEST: Final = 40


class Damaged(Exception):
    """The file is not there, or not what its name says."""


def record(serial: int, at: int, reason: int, width: int) -> bytes:
    """One entry; sorted as bytes they are sorted by serial number."""
    return serial.to_bytes(width) + _REST.pack(min(max(at, 0), _LAST), reason)


def write(directory: Path, records: list[bytes], width: int) -> str:
    """Write sorted records, whole or not at all, and return the name of the file. It is on disk before this returns."""
    header = _HEADER.pack(_MAGIC, width, len(records))
    digest = hashlib.sha256(header)
    temporary = directory / f"{os.getpid()}.new"
    with temporary.open("wb") as file:
        file.write(header)
        for start in range(0, len(records), 65536):
            part = b"".join(records[start : start + 65536])
            digest.update(part)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    name = digest.hexdigest()
    temporary.replace(directory / name)
    folder = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return name


class CRLIndex:
    """One open file. Look-ups cost microseconds at a million entries, on any thread."""

    def __init__(self, path: Path) -> None:
        """Map the file and check that it is what its name says. Raises Damaged."""
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise Damaged(f"The index of a CRL cannot be read: {error}") from None
        if hashlib.sha256(self._map).hexdigest() != path.name or len(self._map) < _HEADER.size:
            self._map.close()
            raise Damaged("The index of a CRL has been changed on disk.")
        magic, self._width, self._count = _HEADER.unpack_from(self._map)
        self._step = self._width + _REST.size
        if magic != _MAGIC or len(self._map) != _HEADER.size + self._count * self._step:
            self._map.close()
            raise Damaged("The index of a CRL was written by another version.")

    def __len__(self) -> int:
        return int(self._count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._map.close()

    def find(self, serial: int) -> Entry | None:
        """What the list says of the certificate with that number; None where it is not on it."""
        width, step, data = self._width, self._step, self._map
        if serial <= 0 or serial.bit_length() > 8 * width:
            return None
        wanted = serial.to_bytes(width)
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            start = _HEADER.size + middle * step
            if data[start : start + width] < wanted:
                low = middle + 1
            else:
                high = middle
        start = _HEADER.size + low * step
        if low == self._count or data[start : start + width] != wanted:
            return None
        at, reason = _REST.unpack_from(data, start + width)
        return Entry(datetime.fromtimestamp(at, UTC), reason)
