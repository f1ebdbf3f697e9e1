"""Certificate revocation lists (RFC 5280 section 5), written for a million entries.

`cryptography` makes an object of each entry, which takes half a minute and most of a gigabyte for a million of them. So
the entries, which have one form only, are written here, and the list is what `cryptography` then reads and verifies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography import x509

from certbroker.domain import der
from certbroker.domain.csr import encoded_extension
from certbroker.domain.keys import SigningKey
from certbroker.domain.signing import scheme_of, signed
from issuers.private_ca.prepare import identifier_of

Entry = tuple[str, int, int | None]
"""The serial number in hexadecimal digits, when it was revoked in Unix seconds, and the CRLReason."""

_VERSION_2: Final = der.unsigned(1)

# An entry's extensions with its reason code, by the code. `unspecified` is left out (RFC 5280 section 5.3.1), and there
# are none of those that can be taken back, which nobody can here.
_REASONS: Final[dict[int | None, bytes]] = {
    **dict.fromkeys((None, 0), b""),
    **{code: bytes.fromhex("300c300a0603551d1504030a01") + bytes((code,)) for code in (1, 2, 3, 4, 5, 9, 10)},
}

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
    body = der.sequence(
        _VERSION_2,
        scheme_of(frame.key).algorithm,
        frame.issuer.subject.public_bytes(),
        _time(int(frame.this_update.timestamp())),
        _time(int(frame.next_update.timestamp())),
        # RFC 5280 section 5.1.2.6: absent where there is none.
        *((der.sequence_header(len(entries)), entries) if entries else ()),
        der.tagged(0, der.sequence(*_extensions(frame))),
    )
    del entries
    return signed(body, frame.key)


def _extensions(frame: Frame) -> list[bytes]:
    identifier = identifier_of(frame.issuer)
    found = [
        encoded_extension(x509.AuthorityKeyIdentifier(identifier.digest, None, None)),
        encoded_extension(x509.CRLNumber(frame.number)),
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
        found.append(encoded_extension(place, critical=True))
    return found


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
