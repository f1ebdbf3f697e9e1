"""One bench for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from certbroker.store import migrations
from tests.support.publishing_bench import PublishingBench


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrations take longer than most of these tests, so they are run once."""
    path = tmp_path_factory.mktemp("empty") / "certbroker.db"
    migrations.upgrade(path)
    return path


@pytest.fixture
def bench(tmp_path: Path, empty_database: Path) -> Iterator[PublishingBench]:
    shutil.copy(empty_database, tmp_path / "certbroker.db")
    bench = PublishingBench(tmp_path)
    yield bench
    bench.close()
