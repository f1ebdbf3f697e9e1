"""`read_secret`: reading a secret, authenticated, sealed at rest and audited, against a bare endpoint."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import uvloop

from benchmarks.broker import VERSION, private_directory, target
from benchmarks.load import Target, drive, for_seconds
from benchmarks.row import Row
from tests.support.broker import DevBroker

_ROUNDS = 5
_SECONDS = 2.0
_CONNECTIONS = 32


def read_secret(scratch: Path) -> Row:
    with DevBroker(private_directory(scratch, "read")) as broker:
        ours = target(broker)
        body = b'{"value":"' + b"x" * 32 + b'"}'
        put = ours.request("PUT", f"/secrets/bench?{VERSION}", body)
        assert uvloop.run(drive(ours, iter([put]), 1)).statuses == {200: 1}
        certificate = Path(broker.env["SSL_CERT_FILE"]).parent
        port_file = scratch / "bare.port"
        files = [str(certificate / "server.pem"), str(certificate / "server.key"), str(port_file)]
        bare = subprocess.Popen([sys.executable, "-m", "benchmarks.bare", *files])
        try:
            while not port_file.exists() or not port_file.read_text():
                time.sleep(0.05)
            plain = Target("127.0.0.1", int(port_file.read_text()), ours.ca)
            rates = [
                (_rate(ours, f"/secrets/bench/?{VERSION}"), _rate(plain, "/secrets/bench/")) for _ in range(_ROUNDS)
            ]
        finally:
            bare.terminate()
            bare.wait()
    ratio = median(mine / base for mine, base in rates)
    return Row("read_secret", median(mine for mine, _ in rates), "1/s", median(base for _, base in rates), ratio)


def _rate(server: Target, path: str) -> float:
    result = uvloop.run(drive(server, for_seconds(server.request("GET", path), _SECONDS), _CONNECTIONS))
    assert set(result.statuses) == {200}, result.statuses
    return result.per_second
