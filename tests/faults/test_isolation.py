"""One issuer that hangs or is down delays nobody else, and what waited for it goes on when it is back."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from pebble.launcher import Pebble
from tests.support.issued import issued_for
from tests.support.mortal import Mortal
from tests.support.wire import creation


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Where connections are accepted, and nothing is ever said."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=128)) as listening:
        yield listening.getsockname()[1]


def test_twenty_operations_at_an_issuer_that_hangs_delay_nobody(
    mortal: Mortal, pebble: Pebble, silent_port: int
) -> None:
    wire = mortal.wire
    wire.set_acme_issuer("silent", f"https://127.0.0.1:{silent_port}/dir")
    wire.set_acme_issuer("healthy", pebble.directory_url)
    for number in range(20):
        wire.ok("POST", f"/certificates/stuck-{number}/create", creation("silent", f"s{number}.example.org"))
    time.sleep(0.5)

    begun = time.monotonic()
    wire.ok("POST", "/certificates/here/create", creation("Self", "here.example.org"))
    wire.completed("here")
    here = time.monotonic() - begun
    wire.ok("POST", "/certificates/there/create", creation("healthy", "there.example.org"))
    wire.completed("there", 15)

    assert here < 2
    assert {"inProgress"} == {wire.pending(f"stuck-{number}")["status"] for number in range(20)}
    mortal.broker.kill()  # A drain would wait for the calls that hang.


def test_operations_finish_when_a_ca_comes_back_without_its_memory(mortal: Mortal, pebble: Pebble) -> None:
    mortal.start()
    wire = mortal.wire
    wire.set_acme_issuer("forgetful", pebble.directory_url)
    wire.ok("POST", "/certificates/before/create", creation("forgetful", "before.example.org"))
    wire.completed("before")
    pebble.stop()
    for name in ("one", "two"):
        wire.ok("POST", f"/certificates/{name}/create", creation("forgetful", f"{name}.example.org"))
    time.sleep(0.5)
    waiting = {wire.pending(name)["status"] for name in ("one", "two")}
    pebble.start()

    for name in ("one", "two"):
        wire.completed(name, 25)

    assert {"inProgress"} == waiting
    for name in ("one", "two"):
        assert [wire.stored(name).certificate.serial_number] == issued_for(pebble, f"{name}.example.org")
