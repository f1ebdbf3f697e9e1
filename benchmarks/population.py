"""A broker's database with very many certificates: some that the broker has made and renewed, and copies of them.

A copy is complete, from its policy to the journals of its operations, and has the names and the key of the one that it
was copied from. Its key cannot be opened, because it is sealed for another name; nothing that is measured opens keys.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from benchmarks.simulation.ca import SimulatedCA
from benchmarks.simulation.issuer import SimulatedKind
from benchmarks.simulation.site import BrokerClock, Site
from benchmarks.simulation.world import DAY, LIVES, SILENT, SUGGESTING, Wanted
from certbroker.app import Core, unseal
from certbroker.config import build
from certbroker.foundation import lay_foundation
from certbroker.ports.issuer import IssuerKind
from certbroker.services.issuers.registered_domains import registered_domain
from certbroker.store.moments import micros as _micros

VAULT: Final = "many"

# Of each life as many. Those of 45 and 47 days have been renewed, so that there are versions and operations before the
# current ones; those of six days would have ten of them.
_ORIGINALS: Final = 20
_LIVES: Final = LIVES[1:]
_PAST: Final = 40 * DAY

# The looks at the copies are spread over this time, from an hour on: nothing is due while something is measured.
_AHEAD: Final = 30 * DAY

# How often others can be chosen.
_TURNS: Final = 10

# Copies of each original in one commit.
_BATCH: Final = 5000

# What each table has of a copy that differs from its original; the rest is the same.
_NAME: Final = "name || printf('-%07d', number)"
_ID: Final = "printf('%07x-', number) || {}"
_COPIED: Final = {
    "objects": {"name": _NAME, "display": "display || printf('-%07d', number)"},
    "versions": {"name": _NAME},
    "policies": {"name": _NAME},
    "lifecycles": {"name": _NAME, "act_at": ":first + :step * (number * 20 + o.rowid)"},
    "operations": {"id": _ID.format("id"), "name": _NAME, "display": "display || printf('-%07d', number)"},
    "journal": {"operation_id": _ID.format("operation_id")},
}


class Population:
    """A data directory with a vault of `count` certificates, of which nothing is due."""

    def __init__(self, directory: Path, count: int) -> None:
        self.directory = directory
        self.count = count
        self._clock = BrokerClock(datetime.now(UTC) - _PAST)
        self._cas = {ca: self._ca(ca) for ca in (SUGGESTING, SILENT)}
        self._kinds: dict[str, IssuerKind] = {"simulated": SimulatedKind(self._cas, DAY, lambda: None)}
        self._live()
        self._copy()

    @contextmanager
    def opened(self) -> Iterator[Core]:
        """The broker on it, in this process and without an engine, by the machine's clock."""
        core = unseal(lay_foundation(build({"data": {"directory": self.directory}})), kinds=self._kinds)
        try:
            yield core
        finally:
            core.close()

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """The bare database."""
        with closing(sqlite3.connect(self.directory / "certbroker.db", isolation_level=None)) as connection:
            yield connection

    def names(self, count: int, turn: int) -> list[str]:
        """So many certificates, scattered over all; others at each turn."""
        copies = random.Random(turn).sample(range(turn, self.count - _ORIGINALS, _TURNS), count)
        return [f"cert-{copy % _ORIGINALS}-{copy // _ORIGINALS + 1:07d}" for copy in copies]

    def make_due(self, count: int) -> None:
        """Have so many certificates due for a look, scattered over all. Nobody else may write meanwhile."""
        with self.connected() as connection:
            rows = random.Random(0).sample(range(1, self.count), count)
            connection.executemany(
                "UPDATE lifecycles SET act_at = ? WHERE rowid = ?", [(_micros(datetime.now(UTC)), row) for row in rows]
            )

    def _ca(self, name: str) -> SimulatedCA:
        return SimulatedCA(
            name,
            lambda: self._clock.moment,
            suggests=name == SUGGESTING,
            lives={wanted.dns_names: wanted.life for wanted in _originals(self._clock.moment)},
            domain_of=registered_domain,
        )

    def _live(self) -> None:
        """Have the originals made and looked after until now."""
        site = Site(self.directory, self._clock, self._kinds)
        try:
            for wanted in _originals(self._clock.moment):
                site.ask(wanted)
            now = datetime.now(UTC)
            while (due := site.next_due()) is not None and due < now:
                self._clock.moment = max(due, self._clock.moment)
                site.work()
            self._clock.moment = now
            site.keep_house()
            site.database.save()
        finally:
            site.close()

    def _copy(self) -> None:
        copies = self.count // _ORIGINALS
        step = _AHEAD // timedelta(microseconds=1) // self.count
        values = {"first": _micros(datetime.now(UTC) + timedelta(hours=1)), "step": step}
        with self.connected() as connection:
            # A file that is not whole is thrown away.
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -262144"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("UPDATE lifecycles SET act_at = :first + :step * rowid", values)
            connection.execute("CREATE TEMP TABLE numbers (number INTEGER PRIMARY KEY)")
            for table in _COPIED:
                connection.execute(f"CREATE TEMP TABLE original_{table} AS SELECT * FROM {table}")
            for begin in range(1, copies, _BATCH):
                numbers = range(begin, min(begin + _BATCH, copies))
                connection.execute("BEGIN")
                connection.execute("DELETE FROM numbers")
                connection.executemany("INSERT INTO numbers VALUES (?)", ((number,) for number in numbers))
                for table, changes in _COPIED.items():
                    connection.execute(_copying(connection, table, changes), values)
                connection.execute("COMMIT")


def _copying(connection: sqlite3.Connection, table: str, changes: Mapping[str, str]) -> str:
    """The statement that makes a copy of each original for each number."""
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    chosen = ", ".join(changes.get(column, column) for column in columns)
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen} FROM original_{table} AS o CROSS JOIN numbers"


def _originals(at: datetime) -> list[Wanted]:
    """Certificates for a name or two, of all lives."""
    found = []
    for number in range(_ORIGINALS):
        days, ca = _LIVES[number % len(_LIVES)]
        host = f"host-{number}.site-{number % 7}.example"
        names = (host, f"www.{host}")[: 1 + number % 2]
        found.append(Wanted(f"cert-{number}", VAULT, names, ca, days * DAY, at))
    return found
