"""Which mail addresses the broker writes to."""

from __future__ import annotations

import re
from typing import Final

# What one mail is sent to at most; whoever wants more has a distribution list.
MOST_RECIPIENTS: Final = 50

_MAX_LENGTH: Final = 254

_MAX_LOCAL: Final = 64

# Dot-atoms (RFC 5322 section 3.2.3) and host names: there is something on both sides of each dot. What is rarer is
# refused rather than quoted: an address comes from whoever configures a channel or contacts, and must not become two,
# or a header.
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS: Final = re.compile(rf"(?P<local>{_ATOM}(\.{_ATOM})*)@[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z0-9-]+)*", re.ASCII)

# Begins an encoded word (RFC 2047 section 2), which mail programs read as other characters.
_ENCODED: Final = "=?"


def is_mail_address(text: str) -> bool:
    """Whether a mail can be sent there."""
    if len(text) > _MAX_LENGTH or _ENCODED in text:
        return False
    found = _ADDRESS.fullmatch(text)
    return found is not None and len(found["local"]) <= _MAX_LOCAL
