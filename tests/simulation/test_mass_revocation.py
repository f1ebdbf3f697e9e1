"""All that one CA has issued is revoked at once: all is replaced, and whoever else wants something gets it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.mass_revocation import replaced


def test_all_are_replaced_once_and_others_are_served_meanwhile(tmp_path: Path) -> None:
    found = replaced(tmp_path, 200, 5)

    assert (200, 0) == (found.issued, found.doubled)
    # Certificates for others are made all along: the last of them was not waiting for the end.
    assert len(found.meanwhile) > 3
    assert max(found.meanwhile) < found.seconds / 2
