"""One Pebble per configuration and module, and what an issuer needs to use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pebble.launcher import Pebble
from tests.support.acme_ports import Board, Surroundings, loopback_egress
from tests.support.peers import require_pebble


@pytest.fixture(scope="module")
def start_pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Pebble]]:
    """Start a Pebble that runs until the module is done."""
    binaries = require_pebble()
    with ExitStack() as running:

        def start(**options: Any) -> Pebble:
            return running.enter_context(Pebble(tmp_path_factory.mktemp("pebble"), binaries=binaries, **options))

        yield start


@pytest.fixture(scope="module")
def pebble(start_pebble: Callable[..., Pebble]) -> Pebble:
    return start_pebble(authz_reuse=0)


@pytest.fixture
def surround() -> Iterator[Callable[[Pebble], Surroundings]]:
    """Surroundings for a Pebble, with an empty memory and a listener where it looks for http-01 answers."""
    with ExitStack() as running:

        def surround(pebble: Pebble) -> Surroundings:
            egress = loopback_egress(str(pebble.ca_path))
            running.callback(egress.close)
            board = running.enter_context(Board(pebble.http_port))
            return Surroundings(egress, board, pebble.directory_url)

        yield surround


@pytest.fixture
def ca(pebble: Pebble, surround: Callable[[Pebble], Surroundings]) -> Surroundings:
    return surround(pebble)
