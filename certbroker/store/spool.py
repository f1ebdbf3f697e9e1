"""Audit records of what changed nothing, on their way into the database.

A commit for each read would cost ten times the read. So the record of a read is put into a file before the read is
answered, and goes into the database a little later together with many others. Whoever has an answer is on record even
when this process is killed at once: the next start takes what it finds in the files into the database. The files are
mapped into memory, since a system call would give the interpreter to another thread and cost more than the rest.

There are two files, so that one can be emptied, once its records are in the database, while the other is written.
"""

from __future__ import annotations

import asyncio
import mmap
import os
from pathlib import Path
from typing import Final

import msgspec
import structlog

from certbroker.domain.audit import AuditRecord
from certbroker.store.transaction import SQLTransaction
from certbroker.store.writer import Writer

_DRAIN_SECONDS: Final = 0.1
_SIZE: Final = 4 * 1024 * 1024
_DRAINED: Final = "audit spool drained"

_log = structlog.get_logger("certbroker.audit")


class _File:
    """One file: lines from its start, and zeros after them."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # All of it is allocated now: a page that finds no room on the disk later would end the process.
            os.posix_fallocate(descriptor, 0, _SIZE)
            self._memory = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self._used = _SIZE

    def append(self, line: bytes) -> None:
        """Add a line. Raises OSError when there is no room."""
        end = self._used + len(line)
        if end > _SIZE:
            raise OSError("the records of reads are not taken into the database fast enough")
        self._memory[self._used : end] = line
        self._used = end

    def lines(self) -> list[bytes]:
        """The lines that are whole."""
        *whole, _ = self._memory[:].partition(b"\0")[0].split(b"\n")
        return whole

    @property
    def is_clear(self) -> bool:
        return self._used == 0

    def clear(self) -> None:
        self._memory[: self._used] = bytes(self._used)
        self._used = 0
        # The pages stay in the file and leave this process, which at the start has looked at all of them.
        self._memory.madvise(mmap.MADV_DONTNEED)


class AuditSpool:
    """The two files. `add` is called on one event loop. `run` names this process."""

    def __init__(self, directory: Path, writer: Writer, run: str) -> None:
        self._files = [_File(directory / f"audit.{number}.spool") for number in (0, 1)]
        self._writer = writer
        self._run = run.encode()
        self._count = 0
        self._active = 0
        self._pending: list[bytes] = []
        self._draining: asyncio.Future[None] | None = None
        self.failures = 0
        """How often records could not be put into a file or brought into the database."""
        self._take_in()

    def add(self, record: AuditRecord) -> None:
        """Put the record into the file. Raises OSError when it cannot be: then nothing may be answered."""
        encoded = msgspec.json.encode(record)
        try:
            self._files[self._active].append(b"%s %d %s\n" % (self._run, self._count + 1, encoded))
        except OSError:
            self.failures += 1
            raise
        self._count += 1
        if not self._pending:
            asyncio.get_running_loop().call_later(_DRAIN_SECONDS, self._drain)
        self._pending.append(encoded)

    def close(self) -> None:
        """Bring what is left into the database."""
        self._take_in()

    def _drain(self) -> None:
        """Hand over what has come, and begin the other file if that is empty."""
        if self._draining is not None:
            asyncio.get_running_loop().call_later(_DRAIN_SECONDS, self._drain)
            return
        records, self._pending = self._pending, []
        other = self._files[1 - self._active]
        if other.is_clear:
            self._active = 1 - self._active
        mark = f"{self._run.decode()} {self._count}"
        self._draining = self._writer.write_soon(lambda transaction: _store(transaction, records, mark))
        self._draining.add_done_callback(lambda drained: self._drained(drained, records))

    def _drained(self, drained: asyncio.Future[None], records: list[bytes]) -> None:
        self._draining = None
        if not drained.cancelled() and drained.exception() is None:
            # The file that is not written now holds nothing younger than these records.
            self._files[1 - self._active].clear()
            return
        self.failures += 1
        _log.error("audit records of reads could not be stored; it will be tried again")
        if not self._pending:
            asyncio.get_running_loop().call_later(_DRAIN_SECONDS, self._drain)
        self._pending[:0] = records

    def _take_in(self) -> None:
        """Take into the database what is in the files, each record once and in order."""
        lines = sorted((_parse(line) for file in self._files for line in file.lines()), key=lambda parsed: parsed[:2])
        if lines:
            self._writer.write(lambda transaction: _take(transaction, lines))
        for file in self._files:
            file.clear()


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
