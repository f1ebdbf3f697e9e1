"""Statements find their rows by an index, so that a million certificates cost them no more than a hundred."""

from __future__ import annotations

import pkgutil
import sqlite3
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import certbroker.store
from certbroker.store import migrations
from certbroker.store.statement import Statement

# These walk over a table, because it is small, because they want all of it, which is seldom, or up to a limit.
WALKS = {
    "deployments": {"_ALL"},
    "endpoints": {"_COUNT"},
    "channels": {"_EVERYWHERE", "_RELEASE_ALL", "_CALL_BACK", "_VAULTS", "_ADD_CONTACTS", "_ENABLE_CONTACTS"},
    "discovery": {"_CALL_BACK", "_COUNTS", "_DOMAINS", "_DROP", "_TASKS"},
    "drills": {"_LIST"},
    "identity": {"_LIST", "_ASSIGNMENTS"},
    "issuers": {"_HEALTHS", "_PROVIDERS", "_EXPIRE_CHALLENGES", "_REMOVE_JOURNALLED"},
    "lifecycles": {"_COUNTS"},
    "publications": {"_PUBLISHED", "_PROBLEMS", "_STANDINGS", "_ORPHANS"},
    "totals": {"_WAITING", "_HOW_MANY", "_CURRENT"},
    "vaults": {"_FIND", "_LIST", "_KEKS"},
}

# An index that has only the rows in question may be walked over, as may a list that is a parameter.
SMALL = (
    "USING INDEX operations_open",
    "USING INDEX outbox_dead",
    "lifecycles_health",
    "endpoints_amiss",
    "VIRTUAL TABLE",
    "revocation_sources_passing",
    "revocation_sources_unwell",
    "revocation_sources_lists",
    "revocation_watches_standing",
)


def _statements() -> Iterator[tuple[str, str, Statement]]:
    for module in pkgutil.iter_modules(certbroker.store.__path__):
        if not module.ispkg:
            for name, value in vars(import_module(f"certbroker.store.{module.name}")).items():
                for each in value if isinstance(value, tuple) else (value,):
                    if isinstance(each, Statement):
                        yield module.name, name, each


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path: Path = tmp_path_factory.mktemp("plans") / "certbroker.db"
    migrations.upgrade(path)
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


@pytest.mark.parametrize(("module", "name", "statement"), list(_statements()))
def test_no_statement_walks_over_a_table(
    database: sqlite3.Connection, module: str, name: str, statement: Statement
) -> None:
    statement._compile()
    rows = database.execute(f"EXPLAIN QUERY PLAN {statement._sql}", [None] * len(statement._names)).fetchall()
    walks = [row[3] for row in rows if row[3].startswith("SCAN") and not any(each in row[3] for each in SMALL)]

    assert name in WALKS.get(module, ()) or [] == walks


def test_certificates_that_are_due_are_claimed_without_a_walk_over_their_vaults(database: sqlite3.Connection) -> None:
    (claim,) = (each for module, name, each in _statements() if (module, name) == ("lifecycles", "_CLAIM"))
    claim._compile()
    rows = database.execute(f"EXPLAIN QUERY PLAN {claim._sql}", [None] * len(claim._names)).fetchall()

    assert "rowid=?" in rows[0][3]


@pytest.mark.parametrize(
    ("module", "name", "index"),
    [
        ("operations", "_URGENT", "operations_urgent (urgency=? AND act_at<?)"),
        ("lifecycles", "_CLAIM_URGENT", "lifecycles_urgent (urgency=? AND act_at<?)"),
    ],
)
def test_what_is_urgent_is_found_by_an_index_of_its_own(
    database: sqlite3.Connection, module: str, name: str, index: str
) -> None:
    (statement,) = (each for where, label, each in _statements() if (where, label) == (module, name))
    statement._compile()
    rows = database.execute(f"EXPLAIN QUERY PLAN {statement._sql}", [None] * len(statement._names)).fetchall()

    assert any(index in row[3] for row in rows), rows
