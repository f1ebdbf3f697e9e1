"""What everybody here who talks to one CA shares: its directory, its nonces, and who is doing what there."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from certbroker.domain.operation import Problem
from certbroker.ports.issuer import IssuerUnavailable
from issuers.acme.messages import Directory
from issuers.acme.nonces import NoncePool

_DIRECTORY_AGE: Final = 3600.0
_MAX_CLAIMS: Final = 10_000
# Registering takes a second or so. Whoever waits longer comes back later instead of holding a worker.
_REGISTERING: Final = 10.0


class KnownCA:
    """The knowledge of one CA in this process. Thread-safe, makes no calls, holds no secrets."""

    def __init__(self) -> None:
        self.nonces = NoncePool()
        self._lock = threading.Lock()
        self._directory: tuple[Directory, float] | None = None
        self._registering: dict[str, threading.Lock] = {}
        self._claims: OrderedDict[str, str] = OrderedDict()
        self._asked: OrderedDict[str, None] = OrderedDict()

    def directory(self) -> Directory | None:
        """The directory as it was at most an hour ago."""
        with self._lock:
            if self._directory is None or time.monotonic() - self._directory[1] > _DIRECTORY_AGE:
                return None
            return self._directory[0]

    def keep_directory(self, directory: Directory) -> None:
        with self._lock:
            self._directory = (directory, time.monotonic())

    def forget_directory(self, gone: str) -> None:
        """Let the directory be asked for again if it names the URL `gone`, where nothing is any more."""
        with self._lock:
            kept = self._directory[0] if self._directory else None
            if kept is not None and gone in (kept.new_nonce, kept.new_account, kept.new_order):
                self._directory = None

    @contextmanager
    def registering(self, thumbprint: str) -> Iterator[None]:
        """Held while the account of that key is made, so that a hundred first orders make one request.

        Raises IssuerUnavailable when somebody else holds it for long.
        """
        with self._lock:
            lock = self._registering.setdefault(thumbprint, threading.Lock())
        if not lock.acquire(timeout=_REGISTERING):
            raise IssuerUnavailable(Problem("IssuerUnavailable", "The account at the CA is still being registered."))
        try:
            yield
        finally:
            lock.release()

    def claim(self, order_url: str, operation_id: str) -> bool:
        """Take an order for an operation; False when another operation of this process has it."""
        with self._lock:
            owner = self._claims.setdefault(order_url, operation_id)
            if len(self._claims) > _MAX_CLAIMS:
                self._claims.popitem(last=False)
            return owner == operation_id

    def ask(self, order_url: str) -> None:
        """Note that this process is about to have all answers to the challenges of an order looked at."""
        with self._lock:
            self._asked[order_url] = None
            if len(self._asked) > _MAX_CLAIMS:
                self._asked.popitem(last=False)

    def has_asked(self, order_url: str) -> bool:
        """Whether this process did, so that it was there when the CA came to look."""
        with self._lock:
            return order_url in self._asked
