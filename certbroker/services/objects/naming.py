"""The rules about who may use a name, in one place."""

from __future__ import annotations

from datetime import datetime

from certbroker.domain.errors import Conflict, DeletedButRecoverable, Forbidden, NotFound
from certbroker.domain.objects import Kind
from certbroker.domain.records import Head
from certbroker.randomness import random_bytes
from certbroker.store.transaction import SQLTransaction

BACKING = (Kind.KEY, Kind.SECRET)


def new_version() -> str:
    """A fresh version identifier: 32 lower-case hexadecimal digits."""
    return random_bytes(16).hex()


def with_backing(kind: Kind) -> tuple[Kind, ...]:
    """The kind itself, and for a certificate also those that belong to it."""
    return (kind, *BACKING) if kind is Kind.CERTIFICATE else (kind,)


def not_found(kind: str, name: str, version: str = "") -> NotFound:
    """The refusal for an object that is not there. Clients look for the words "not found"."""
    what = f"{name}/{version}" if version else name
    return NotFound(kind, f"A {kind} with (name/id) {what} was not found in this key vault.")


def usable(transaction: SQLTransaction, vault: int, kind: Kind, name: str) -> Head | None:
    """The object that a caller may add a version to, or None when the name is free.

    Raises DeletedButRecoverable when the name belongs to a deleted object, and Forbidden when it is a key or secret
    that belongs to a certificate, which may still be on its way.
    """
    head = transaction.objects.head(vault, kind, name)
    if head is None:
        if kind in BACKING and transaction.objects.head(vault, Kind.CERTIFICATE, name) is not None:
            raise managed(kind, name)
        return None
    if head.deletion is not None:
        raise deleted_but_recoverable(kind, name)
    if head.managed:
        raise managed(kind, name)
    return head


def deleted_but_recoverable(kind: Kind, name: str) -> DeletedButRecoverable:
    """The refusal for a name that a deleted object still holds."""
    return DeletedButRecoverable(
        f"The {kind} {name} is deleted but recoverable. Recover it, purge it, or use another name."
    )


def managed(kind: Kind, name: str) -> Forbidden:
    """The refusal for a key or secret that is a certificate's."""
    return Forbidden(f"The {kind} {name} belongs to the certificate of that name; change the certificate instead.")


def usable_for_certificate(transaction: SQLTransaction, vault: int, name: str) -> Head | None:
    """The certificate that a caller may add a version to, or None when the name is free for a new one.

    Raises Conflict when a key or secret that is not the certificate's own has the name.
    """
    heads = transaction.objects.heads(vault, name)
    head = heads.get(Kind.CERTIFICATE)
    if head is not None and head.deletion is not None:
        raise deleted_but_recoverable(Kind.CERTIFICATE, name)
    for kind in BACKING:
        other = heads.get(kind)
        if other is not None and not other.managed:
            raise Conflict(
                f"There is a {kind} named {name} already, and the certificate would need that name for its own."
            )
    return head


def check_not_a_ca(transaction: SQLTransaction, vault: int, name: str, now: datetime, advice: str) -> None:
    """Raise Forbidden where the certificate is that of a CA some of whose certificates are valid."""
    if any(each.not_after > now.timestamp() for each in transaction.authorities.generations(vault, name)):
        raise Forbidden(f"The certificate {name} is that of a CA: {advice}.")


def live(transaction: SQLTransaction, vault: int, kind: Kind, name: str) -> Head:
    """The object, which must be there and not deleted. Raises NotFound."""
    head = transaction.objects.head(vault, kind, name)
    if head is None or head.deletion is not None:
        raise not_found(kind, name)
    return head
