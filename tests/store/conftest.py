"""The real store on a fresh database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certbroker.store import migrations
from certbroker.store.database import SQLiteStore


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "certbroker.db"
    migrations.upgrade(path)
    return path


@pytest.fixture
def store(database: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(database, "writer")
    yield store
    store.close()
