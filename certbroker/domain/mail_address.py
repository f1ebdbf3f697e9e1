"""Which mail addresses the broker writes to."""

from __future__ import annotations

import re
from typing import Final

# What one mail is sent to at most; whoever wants more has a distribution list.
MOST_RECIPIENTS: Final = 50

_MAX_LENGTH: Final = 254

# Dot-atoms (RFC 5322 section 3.2.3) and host names. What is rarer is refused rather than quoted: an address comes from
# whoever configures a channel or contacts, and must not become two, or a header.
_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-][A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{0,252}", re.ASCII
)


def is_mail_address(text: str) -> bool:
    """Whether a mail can be sent there."""
    return len(text) <= _MAX_LENGTH and ".." not in text and _ADDRESS.fullmatch(text) is not None
