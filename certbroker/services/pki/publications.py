"""What private CAs have published, for whoever asks. Everything was signed before: asking costs a look at the database.

It needs no seal: all of it is public.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from certbroker.domain.authority import serial_text
from certbroker.domain.publication import RevocationList
from certbroker.ports.clock import Clock
from certbroker.store.database import SQLiteStore
from certbroker.store.published_files import PublishedFiles
from certbroker.store.transaction import SQLTransaction
from issuers.private_ca import ocsp

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """An OCSP reply in DER. One that is signed holds from `since` until `until`; one that says why not has neither."""

    content: bytes = field(repr=False)
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Publisher:
    """A CA that publishes: its certificate in DER, since when it is here, and how clients name it by each hash."""

    certificate: bytes = field(repr=False)
    sha256: str
    created: datetime
    names: Mapping[str, tuple[str, bytes, bytes]]


class Publications:
    """Answers as quickly as the event loop needs it."""

    def __init__(self, store: SQLiteStore, files: PublishedFiles, clock: Clock) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        # What is kept of a CA never changes.
        self._publishers = lru_cache(maxsize=1024)(self._read_publisher)

    def publisher(self, authority: str) -> Publisher | None:
        """The CA with that id."""
        try:
            return self._publishers(authority)
        except LookupError:
            return None

    def revocation_list(self, authority: str, shard: int) -> RevocationList | None:
        """The newest list of a shard; None where none has been published."""
        found: RevocationList | None = self._store.glance().publications.list_of(authority, shard)
        return None if found is None or found.sha256 is None else found

    def path(self, sha256: str) -> Path:
        """Where the list with that digest is."""
        return self._files.path(sha256)

    def status(self, authority: str, request: bytes, render: Callable[[Answer], T]) -> T:
        """What `render` makes of the reply to an OCSP request in DER: once, for as long as nothing changes."""
        return self._store.recall(
            (authority, request), lambda transaction: render(self._answer(transaction, authority, request))
        )

    def _answer(self, transaction: SQLTransaction, authority: str, request: bytes) -> Answer:
        try:
            question = ocsp.read(request)
        except ocsp.Malformed:
            return Answer(ocsp.MALFORMED)
        publisher = self.publisher(authority)
        if publisher is None or publisher.names.get(question.algorithm) != question.issuer or question.serial <= 0:
            return Answer(ocsp.UNAUTHORIZED)
        found = transaction.publications.reply(authority, serial_text(question.serial))
        if found is None:
            # RFC 5019 section 2.2.3: who has nothing on record about a certificate is not entitled to say so.
            return Answer(ocsp.UNAUTHORIZED)
        if not found.this_update <= self._clock.now() < found.next_update:
            return Answer(ocsp.TRY_LATER)
        return Answer(found.by_hash[question.algorithm], found.this_update, found.next_update)

    def _read_publisher(self, authority: str) -> Publisher:
        found = self._store.glance().authorities.get(authority)
        if found is None:
            raise LookupError(authority)
        names = ocsp.issuer_hashes(x509.load_der_x509_certificate(found.certificate))
        return Publisher(found.certificate, found.sha256, datetime.fromtimestamp(found.created, UTC), names)
