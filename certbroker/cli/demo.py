"""`certbroker demo`: see it work, on this machine only."""

from __future__ import annotations


def demo() -> None:
    """Show every route to a certificate, with a broker and a test CA on this machine."""
