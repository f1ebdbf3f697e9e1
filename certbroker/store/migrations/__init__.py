"""Brings a database to the schema that this version of the program needs. Migrations go forward only."""

from __future__ import annotations

import multiprocessing
import sqlite3
import sys
from pathlib import Path
from typing import Final

# The newest revision, so that a start with an up-to-date database need not import Alembic. A test compares it.
HEAD: Final = "0017"

_HERE: Final = Path(__file__).parent


def upgrade(path: Path) -> bool:
    """Create or migrate the SQLite database; return whether there was anything to do. Raises sqlite3.Error."""
    if _revision(path) == HEAD:
        return False
    from alembic import command
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    configuration.attributes["path"] = path
    command.upgrade(configuration, "head")
    return True


def upgrade_apart(path: Path) -> None:
    """The same by a process of its own, so that a broker that runs for years does not keep Alembic: that is 10 MB.

    To be called while the caller has no other threads, since it forks.
    """
    if sys.platform == "linux" and _revision(path) != HEAD:
        child = multiprocessing.get_context("fork").Process(target=upgrade, args=(path,))
        child.start()
        child.join()
    # Tells what has gone wrong, if something has; else there is nothing left to do.
    upgrade(path)


def _revision(path: Path) -> str | None:
    """The revision that the database is at; None for a new one."""
    connection = sqlite3.connect(path)
    try:
        # WAL is a property of the file: set once, it holds for every connection.
        connection.execute("PRAGMA journal_mode = WAL")
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    finally:
        connection.close()
    return str(row[0]) if row else None
