"""The real peers of the tests: present, or the test is skipped; on CI their absence is a failure.

Knows nothing of pytest: a skip is the standard library's, which pytest understands, so benchmarks can use this too.
"""

import os
import unittest
from pathlib import Path

from pebble.binaries import PebbleBinaries, SoftHSM, find_pebble, find_promtool, find_softhsm


class PeerMissingError(Exception):
    """CI must run every test, and a peer is not there."""


def require_pebble(*, recent: bool = False) -> PebbleBinaries:
    """The test CA. `recent` asks for 2.10: profiles, renewal information, dns-persist-01."""
    found = find_pebble()
    if found is None or (recent and not found.recent):
        wanted = "Pebble 2.10" if recent else "Pebble"
        raise _missing(f"{wanted} is not here: run `make peers` (Go helps)")
    return found


def require_softhsm() -> SoftHSM:
    """The PKCS#11 module in software."""
    found = find_softhsm()
    if found is None:
        raise _missing("SoftHSM 2 is not here: run `make peers`")
    return found


def require_promtool() -> Path:
    """Prometheus's checker of alert rules."""
    found = find_promtool()
    if found is None:
        raise _missing("promtool is not here: run `make peers`")
    return found


def _missing(text: str) -> Exception:
    return PeerMissingError(text) if os.environ.get("CI") == "true" else unittest.SkipTest(text)
