"""`kill -9` on the way of an ACME certificate, from the challenges to the end."""

from __future__ import annotations

import pytest

from pebble.launcher import Pebble
from tests.support.failpoints import LATE
from tests.support.mortal import Mortal, kill_during_issuance


@pytest.mark.parametrize(("point", "count"), LATE)
def test_a_broker_killed_during_an_issuance_finishes_it_with_the_one_certificate(
    mortal: Mortal, pebble: Pebble, point: str, count: int
) -> None:
    kill_during_issuance(mortal, pebble, point, count)
