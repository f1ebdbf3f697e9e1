"""The audit chain of this process."""

from __future__ import annotations

from collections.abc import Iterable

from certbroker.domain.audit import GENESIS, link
from certbroker.store.statement import Cursor, insertion
from certbroker.store.tables import AuditRow

_INSERT = insertion(AuditRow)


class AuditChain:
    """Appends records, each with the hash of the one before. Used by the writer's thread alone."""

    def __init__(self, writer: str) -> None:
        self._writer = writer
        self.position: tuple[int, bytes] = (0, GENESIS)

    def append(self, cursor: Cursor, records: Iterable[bytes]) -> None:
        """Add records, in their stored form, to the transaction."""
        sequence, digest = self.position
        rows = []
        for encoded in records:
            digest = link(digest, encoded)
            sequence += 1
            rows.append({"writer": self._writer, "seq": sequence, "record": encoded, "hash": digest})
        if rows:
            _INSERT.insert(cursor, rows)
        self.position = (sequence, digest)
