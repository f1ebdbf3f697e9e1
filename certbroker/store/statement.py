"""Statements compiled once, run on the DBAPI cursor.

Building and compiling a SQLAlchemy statement costs ten times what SQLite needs to run it, and a Session more than that
again. So the statements are written with SQLAlchemy (which knows the dialects), compiled at the first use, and from
then on cost a dictionary look-up and a tuple.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, Protocol

from sqlalchemy import Dialect, Select, bindparam, insert, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement
from sqlmodel import SQLModel

Row = tuple[Any, ...]


class Cursor(Protocol):
    """The part of a DBAPI cursor that is used here."""

    @property
    def rowcount(self) -> int: ...

    @property
    def lastrowid(self) -> int | None: ...

    def execute(self, sql: str, parameters: Any = ..., /) -> Any: ...

    def fetchone(self) -> Any: ...

    def fetchmany(self, size: int, /) -> Any: ...

    def fetchall(self) -> Any: ...


# Rows that one statement inserts at most, as each number of them is a statement of its own to the driver.
_TOGETHER: Final = 8

_DIALECT: Final[Dialect] = sqlite.dialect(paramstyle="qmark")


class Statement:
    """One SQL statement with named parameters."""

    def __init__(self, clause: ClauseElement) -> None:
        self._clause = clause
        self._sql = ""
        self._names: tuple[str, ...] = ()
        self._constants: dict[str, Any] = {}

    def run(self, cursor: Cursor, **parameters: Any) -> Cursor:
        """Execute with these parameters; KeyError when one is missing."""
        if not self._sql:
            self._compile()
        if self._constants:
            parameters = self._constants | parameters
        cursor.execute(self._sql, tuple([parameters[name] for name in self._names]))
        return cursor

    def insert(self, cursor: Cursor, rows: list[dict[str, Any]]) -> None:
        """Insert these rows, many by one statement: the driver lets go of the interpreter for each that it executes."""
        if not self._sql:
            self._compile()
        for start in range(0, len(rows), _TOGETHER):
            some = rows[start : start + _TOGETHER]
            cursor.execute(_repeated(self._sql, len(some)), [row[name] for row in some for name in self._names])

    def one(self, cursor: Cursor, **parameters: Any) -> Row | None:
        row: Row | None = self.run(cursor, **parameters).fetchone()
        return row

    def all(self, cursor: Cursor, **parameters: Any) -> list[Row]:
        rows: list[Row] = self.run(cursor, **parameters).fetchall()
        return rows

    def _compile(self) -> None:
        compiled = self._clause.compile(dialect=_DIALECT)
        self._names = tuple(compiled.positiontup or ())  # type: ignore[attr-defined]  # on SQLCompiler, which it is
        binds = compiled.binds  # type: ignore[attr-defined]  # likewise
        self._constants = {name: binds[name].value for name in self._names if not binds[name].required}
        self._sql = str(compiled)


@lru_cache(maxsize=64)
def _repeated(sql: str, count: int) -> str:
    """An INSERT of one row as one of so many."""
    start = sql.index("VALUES (") + len("VALUES ")
    end = sql.index(")", start) + 1
    return sql[:start] + ", ".join([sql[start:end]] * count) + sql[end:]


def choose(*columns: Any) -> Select[Any]:
    """A SELECT of columns of SQLModel tables, which type each column as its value."""
    return select(*columns)


def insertion(table: type[SQLModel], *, replace: tuple[str, ...] = (), once: bool = False) -> Statement:
    """Insert a row with every column given by name.

    On a clash of primary keys the columns in `replace` are updated, or, with `once`, what is there stays.
    """
    columns = [column.name for column in table.__table__.columns]  # type: ignore[attr-defined]  # added by SQLModel
    if once:
        return Statement(
            sqlite.insert(table).values({name: bindparam(name) for name in columns}).on_conflict_do_nothing()
        )
    if not replace:
        return Statement(insert(table).values({name: bindparam(name) for name in columns}))
    upsert = sqlite.insert(table).values({name: bindparam(name) for name in columns})
    keys = [column.name for column in table.__table__.primary_key]  # type: ignore[attr-defined]  # added by SQLModel
    return Statement(
        upsert.on_conflict_do_update(index_elements=keys, set_={name: upsert.excluded[name] for name in replace})
    )
