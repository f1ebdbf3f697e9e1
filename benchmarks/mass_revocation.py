"""`mass_revocation_per_s`, `mass_revocation_create_ms`: ten thousand certificates of one issuer are revoked at once.

The CA's CRL has all of them, each is found on it and replaced with a new key, against a CA in the same process that
takes no time to think. Meanwhile somebody asks for self-signed certificates in another vault, one after the other: what
that takes is set beside what it took before.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from benchmarks.broker import VERSION, private_directory
from benchmarks.load import Poller, Target
from benchmarks.revoked_site import HOST
from benchmarks.row import Row

_COUNT: Final = 10_000
_BODY: Final = json.dumps({
    "policy": {
        "key_props": {"kty": "EC", "crv": "P-256"},
        "x509_props": {"subject": "CN=bench.example", "sans": {"dns_names": ["bench.example"]}},
        "issuer": {"name": "Self"},
    }
}).encode()  # fmt: skip
_BEFORE: Final = 60
_PAUSE: Final = 0.05  # Seconds between two that are asked for, as a person or a service has other things to do too.


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds from the new CRL to the last replacement, and for each create before and meanwhile.

    `cpu` is what the broker's process has used meanwhile, the CA and the creates included.
    """

    count: int
    seconds: float
    cpu: float
    issued: int
    doubled: int
    before: list[float]
    meanwhile: list[float]


def mass_revocation(scratch: Path) -> list[Row]:
    found = replaced(private_directory(scratch, "revoked"), _COUNT, _BEFORE)
    before, meanwhile = median(found.before), median(found.meanwhile)
    late, late_before = quantiles(found.meanwhile, n=20)[-1], quantiles(found.before, n=20)[-1]
    return [
        Row("mass_revocation_per_s", found.count / found.seconds, "1/s"),
        Row("mass_revocation_create_ms", 1000 * meanwhile, "ms", 1000 * before, meanwhile / before),
        Row("mass_revocation_create_p95_ms", 1000 * late, "ms", 1000 * late_before, late / late_before),
    ]


def replaced(directory: Path, count: int, before: int) -> Outcome:
    """Have so many certificates revoked and replaced, after so many creates."""
    with _site(directory, count) as process:
        where = _line(process)
        target = Target(HOST, where["port"], where["ca"], {"Authorization": f"Bearer {where['token']}"})
        with closing(Poller(target)) as poller:
            for number in range(5):  # The first takes what the first of anything takes.
                _one(poller, f"warm-{number}")
            usual = [_one(poller, f"before-{number}") for number in range(before)]
            assert process.stdin is not None
            process.stdin.write("revoke\n")
            process.stdin.flush()
            told: list[dict[str, Any]] = []
            waiting = threading.Thread(target=lambda: told.append(_line(process)))
            waiting.start()
            meanwhile: list[float] = []
            while waiting.is_alive():
                meanwhile.append(_one(poller, f"meanwhile-{len(meanwhile)}"))
    end = told[0]
    return Outcome(count, end["seconds"], end["cpu"], end["issued"], end["doubled"], usual, meanwhile)


def _one(poller: Poller, name: str) -> float:
    """Seconds from the request until the certificate is readable."""
    time.sleep(_PAUSE)
    started = time.perf_counter()
    status, said = poller.ask("POST", f"/certificates/{name}/create?{VERSION}", _BODY)
    assert status == 202, said
    while "cer" not in poller.get(f"/certificates/{name}/?{VERSION}")[1]:
        time.sleep(0.002)
    return time.perf_counter() - started


@contextmanager
def _site(directory: Path, count: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.revoked_site", str(directory), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found
