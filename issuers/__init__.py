"""Where certificates come from: one package or module for each kind of issuer, and the registry of the kinds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final

from certbroker.ports.issuer import IssuerKind

_ENTRY_POINTS: Final = "certbroker.issuers"
_OURS: Final = {
    "Self": "issuers.self_signed",
    "Unknown": "issuers.manual",
    "ACME": "issuers.acme",
    "PrivateCA": "issuers.private_ca",
}


class Kinds(Mapping[str, IssuerKind]):
    """Kinds by the name of their provider, in any case: `given`, then ours, then other packages', by entry point.

    Ours are imported when they are asked for, because a broker that no CA serves by ACME needs none of its libraries:
    they are 10 MB. Going over the names imports none.
    """

    def __init__(self, given: Mapping[str, IssuerKind] | None = None) -> None:
        self._found = dict(given or {})
        self._names = {provider: kind.provider for provider, kind in self._found.items()}
        self._names |= {name.lower(): name for name in _OURS}
        for entry in entry_points(group=_ENTRY_POINTS):
            kind: IssuerKind = entry.load()
            if kind.provider.lower() not in self._names:
                self._found[kind.provider.lower()] = kind
                self._names[kind.provider.lower()] = kind.provider

    def __getitem__(self, provider: str) -> IssuerKind:
        name = provider.lower()
        if name not in self._found:
            self._found[name] = import_module(_OURS[self._names[name]]).KIND
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names.values())

    def __len__(self) -> int:
        return len(self._names)
