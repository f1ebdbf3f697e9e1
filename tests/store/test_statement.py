"""Statements as the store runs them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from sqlmodel import Field, SQLModel

from certbroker.store.statement import insertion


class _Row(SQLModel, table=True):
    __tablename__ = "statement_test"

    name: str = Field(primary_key=True)
    value: int
    first: int


SQLModel.metadata.remove(_Row.__table__)  # type: ignore[attr-defined]  # Nobody else is to make it.


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE statement_test (name TEXT PRIMARY KEY, value INTEGER, first INTEGER)")
    yield connection
    connection.close()


def _rows(names: range, value: int) -> list[dict[str, object]]:
    return [{"name": f"n{number}", "value": value, "first": value} for number in names]


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 16, 50])
def test_rows_are_inserted_whatever_their_number(connection: sqlite3.Connection, count: int) -> None:
    insertion(_Row).insert(connection.cursor(), _rows(range(count), 1))

    assert count == connection.execute("SELECT count(*) FROM statement_test WHERE value = 1").fetchone()[0]


def test_a_clash_updates_what_is_to_be_replaced_of_each_row(connection: sqlite3.Connection) -> None:
    cursor, statement = connection.cursor(), insertion(_Row, replace=("value",))
    statement.insert(cursor, _rows(range(4), 1))

    statement.insert(cursor, _rows(range(2, 6), 2))

    found = connection.execute("SELECT value, first FROM statement_test ORDER BY name").fetchall()
    assert [(1, 1), (1, 1), (2, 1), (2, 1), (2, 2), (2, 2)] == found


def test_a_clash_of_one_row_leaves_none_of_those_beside_it(connection: sqlite3.Connection) -> None:
    cursor, statement = connection.cursor(), insertion(_Row)
    statement.insert(cursor, _rows(range(1), 1))

    with pytest.raises(sqlite3.IntegrityError):
        statement.insert(cursor, [*_rows(range(1, 3), 2), *_rows(range(1), 2)])

    assert [("n0", 1)] == connection.execute("SELECT name, value FROM statement_test").fetchall()
