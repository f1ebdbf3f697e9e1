"""`write_secret`: durable writes with 32 clients, against group commits of 32 rows on the bare database."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from statistics import median

import uvloop

from benchmarks.broker import VERSION, private_directory, target
from benchmarks.load import drive
from benchmarks.row import Row
from tests.support.broker import DevBroker

_CLIENTS = 32
_WRITES = 3200
_ROUNDS = 3


def write_secret(scratch: Path) -> Row:
    directory = private_directory(scratch, "write")
    with DevBroker(directory) as broker:
        ours = target(broker)
        rates: list[tuple[float, float]] = []
        for turn in range(_ROUNDS):
            body = b'{"value":"' + b"x" * 32 + b'"}'
            requests = (ours.request("PUT", f"/secrets/w-{turn}-{n}?{VERSION}", body) for n in range(_WRITES))
            result = uvloop.run(drive(ours, requests, _CLIENTS))
            assert result.statuses == {200: _WRITES}, result.statuses
            rates.append((result.per_second, _bare(directory / f"bare{turn}.db")))
    ratio = median(mine / base for mine, base in rates)
    return Row("write_secret", median(mine for mine, _ in rates), "1/s", median(base for _, base in rates), ratio)


def _bare(path: Path) -> float:
    """Rows a second in groups of 32, each group durable."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE rows (name TEXT PRIMARY KEY, a BLOB, b BLOB, c TEXT, d INTEGER)")
    payload = os.urandom(60)
    started = time.perf_counter()
    for group in range(_WRITES // _CLIENTS):
        database.execute("BEGIN IMMEDIATE")
        for n in range(_CLIENTS):
            database.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", (f"w{group}-{n}", payload, payload, "{}", n))
        database.execute("COMMIT")
    seconds = time.perf_counter() - started
    database.close()
    return _WRITES / seconds
