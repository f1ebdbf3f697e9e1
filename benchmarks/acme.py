"""`acme_orders` and `acme_cpu_share`: a hundred orders in flight at once at a real ACME server."""

from __future__ import annotations

import json
import time
from pathlib import Path

import uvloop

from benchmarks.broker import VERSION, cpu_seconds, private_directory, target
from benchmarks.load import drive
from benchmarks.row import Row
from benchmarks.self_signed import create
from pebble import Pebble
from tests.support.broker import DevBroker

_ORDERS = 100


def acme(scratch: Path) -> list[Row]:
    with (
        Pebble(private_directory(scratch, "pebble"), nonce_reject=0) as ca,
        DevBroker(private_directory(scratch, "acme"), http01_port=ca.http_port, trust=[ca.ca_path]) as broker,
    ):
        ours = target(broker)
        issuer = {"provider": "ACME", "org_details": {"id": f"directory={ca.directory_url}"}}
        put = ours.request("PUT", f"/certificates/issuers/pebble?{VERSION}", json.dumps(issuer).encode())
        assert uvloop.run(drive(ours, iter([put]), 1)).statuses == {200: 1}
        pids = (broker.process.pid, *ca.pids)
        before = [cpu_seconds(pid) for pid in pids]
        started = time.perf_counter()
        names = [f"order-{n}" for n in range(_ORDERS)]
        for name in names:
            uvloop.run(create(ours, [name], 1, _body(f"{name}.example.com")))
        left = names
        while left:
            requests = (ours.request("GET", f"/certificates/{name}/pending?{VERSION}") for name in left)
            bodies: list[bytes] = []
            uvloop.run(drive(ours, requests, 1, bodies=bodies))
            replies = [json.loads(body) for body in bodies]
            assert all(reply["status"] in ("inProgress", "completed") for reply in replies), replies
            left = [name for name, reply in zip(left, replies, strict=True) if reply["status"] == "inProgress"]
            time.sleep(0.1)
        seconds = time.perf_counter() - started
        used = [cpu_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
    return [
        Row("acme_orders", _ORDERS / seconds, "1/s"),
        Row("acme_cpu_share", used[0] / sum(used), "of broker and CA"),
    ]


def _body(dns_name: str) -> bytes:
    policy = {
        "key_props": {"kty": "EC", "crv": "P-256"},
        "x509_props": {"subject": f"CN={dns_name}", "sans": {"dns_names": [dns_name]}},
        "issuer": {"name": "pebble"},
    }
    return json.dumps({"policy": policy}).encode()
