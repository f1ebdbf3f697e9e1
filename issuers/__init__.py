"""Where certificates come from: one package or module for each kind of issuer, and the registry of the kinds."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Final

from certbroker.ports.issuer import IssuerKind
from issuers import manual, self_signed

_ENTRY_POINTS: Final = "certbroker.issuers"


def kinds() -> dict[str, IssuerKind]:
    """Every kind by its provider name in lower case: ours, and those that other packages bring by entry point."""
    from issuers import acme, private_ca

    ours = (self_signed.KIND, manual.KIND, acme.KIND, private_ca.KIND)
    found: dict[str, IssuerKind] = {kind.provider.lower(): kind for kind in ours}
    for entry in entry_points(group=_ENTRY_POINTS):
        kind: IssuerKind = entry.load()
        found.setdefault(kind.provider.lower(), kind)
    return found
