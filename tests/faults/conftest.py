"""One Pebble for each module and worker, and a broker whose life can be ended at a named point."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pebble.launcher import Pebble
from tests.support.mortal import Mortal
from tests.support.peers import require_pebble


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    binaries = require_pebble()
    with Pebble(tmp_path_factory.mktemp("pebble"), binaries=binaries, authz_reuse=0) as running:
        yield running


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, pebble: Pebble) -> Iterator[Mortal]:
    mortal = Mortal(tmp_path_factory.mktemp("faults") / "broker", pebble)
    mortal.start()
    mortal.wire.token()
    yield mortal
    mortal.broker.stop()
