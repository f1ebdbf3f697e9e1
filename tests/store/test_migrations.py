"""Migrations make exactly the schema that the code expects."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
from sqlmodel import SQLModel

from certbroker.store import migrations, tables


def test_the_migrated_schema_is_that_of_the_tables(database: Path) -> None:
    assert tables.AuditRow.__tablename__ in SQLModel.metadata.tables
    engine = create_engine(f"sqlite:///{database}", poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        differences = compare_metadata(context, SQLModel.metadata)

    assert [] == differences


def test_a_schema_made_from_the_tables_has_the_same_indexes(database: Path, tmp_path: Path) -> None:
    """Alembic does not compare the conditions of partial indexes, on which the engine's speed depends."""
    engine = create_engine(f"sqlite:///{tmp_path / 'made.db'}", poolclass=NullPool)
    SQLModel.metadata.create_all(engine)

    assert _indexes(tmp_path / "made.db") == _indexes(database)


def _indexes(path: Path) -> dict[str, str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        ).fetchall()
    connection.close()
    return {name: " ".join(sql.replace('"', "").split()) for name, sql in rows}


def test_the_newest_revision_is_the_one_that_a_start_looks_for() -> None:
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))

    assert [migrations.HEAD] == ScriptDirectory.from_config(configuration).get_heads()


def test_revocations_from_before_keep_the_place_that_asked_first(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    configuration.attributes["path"] = path
    command.upgrade(configuration, "0015")
    row = ("5a", 1, "Web", "v1", b"leaf", "6b", "ca", "superseded", 1, None, 7, 8, 2, None, "The CA is down.")
    connection = sqlite3.connect(path)
    connection.execute(f"INSERT INTO revocations VALUES ({', '.join('?' * len(row))})", row)
    connection.commit()
    migrations.upgrade(path)
    kept = connection.execute("SELECT * FROM revocations").fetchall()
    keys = connection.execute("SELECT name FROM pragma_table_info('revocations') WHERE pk > 0 ORDER BY pk").fetchall()
    connection.close()

    assert [row] == kept
    assert [("sha256",), ("vault_id",), ("name",)] == keys


def test_a_second_upgrade_has_nothing_to_do(database: Path) -> None:
    assert not migrations.upgrade(database)


def test_a_path_with_odd_characters_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "a b%c?#" / "certbroker.db"
    path.parent.mkdir()

    assert migrations.upgrade(path)
    assert not migrations.upgrade(path)
    assert path.exists()


def test_the_database_writes_ahead(database: Path) -> None:
    connection = sqlite3.connect(database)
    mode = connection.execute("PRAGMA journal_mode").fetchone()
    connection.close()

    assert ("wal",) == mode


def test_a_process_of_its_own_makes_the_same_schema_and_tells_what_fails(database: Path, tmp_path: Path) -> None:
    migrations.upgrade_apart(tmp_path / "apart.db")

    assert _indexes(tmp_path / "apart.db") == _indexes(database)
    (tmp_path / "garbage.db").write_bytes(b"garbage" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        migrations.upgrade_apart(tmp_path / "garbage.db")
