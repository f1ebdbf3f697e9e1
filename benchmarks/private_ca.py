"""`private_ca_issue`: P-256 leaves from a CA in the vault, stored and audited, against signing and committing alone.

Requests of 32 clients are signed, each with its entry in the CA's ledger and its audit record, durable before the
answer. `private_ca_200` is the way of the vault's own certificates: the key is made here, and the engine issues.
"""

from __future__ import annotations

import json
import sqlite3
import time
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
from benchmarks.load import Poller, Target, drive
from benchmarks.row import Row
from benchmarks.self_signed import many
from tests.support.broker import DevBroker

_CLIENTS = 32
_LEAVES = 1600
_ROUNDS = 3
_POLICY = {
    "policy": {
        "key_props": {"kty": "EC", "crv": "P-256"},
        "x509_props": {"subject": "", "sans": {"dns_names": ["bench.example"]}},
        "issuer": {"name": "ca"},
    }
}
_BODY = json.dumps(_POLICY).encode()
_NAMES = x509.SubjectAlternativeName([x509.DNSName("bench.example")])


def private_ca(scratch: Path) -> list[Row]:
    with DevBroker(private_directory(scratch, "private-ca")) as broker:
        ours = target(broker)
        _prepare(ours)
        rounds = [(_signed(ours), _vaults_own(ours, turn), _bare(scratch / f"ca{turn}.db")) for turn in range(_ROUNDS)]
    rows = []
    for name, column in (("private_ca_issue", 0), ("private_ca_200", 1)):
        value, base = median(each[column] for each in rounds), median(each[2] for each in rounds)
        rows.append(Row(name, value, "1/s", base, median(each[column] / each[2] for each in rounds)))
    return rows


def _prepare(ours: Target) -> None:
    """A root, a CA below it, and an issuer that signs with that."""
    wanted = (
        ("POST", "authorities/root/create", {"subject": "CN=Bench Root"}),
        ("POST", "authorities/issuing/create", {"subject": "CN=Bench CA", "parent": "root"}),
        ("PUT", "certificates/issuers/ca", {"provider": "PrivateCA", "org_details": {"id": "ca=issuing"}}),
    )
    for method, path, body in wanted:
        request = ours.request(method, f"/{path}?{VERSION}", json.dumps(body).encode())
        result = uvloop.run(drive(ours, iter([request]), 1))
        assert set(result.statuses) <= {200, 201}, result.statuses


def _signed(ours: Target) -> float:
    """Requests signed a second."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(_NAMES, critical=True)
    csr = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    request = ours.request("POST", f"/authorities/issuing/sign?{VERSION}", json.dumps({"csr": csr}).encode())
    result = uvloop.run(drive(ours, (request for _ in range(_LEAVES)), _CLIENTS))
    assert result.statuses == {201: _LEAVES}, result.statuses
    return result.per_second


def _vaults_own(ours: Target, turn: int) -> float:
    """Certificates of the vault a second."""
    with closing(Poller(ours)) as poller:
        return many(ours, poller, f"ca{turn}", _BODY)


def _bare(path: Path) -> float:
    """What the machine allows: sign a leaf with a key that is in memory and commit it durably, one after the other."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE certificates (name TEXT PRIMARY KEY, certificate BLOB)")
    ca, public = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1()).public_key()
    issuer, now = x509.Name.from_rfc4514_string("CN=Bench CA"), datetime.now(UTC)
    started = time.perf_counter()
    for n in range(_LEAVES):
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=90))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_NAMES, critical=True)
            .sign(ca, hashes.SHA256())
        )
        database.execute("INSERT INTO certificates VALUES (?, ?)", (f"n{n}", certificate.public_bytes(Encoding.DER)))
    seconds = time.perf_counter() - started
    database.close()
    return _LEAVES / seconds
