"""What tests of certificates on the wire share: how one is imported, and what a vault then shows."""

from __future__ import annotations

import base64
from typing import Any

from tests.support.certificates import Identity
from tests.support.memory_broker import VaultClient, self_signed_policy

MANUAL = {"policy": self_signed_policy(issuer={"name": "Unknown"})}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def version_of(bundle: dict[str, Any]) -> str:
    return str(bundle["id"].rpartition("/")[2])


async def import_certificate(vault: VaultClient, identity: Identity, name: str = "c", **body: Any) -> dict[str, Any]:
    answer = await vault.post(f"/certificates/{name}/import", {"value": b64(identity.pfx())} | body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def holdings(vault: VaultClient) -> list[Any]:
    """Everything that listings show."""
    paths = (
        "certificates?includePending=true",
        "secrets",
        "keys",
        "deletedcertificates",
        "deletedsecrets",
        "deletedkeys",
    )
    return [(await vault.get(f"/{path}")).json()["value"] for path in paths]
