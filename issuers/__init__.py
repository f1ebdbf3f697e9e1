"""Where certificates come from: one package or module for each kind of issuer, and the registry of the kinds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final

from certbroker.ports.issuer import IssuerKind

_ENTRY_POINTS: Final = "certbroker.issuers"
_OURS: Final = {
    "self": "issuers.self_signed",
    "unknown": "issuers.manual",
    "acme": "issuers.acme",
    "privateca": "issuers.private_ca",
}


class Kinds(Mapping[str, IssuerKind]):
    """Kinds by their provider name in lower case: `given`, then ours, then those of other packages, by entry point.

    Ours are imported when they are asked for, because a broker that no CA serves by ACME needs none of its libraries:
    they are 10 MB.
    """

    def __init__(self, given: Mapping[str, IssuerKind] | None = None) -> None:
        self._found = dict(given or {})
        for entry in entry_points(group=_ENTRY_POINTS):
            kind: IssuerKind = entry.load()
            if kind.provider.lower() not in _OURS:
                self._found.setdefault(kind.provider.lower(), kind)

    def __getitem__(self, name: str) -> IssuerKind:
        if name not in self._found:
            self._found[name] = import_module(_OURS[name]).KIND
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_OURS.keys() | self._found.keys())

    def __len__(self) -> int:
        return len(_OURS.keys() | self._found.keys())
