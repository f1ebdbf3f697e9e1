"""`self_signed_latency_ms` and `self_signed_200`: from the request to a certificate that can be read."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks.broker import VERSION, private_directory, target
from benchmarks.load import PAUSE, Poller, Target, drive
from benchmarks.row import Row
from tests.support.broker import DevBroker

_POLICY = {
    "policy": {
        "key_props": {"kty": "EC", "crv": "P-256"},
        "x509_props": {"subject": "CN=bench.example", "sans": {"dns_names": ["bench.example"]}},
        "issuer": {"name": "Self"},
    }
}
_BODY = json.dumps(_POLICY).encode()
_MANY = 200
_ROUNDS = 3


def self_signed(scratch: Path) -> list[Row]:
    with DevBroker(private_directory(scratch, "self")) as broker:
        ours = target(broker)
        with closing(Poller(ours)) as poller:
            latencies = [_one(ours, poller, f"one-{n}") * 1000 for n in range(20)]
            rates = [(many(ours, poller, f"many{turn}"), _bare(scratch / f"self{turn}.db")) for turn in range(_ROUNDS)]
    ratio = median(mine / base for mine, base in rates)
    return [
        Row("self_signed_latency_ms", median(latencies), "ms"),
        Row("self_signed_200", median(mine for mine, _ in rates), "1/s", median(base for _, base in rates), ratio),
    ]


def _one(ours: Target, poller: Poller, name: str) -> float:
    """Seconds from the request until the certificate is readable. Connecting for the request is not counted."""
    started = time.perf_counter()
    connecting = uvloop.run(create(ours, [name], 1))
    while "cer" not in poller.get(f"/certificates/{name}/?{VERSION}")[1]:
        time.sleep(0.001)
    return time.perf_counter() - started - connecting


def many(ours: Target, poller: Poller, prefix: str, body: bytes = _BODY) -> float:
    """Certificates a second, when this many are asked for at once, and each is asked about until it is complete."""
    names = [f"{prefix}-{n:03}" for n in range(_MANY)]
    answers: list[bytes] = []
    result = uvloop.run(drive(ours, _until_complete(ours, names, body, answers), 32, bodies=answers))
    assert set(result.statuses) == {200, 202}, result.statuses
    for name in names:
        assert poller.get(f"/certificates/{name}/?{VERSION}")[1]["cer"], name
    return _MANY / result.seconds


def _until_complete(ours: Target, names: list[str], body: bytes, answers: list[bytes]) -> Iterator[bytes]:
    """Requests for certificates, and then for each operation that was acknowledged, until it has completed."""
    unasked, unfinished = deque(names), set(names)
    acknowledged: deque[str] = deque()
    while True:
        while answers:
            operation = json.loads(answers.pop())
            name = operation["id"].split("/")[-2]
            if operation["status"] == "inProgress":
                acknowledged.append(name)
            else:
                unfinished.remove(name)
        if unasked:
            yield ours.request("POST", f"/certificates/{unasked.popleft()}/create?{VERSION}", body)
        elif acknowledged:
            yield ours.request("GET", f"/certificates/{acknowledged.popleft()}/pending?{VERSION}")
        elif unfinished:
            yield PAUSE
        else:
            return


async def create(ours: Target, names: list[str], connections: int, body: bytes = _BODY) -> float:
    """Ask for these certificates; returns the seconds that connecting took."""
    started = time.perf_counter()
    requests = (ours.request("POST", f"/certificates/{name}/create?{VERSION}", body) for name in names)
    result = await drive(ours, requests, connections)
    assert result.statuses == {202: len(names)}, result.statuses
    return time.perf_counter() - started - result.seconds


def _bare(path: Path) -> float:
    """What the machine allows: make a key, sign a certificate, commit it durably, one after the other."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE certificates (name TEXT PRIMARY KEY, certificate BLOB)")
    started = time.perf_counter()
    now = datetime.now(UTC)
    name = x509.Name.from_rfc4514_string("CN=bench.example")
    for n in range(_MANY):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("bench.example")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        database.execute("INSERT INTO certificates VALUES (?, ?)", (f"n{n}", certificate.public_bytes(Encoding.DER)))
    seconds = time.perf_counter() - started
    database.close()
    return _MANY / seconds
