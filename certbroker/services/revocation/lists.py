"""CRLs on disk: taken in by a process of their own, looked up in this one.

A CRL is as large as its CA likes, and reading it holds the interpreter: a million entries take many seconds. So it is
read by `certbroker.store.crl_process`, that gets little time and memory and leaves one file, the index. A large one
waits for the large one before it, so that two of them do not fill the memory; small ones pass it.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Final

import msgspec

from certbroker import background
from certbroker.domain.crl import CRLFacts, Entry
from certbroker.domain.errors import Invalid
from certbroker.store.crl_index import CRLIndex, Damaged
from certbroker.store.crl_process import Reply, Request

_LARGE: Final = 1 << 20
_SECONDS: Final = {False: 10, True: 120}
_PROCESSES: Final = {False: 2, True: 1}
_OPEN: Final = 256
_NEW_SECONDS: Final = 3600


class RevocationLists:
    """The indexes of CRLs, by the name of their file. Safe on all threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: OrderedDict[str, CRLIndex] = OrderedDict()
        self._lock = threading.Lock()
        self._places = {large: threading.BoundedSemaphore(count) for large, count in _PROCESSES.items()}

    @contextlib.contextmanager
    def incoming(self) -> Iterator[IO[bytes]]:
        """A file for a CRL that is on its way, which is gone afterwards."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._directory, suffix=".crl") as file:
            yield file

    def take_in(self, source: Path, issuer: bytes, *, named: bool = False) -> tuple[CRLFacts, str]:
        """What a CRL in a file says of itself, and the name of its index. `issuer` is the certificate of its signer;
        `named` says that the operator has named the CRL himself.

        Blocks for up to minutes. Raises Invalid.
        """
        large = source.stat().st_size > _LARGE
        request = Request(str(source), issuer, str(self._directory), _SECONDS[large], named)
        with background.waiting(), self._places[large]:
            try:
                process = subprocess.run(
                    [sys.executable, "-m", "certbroker.store.crl_process"],
                    input=msgspec.msgpack.encode(request),
                    capture_output=True,
                    timeout=3 * _SECONDS[large],
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise _too_costly() from None
        if process.returncode != 0:
            raise _too_costly()
        reply = msgspec.msgpack.decode(process.stdout, type=Reply)
        if reply.facts is None:
            raise Invalid(reply.error)
        return reply.facts, reply.file

    def is_whole(self, name: str) -> bool:
        """Whether that index can be used. Reads all of it the first time."""
        try:
            self._index(name)
        except Damaged:
            return False
        return True

    def find(self, name: str, serial: int) -> Entry | None:
        """What the CRL with that index says of a certificate; None where it is not on it. Raises Damaged."""
        return self._index(name).find(serial)

    def keep(self, names: set[str], now: datetime) -> None:
        """Remove all indexes but these, and those that are so new that their names may be on the way here."""
        if not self._directory.exists():
            return
        for path in self._directory.iterdir():
            if path.suffix or path.name in names:
                continue
            with contextlib.suppress(FileNotFoundError):
                if now.timestamp() - path.stat().st_mtime < _NEW_SECONDS:
                    continue
            with self._lock:
                self._open.pop(path.name, None)
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what a process that is dead was reading or writing."""
        if self._directory.exists():
            for path in self._directory.iterdir():
                if path.suffix:
                    path.unlink(missing_ok=True)

    def _index(self, name: str) -> CRLIndex:
        with self._lock:
            found = self._open.get(name)
            if found is not None:
                self._open.move_to_end(name)
                return found
        opened = CRLIndex(self._directory / name)
        with self._lock:
            self._open[name] = opened
            # What is dropped here is unmapped when its last user is done.
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)
        return opened


def _too_costly() -> Invalid:
    return Invalid("The CRL takes too much time or memory to read.")
