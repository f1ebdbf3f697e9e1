"""Servers on this machine, and an egress that may talk to them."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator

import pytest

from certbroker.egress import EgressPolicy, HTTPEgress
from certbroker.ports.egress import Egress
from tests.support.scripted_server import LOOPBACK, Peer, Script


@pytest.fixture
def serve() -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def serve(script: Script, context: ssl.SSLContext | None = None) -> Peer:
        peers.append(Peer(script, context))
        return peers[-1]

    yield serve
    for peer in peers:
        peer.close()


@pytest.fixture
def egress() -> Iterator[HTTPEgress]:
    egress = HTTPEgress(EgressPolicy(LOOPBACK, plain_http_hosts=("127.0.0.1", "*.test", "localhost")))
    as_port: Egress = egress
    assert as_port
    yield egress
    egress.close()
