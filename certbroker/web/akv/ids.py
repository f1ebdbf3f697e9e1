"""Key Vault identifiers and links. They are built from the host that the client used, and never stored."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from certbroker.domain.objects import Kind, object_path


@dataclass(frozen=True, slots=True)
class Links:
    """The links of one vault, as one client sees it. `base` is scheme and host."""

    base: str

    def object(self, kind: Kind, name: str, version: str = "") -> str:
        return self.base + object_path(kind, name, version)

    def deleted(self, kind: Kind, name: str) -> str:
        return f"{self.base}/deleted{kind}s/{name}"

    def pending(self, name: str) -> str:
        return f"{self.base}/certificates/{name}/pending"

    def policy(self, name: str) -> str:
        return f"{self.base}/certificates/{name}/policy"

    def issuer(self, name: str) -> str:
        return f"{self.base}/certificates/issuers/{name}"

    def contacts(self) -> str:
        return f"{self.base}/certificates/contacts"

    def channel(self, name: str) -> str:
        return f"{self.base}/channels/{name}"

    def authority(self, name: str) -> str:
        return f"{self.base}/authorities/{name}"

    def page(self, path: str, version: str, token: str, size: int, more: str = "") -> str:
        """The link to the next page of a listing: clients replace api-version and add nothing."""
        query = f"api-version={quote(version)}&$skiptoken={quote(token)}&maxresults={size}{more}"
        return f"{self.base}{path}?{query}"
