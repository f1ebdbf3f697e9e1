"""Files of what is published: each is named by its SHA-256, is whole or not there, and never changes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Set
from pathlib import Path
from typing import Final

# A file is left for so long after it has been replaced, in seconds, for those who are just reading it.
_GRACE: Final = 3600.0


class PublishedFiles:
    """The files in one directory. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, content: bytes) -> str:
        """Keep the content durably; return its SHA-256. Raises OSError."""
        name = hashlib.sha256(content).hexdigest()
        self._directory.mkdir(mode=0o700, exist_ok=True)
        fresh = self._directory / f"{name}.{os.urandom(4).hex()}.new"
        try:
            with fresh.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path(name))
        finally:
            fresh.unlink(missing_ok=True)
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return name

    def path(self, sha256: str) -> Path:
        """Where the file with this content is, if it is there."""
        return self._directory / sha256

    def tidy(self, keep: Set[str]) -> int:
        """Remove files that are not among `keep`, some time after they were made; return how many went."""
        if not self._directory.exists():
            return 0
        before, gone = time.time() - _GRACE, 0
        for path in self._directory.iterdir():
            if path.name not in keep and path.stat().st_mtime < before:
                path.unlink()
                gone += 1
        return gone
