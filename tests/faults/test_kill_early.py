"""`kill -9` on the way of an ACME certificate, until the CA looks at the challenges; and no point is forgotten.

One data directory serves all cases: it is started with a failpoint armed, dies of it, and is started again.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pebble.launcher import Pebble
from tests.support.failpoints import COMMITS, DEPLOY, DEPLOYER, EARLY, ELSEWHERE, LATE, LOOKS, NOTIFY, ROTATION
from tests.support.mortal import Mortal, kill_during_issuance

_ROOT = Path(__file__).resolve().parents[2]


def test_every_failpoint_of_the_code_is_a_case() -> None:
    sources = [path for folder in ("certbroker", "issuers") for path in (_ROOT / folder).rglob("*.py")]
    texts = [path.read_text() for path in sources if path.name != "failpoints.py"]
    calls = [call for text in texts for call in re.findall(r"\bfailpoint\(([^)]*)\)", text)]
    literal = {call.strip('"') for call in calls if call.startswith('"')}
    rotation = (_ROOT / "tests/keystore/test_seal_rotation.py").read_text()

    notify = {name for name, _, _ in NOTIFY}
    assert {name for name, _ in EARLY + LATE + COMMITS + LOOKS} | ROTATION | {
        *ELSEWHERE,
        *DEPLOY,
        *DEPLOYER,
    } | notify == literal
    # None is computed: that one would escape this test.
    assert [] == [call for call in calls if not call.startswith('"')]
    assert [] == [name for name in sorted(ROTATION) if name not in rotation]
    assert [] == [name for name, path in ELSEWHERE.items() if f'"{name}"' not in (_ROOT / path).read_text()]


@pytest.mark.parametrize(("point", "count"), EARLY)
def test_a_broker_killed_during_an_issuance_finishes_it_with_the_one_certificate(
    mortal: Mortal, pebble: Pebble, point: str, count: int
) -> None:
    kill_during_issuance(mortal, pebble, point, count)
