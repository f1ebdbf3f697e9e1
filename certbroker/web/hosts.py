"""Which host name means what: a vault, or the broker itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from certbroker.domain.errors import Invalid

# What clients ask for when they were told nothing else.
_PUBLIC_CLOUD: Final = "https://vault.azure.net"


@dataclass(frozen=True, slots=True)
class VaultHost:
    """A vault's host, as one client addressed it. `resource` is what a token has to be for."""

    vault: str
    resource: str
    challenge: str
    audiences: frozenset[str]


class Hosts:
    """Reads host names, and makes those of vaults.

    A vault is `<vault>.<base domain>`, or a host that the configuration maps to it. Clients insist that a vault's
    host lie below the resource that its challenge names, so the resource is always the host without its first label.
    """

    def __init__(self, base_domain: str, aliases: Mapping[str, str], authority: str, tenant: str) -> None:
        self.base_domain = self._base = base_domain.lower()
        self._aliases = {host.lower(): vault for host, vault in aliases.items()}
        self.authority = authority.rstrip("/")
        self._tenant = tenant
        self.vault = lru_cache(maxsize=256)(self._vault)
        authority_host = urlsplit(self.authority).hostname or ""
        parents = {self._base, *(host.partition(".")[2] for host in self._aliases)}
        self._vault_audiences = frozenset({_PUBLIC_CLOUD, *(f"https://{parent}" for parent in parents)})
        self.management_audience = f"https://{authority_host}"

    def _vault(self, host: str) -> VaultHost | None:
        """The vault that a Host header addresses; None when it is the broker's own host."""
        name, _, port = host.partition(":")
        vault = self._aliases.get(name)
        if vault is None:
            label, _, parent = name.partition(".")
            if parent != self._base or not label:
                return None
            vault = label
        parent = name.partition(".")[2]
        resource = f"https://{parent}:{port}" if port else f"https://{parent}"
        challenge = f'Bearer authorization="{self.authority}/{self._tenant}", resource="{resource}"'
        return VaultHost(vault, resource, challenge, self._vault_audiences)

    def vault_url(self, name: str) -> str:
        """The URL of a vault for those who have not asked by a host name of their own: on the authority's port."""
        port = urlsplit(self.authority).port
        return f"https://{name.lower()}.{self._base}" + (f":{port}" if port else "")

    def audience(self, requested: str) -> str:
        """The audience of a token for a requested scope or resource: scheme and host without port. Raises Invalid."""
        text = requested.removesuffix("/.default").rstrip("/").lower()
        try:
            audience = f"https://{urlsplit(text).hostname or ''}"
        except ValueError:
            audience = ""
        if audience == self.management_audience or audience in self._vault_audiences:
            return audience
        raise Invalid(
            f"The resource {requested[:200]!r} is not known here: ask for https://{self._base}/.default or "
            f"{self.management_audience}/.default."
        )
