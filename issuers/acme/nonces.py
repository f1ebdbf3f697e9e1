"""Anti-replay nonces (RFC 8555 section 6.5), shared by everybody who talks to one CA."""

from __future__ import annotations

import re
import threading
from collections import deque
from typing import Final

_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{1,512}", re.ASCII)


class NoncePool:
    """Nonces that came with answers and have not been used. Thread-safe and bounded.

    The newest is taken first, because CAs forget old ones; what falls out at the old end would only have been refused.
    """

    def __init__(self, size: int = 128) -> None:
        self._nonces: deque[str] = deque(maxlen=size)
        self._lock = threading.Lock()

    def take(self) -> str | None:
        with self._lock:
            return self._nonces.pop() if self._nonces else None

    def put(self, nonce: str | None) -> None:
        """Keep the nonce; anything that is none is ignored (section 6.5.1)."""
        if nonce is not None and is_nonce(nonce):
            with self._lock:
                self._nonces.append(nonce)


def is_nonce(text: str) -> bool:
    """Whether it may stand in a JWS header (section 6.5.1)."""
    return _NONCE.fullmatch(text) is not None
