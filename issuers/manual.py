"""`Unknown`: a person carries the CSR to a certification authority and merges the answer."""

from __future__ import annotations

from typing import Final

from certbroker.ports.issuer import IssuanceRequest, Issuer, IssuerKind, IssuerSettings, Journal, Reply, Resources


class Manual:
    """Never asked: the operation waits for a merge."""

    def advance(self, request: IssuanceRequest, journal: Journal) -> Reply:
        raise AssertionError("an operation with a manual issuer waits for its merge")


class ManualKind:
    """The kind of the built-in issuer `Unknown`."""

    provider = "Unknown"
    local = True
    manual = True

    def check(self, settings: IssuerSettings) -> None:
        """Nothing to configure."""

    def open(self, settings: IssuerSettings, resources: Resources) -> Issuer:
        return Manual()


KIND: Final[IssuerKind] = ManualKind()
