"""Who did what to which object, and how it ended. Records never hold a value.

The records of one writer form a chain: each holds the hash of the one before, so a changed, missing or reordered
record is found by walking the chain.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

from msgspec import Struct

GENESIS: Final = hashlib.sha256(b"certbroker audit chain").digest()


class Caller(Struct, frozen=True):
    """On whose behalf something happens, and through which request."""

    principal: str
    operation: str
    vault: str = ""
    address: str = ""
    correlation_id: str = ""
    client: str = ""


class AuditRecord(Struct, frozen=True):
    """One record. `outcome` is `ok` or the code of the refusal; `object` is the path of what was touched."""

    at: datetime
    operation: str
    principal: str
    vault: str
    object: str
    outcome: str
    status: int
    address: str
    correlation_id: str
    client: str


def record(caller: Caller, now: datetime, target: str = "", outcome: str = "ok", status: int = 200) -> AuditRecord:
    """A record of what `caller` did to `target`."""
    return AuditRecord(
        now,
        caller.operation,
        caller.principal,
        caller.vault,
        target,
        outcome,
        status,
        caller.address,
        caller.correlation_id,
        caller.client,
    )


def link(previous: bytes, encoded: bytes) -> bytes:
    """The hash of a record in its stored form, given the hash of the one before it."""
    return hashlib.sha256(previous + encoded).digest()


def engine_caller(operation: str, vault: str, correlation_id: str) -> Caller:
    """The engine itself, working on an operation."""
    return Caller("engine", operation, vault, correlation_id=correlation_id)
