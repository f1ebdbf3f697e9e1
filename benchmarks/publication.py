"""`ocsp_reply` and `crl_1m`: what private CAs publish, served and made."""

from __future__ import annotations

import base64
import itertools
import json
import secrets
import sqlite3
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

import uvloop
from cryptography import x509

from benchmarks.broker import private_directory
from benchmarks.load import Target, drive
from benchmarks.row import Row
from certbroker.domain.authority import serial_text
from pebble.loopback import free_ports
from tests.support.publishing_bench import PublishingBench, certificate_of, request_for
from tests.support.serving import Installation

_ROUNDS = 5
_SECONDS = 2.0
_CONNECTIONS = 32
_CERTIFICATES = 500
_ENTRIES = 1_000_000

_PUBLISH = """
import json, resource, sys, time
from pathlib import Path
from tests.support.publishing_bench import PublishingBench
bench = PublishingBench(Path(sys.argv[1]))
began = time.perf_counter()
bench.publish()
took = time.perf_counter() - began
bench.close()
print(json.dumps([took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def ocsp_reply(scratch: Path) -> list[Row]:
    """Replies about hundreds of certificates in turn, by POST and by GET, against a static JSON endpoint; no TLS."""
    installation = Installation(private_directory(scratch, "ocsp"))
    bench = PublishingBench(installation.data)
    ca = bench.ca("ca")
    requests = [request_for(ca, bench.issue(ca)) for _ in range(_CERTIFICATES)]
    bench.publish()
    bench.close()
    ours, port_file = Target("127.0.0.1", free_ports(1)[0], None), scratch / "plain.port"
    installation.configure(f'[pki]\nlisten = "127.0.0.1:{ours.port}"\nurl = "http://127.0.0.1:{{port}}"')
    path = f"/ocsp/{ca.id}"
    posts = [ours.request("POST", path, request) for request in requests]
    gets = [ours.request("GET", f"{path}/{urllib.parse.quote(base64.b64encode(each), safe='')}") for each in requests]
    with installation.serve() as broker:
        broker.wait("ok")
        bare = subprocess.Popen([sys.executable, "-m", "benchmarks.bare", "", "", str(port_file)])
        try:
            while not port_file.exists() or not port_file.read_text():
                time.sleep(0.05)
            plain = Target("127.0.0.1", int(port_file.read_text()), None)
            secret = [plain.request("GET", "/secrets/bench/")]
            rates = [(_rate(ours, posts), _rate(ours, gets), _rate(plain, secret)) for _ in range(_ROUNDS)]
        finally:
            bare.terminate()
            bare.wait()
        broker.stop()
    base = median(rate[2] for rate in rates)
    return [
        Row(name, median(rate[place] for rate in rates), "1/s", base, median(rate[place] / rate[2] for rate in rates))
        for place, name in enumerate(("ocsp_reply", "ocsp_reply_get"))
    ]


def crl_1m(scratch: Path) -> list[Row]:
    """A list of a million entries, from the ledger to the file, in a process of its own."""
    directory = private_directory(scratch, "crl")
    bench = PublishingBench(directory)
    ca = bench.ca("ca")
    bench.publish()
    now = int(bench.clock.now().timestamp())
    bench.revoke(ca, bench.issue(ca))
    bench.close()
    with closing(sqlite3.connect(directory / "certbroker.db")) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executemany(
            "INSERT INTO issued (authority, serial, sha256, vault_id, name, version, profile, not_after, shard, "
            "revoked, reason) VALUES (?, ?, '', 1, '', '', 'server', ?, 0, ?, 1)",
            ((ca.id, serial_text(secrets.randbits(127)), now + 10**7, now - n % 10**6) for n in range(1, _ENTRIES)),
        )
        connection.commit()
    done = subprocess.run([sys.executable, "-c", _PUBLISH, str(directory)], capture_output=True, text=True, check=True)
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    made = max((directory / "published").iterdir(), key=lambda path: path.stat().st_size)
    crl = x509.load_der_x509_crl(made.read_bytes())
    assert len(crl) == _ENTRIES
    assert crl.is_signature_valid(certificate_of(ca).public_key())
    return [Row("crl_1m_generate_s", seconds, "s"), Row("crl_1m_generate_rss_mb", memory, "MiB")]


def _rate(server: Target, requests: list[bytes]) -> float:
    result = uvloop.run(drive(server, _turns(requests), _CONNECTIONS))
    assert set(result.statuses) == {200}, result.statuses
    return result.per_second


def _turns(requests: list[bytes]) -> Iterator[bytes]:
    until = time.perf_counter() + _SECONDS
    for request in itertools.cycle(requests):
        if time.perf_counter() >= until:
            return
        yield request
