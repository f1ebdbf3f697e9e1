"""The blocks of a PEM text (RFC 7468), found in one pass whatever the text is.

A regular expression that looks for the end of each block reads all that follows again for every beginning without an
end: of such a megabyte, which anybody can send, it reads for minutes and holds the interpreter meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

CERTIFICATE: Final = b"CERTIFICATE"

_BEGIN: Final = b"-----BEGIN "
_END: Final = b"-----END "
_DASHES: Final = b"-----"
_LONGEST_LABEL: Final = 64


class Block(NamedTuple):
    """What a block says that it holds, and the whole of it, from the one line of dashes to the other."""

    label: bytes
    text: bytes


def blocks(data: bytes) -> Iterator[Block]:
    """The blocks in their order; text around them is passed over.

    Raises ValueError at the first without an end of its own: it was cut off, or its lines are garbled. A text is read
    only as far as blocks are asked for.
    """
    position = 0
    while (start := data.find(_BEGIN, position)) >= 0:
        named = start + len(_BEGIN)
        label, dashes, _ = data[named : named + _LONGEST_LABEL + len(_DASHES)].partition(_DASHES)
        last = _END + label + _DASHES
        body = named + len(label) + len(_DASHES)
        end = data.find(last, body)
        if not (dashes and label.isupper()) or end < 0 or data.find(_BEGIN, body, end) >= 0:
            raise ValueError("a block of the PEM has no end")
        position = end + len(last)
        yield Block(label, data[start:position])
