"""Whether the broker can do what it is there for, and if not, why: for whoever decides to send requests to it."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Final

from certbroker.services.health.pulse import Part, Pulse, Sign
from certbroker.store.database import SQLiteStore

# Below this much free disk, in bytes, commits are about to fail: the write-ahead log of one rotation takes more.
DISK_RESERVE: Final = 64 * 1024 * 1024

_WHAT: Final = {
    Part.ISSUE: "The engine has not worked on operations",
    Part.RENEW: "The engine has not looked after certificates",
    Part.REVOKE: "The engine has not seen to revocations",
    Part.DRILL: "The engine has not gone on with drills",
    Part.PUBLISH: "The engine has not seen to what private CAs publish",
    Part.DISCOVER: "The engine has not gone on with discovery",
    Part.WATCH: "The engine has not watched for revocations",
    Part.NOTIFY: "The engine has not delivered events",
    Part.PROBE: "The engine has not looked at endpoints",
    Part.DEPLOY: "The engine has not deployed certificates",
    Part.ROTATE: "The engine has not looked after keys",
    Part.BEAT: "The database has not been written",
}


class Readiness:
    """Judges the broker from within. There is one for the whole life of the process, sealed or not."""

    def __init__(self, store: SQLiteStore, directory: Path, pulse: Pulse) -> None:
        self._store = store
        self._directory = directory
        self._pulse = pulse
        self.sealed: str | None = "It has not been tried yet."
        """Why the seal is not open; None once it is."""

    @property
    def directory(self) -> Path:
        """Where the database is."""
        return self._directory

    def reasons(self) -> list[str]:
        """Why the broker is not ready, in sentences; nothing when it is. Blocks for as long as a look at the disk."""
        found = []
        if self.sealed is not None:
            found.append(f"The broker is sealed. {self.sealed}")
        else:
            signs = self._pulse.signs()
            if not signs:
                found.append("The engine has not started.")
            found += [_silence(sign) for sign in signs if not sign.is_fresh]
        return found + self._disk() + self._database()

    def disk_free(self) -> int:
        """Bytes that are left for the database. Raises OSError."""
        return shutil.disk_usage(self._directory).free

    def _disk(self) -> list[str]:
        try:
            free = self.disk_free()
        except OSError as error:
            return [f"The data directory cannot be looked at: {error.strerror}."]
        if free >= DISK_RESERVE:
            return []
        return [f"The disk of the data directory is full: {free >> 20} MB are left, {DISK_RESERVE >> 20} are needed."]

    def _database(self) -> list[str]:
        try:
            self._store.glance().vaults.setting("engine.beat")
        except sqlite3.Error as error:
            return [f"The database cannot be read: {error}."]
        return []


def _silence(sign: Sign) -> str:
    why = f": {sign.problem}" if sign.problem else ""
    return f"{_WHAT[sign.part]} for {sign.age:.0f} seconds{why}."
