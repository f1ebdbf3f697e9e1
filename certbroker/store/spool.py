"""Audit records of what changed nothing, on their way into the database.

A commit for each read would cost ten times the read. So the record of a read is appended to a file before the read is
answered, with one system call, and goes into the database a little later together with many others. Whoever has an answer
is on record even when this process is killed at once: the next start takes what it finds in the files into the database.

There are two files, so that one can be emptied, once its records are in the database, while the other is written.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import msgspec

from certbroker.domain.audit import AuditRecord
from certbroker.store.transaction import SQLTransaction
from certbroker.store.writer import Writer

_DRAIN_SECONDS: Final = 0.1
_DRAINED: Final = "audit spool drained"


class AuditSpool:
    """The two files. `add` is called on one event loop; `recover` before that, once. `run` names this process."""

    def __init__(self, directory: Path, writer: Writer, run: str) -> None:
        self._paths = [directory / f"audit.{number}.spool" for number in (0, 1)]
        self._writer = writer
        self._run = run
        self._count = 0
        self._active = 0
        self._pending: list[bytes] = []
        self._draining: asyncio.Future[None] | None = None
        self._files = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for path in self._paths]
        self._recover()

    def add(self, record: AuditRecord) -> None:
        """Put the record into the file. Raises OSError when it cannot be: then nothing may be answered."""
        encoded = msgspec.json.encode(record)
        self._count += 1
        line = b"%s %d %s\n" % (self._run.encode(), self._count, encoded)
        if os.write(self._files[self._active], line) != len(line):
            raise OSError("the disk is full")
        if not self._pending:
            asyncio.get_running_loop().call_later(_DRAIN_SECONDS, self._drain)
        self._pending.append(encoded)

    def close(self) -> None:
        """Bring what is left into the database."""
        for file in self._files:
            os.close(file)
        self._recover()

    def _drain(self) -> None:
        """Hand over what has come, and begin the other file; later, if that one is not empty yet."""
        loop = asyncio.get_running_loop()
        if self._draining is not None:
            loop.call_later(_DRAIN_SECONDS, self._drain)
            return
        records, self._pending = self._pending, []
        emptied, self._active = self._active, 1 - self._active
        mark = f"{self._run} {self._count}"
        self._draining = self._writer.write_soon(lambda transaction: _store(transaction, records, mark))
        self._draining.add_done_callback(lambda drained: self._drained(drained, emptied))

    def _drained(self, drained: asyncio.Future[None], emptied: int) -> None:
        self._draining = None
        if drained.exception() is None:
            os.ftruncate(self._files[emptied], 0)

    def _recover(self) -> None:
        """Take into the database what an earlier process left in the files, each record once and in order."""
        lines = sorted(
            (_parse(line) for path in self._paths for line in path.read_bytes().splitlines() if line.endswith(b"}")),
            key=lambda parsed: parsed[:2],
        )
        if lines:
            self._writer.write(lambda transaction: _take(transaction, lines))
        for path in self._paths:
            os.truncate(path, 0)


def _parse(line: bytes) -> tuple[str, int, bytes]:
    run, count, encoded = line.split(b" ", 2)
    return run.decode(), int(count), encoded


def _store(transaction: SQLTransaction, records: list[bytes], mark: str) -> None:
    transaction.audited.extend(records)
    transaction.vaults.put_setting(_DRAINED, mark)


def _take(transaction: SQLTransaction, lines: list[tuple[str, int, bytes]]) -> None:
    """Store the lines that were not stored before a crash came between the commit and the emptying of the file."""
    run, _, count = (transaction.vaults.setting(_DRAINED) or " 0").partition(" ")
    missing = [line for line in lines if line[0] != run or line[1] > int(count)]
    _store(transaction, [line[2] for line in missing], f"{lines[-1][0]} {lines[-1][1]}")
