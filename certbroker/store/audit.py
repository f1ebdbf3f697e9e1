"""The audit chain of this process."""

from __future__ import annotations

from certbroker.domain.audit import GENESIS, AuditRecord, link
from certbroker.store.statement import Cursor, insertion
from certbroker.store.tables import AuditRow

_INSERT = insertion(AuditRow)


class AuditChain:
    """Appends records, each with the hash of the one before. Used by the writer's thread alone."""

    def __init__(self, writer: str) -> None:
        self._writer = writer
        self.position: tuple[int, bytes] = (0, GENESIS)

    def append(self, cursor: Cursor, record: AuditRecord) -> None:
        sequence, previous = self.position
        encoded = record.encoded()
        digest = link(previous, encoded)
        _INSERT.run(cursor, writer=self._writer, seq=sequence + 1, record=encoded, hash=digest)
        self.position = (sequence + 1, digest)
