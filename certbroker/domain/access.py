"""Who may do what: applications, credentials, roles and their assignment.

A role is a named set of data actions, spelled as Azure spells them below `Microsoft.KeyVault/vaults/`. It is assigned
to a principal at a scope: `/` (everything), `/vaults/NAME`, or one object, `/vaults/NAME/secrets/n`. What no
assignment allows is denied.
"""

from __future__ import annotations

import hashlib
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final

from msgspec import Struct

# The one action that is not Key Vault's: to manage vaults, applications and roles of the broker itself.
MANAGE: Final = "certbroker/manage"


class Application(Struct, frozen=True):
    """A client of the token endpoint. `id` is its client id, `object_id` the principal that roles are assigned to."""

    id: str
    name: str
    object_id: str
    enabled: bool
    created: int


class Credential(Struct, frozen=True):
    """A client secret, as its digest. Times in Unix seconds."""

    id: str
    application_id: str
    digest: bytes
    created: int
    expires: int | None


class Assignment(Struct, frozen=True):
    """A role given to a principal at a scope."""

    id: str
    principal: str
    role: str
    scope: str
    created: int


def secret_digest(secret: str) -> bytes:
    """What is kept of a client secret. We make them ourselves with 256 random bits, so one hash is enough."""
    return hashlib.sha256(b"certbroker client secret\0" + secret.encode()).digest()


# Azure's built-in roles for vaults, with the data actions that its documentation gives them, and ours for channels
# and CAs, which Azure does not have; `*` matches any text.
ROLES: Final[dict[str, tuple[str, ...]]] = {
    "Broker Administrator": ("*",),
    "PKI Administrator": ("authorities/*", "certificates/read"),
    "PKI Operator": ("authorities/read", "authorities/sign/action", "authorities/revoke/action"),
    "Key Vault Administrator": ("authorities/*", "certificates/*", "certificatecas/*", "certificatecontacts/*",
                                "channels/*", "keys/*", "secrets/*", "keyrotationpolicies/*"),
    "Key Vault Reader": ("authorities/read", "certificates/read", "certificatecas/read", "channels/read", "keys/read",
                         "secrets/readMetadata/action", "keyrotationpolicies/read"),
    "Key Vault Secrets Officer": ("secrets/*",),
    "Key Vault Secrets User": ("secrets/getSecret/action", "secrets/readMetadata/action"),
    "Key Vault Certificates Officer": ("certificates/*", "certificatecas/*", "certificatecontacts/*", "channels/*"),
    "Key Vault Certificate User": ("certificates/read", "secrets/getSecret/action", "secrets/readMetadata/action",
                                   "keys/read"),
    "Key Vault Crypto Officer": ("keys/*", "keyrotationpolicies/*"),
    "Key Vault Crypto User": ("keys/read", "keys/update/action", "keys/backup/action", "keys/encrypt/action",
                              "keys/decrypt/action", "keys/wrap/action", "keys/unwrap/action", "keys/sign/action",
                              "keys/verify/action"),
    "Key Vault Crypto Service Encryption User": ("keys/read", "keys/wrap/action", "keys/unwrap/action"),
}  # fmt: skip


@lru_cache(maxsize=1024)
def role_allows(role: str, action: str) -> bool:
    """Whether the role's data actions cover `action`."""
    return any(fnmatchcase(action, pattern) for pattern in ROLES.get(role, ()))


def scope_covers(scope: str, target: str) -> bool:
    """Whether what is assigned at `scope` holds for `target`, a path such as `/vaults/v/secrets/n`."""
    return scope == "/" or target == scope or target.startswith(scope + "/")
