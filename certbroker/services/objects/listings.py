"""Listings: objects, versions and deleted objects, a page at a time."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Final, TypeVar

from certbroker.domain.errors import Invalid
from certbroker.domain.objects import Kind, Listed, Page, Vault
from certbroker.services.objects.naming import not_found
from certbroker.store.database import SQLiteStore

T = TypeVar("T")

MAX_PAGE: Final = 25


class Listings:
    """Pages through what a vault holds. A page's `next` is opaque to callers."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store

    def objects(self, vault: Vault, kind: Kind, after: str, size: int, *, pending: bool = False) -> Page[Listed]:
        """Objects that are not deleted; `pending` includes certificates that have no version yet."""
        rows = self._store.glance().objects.listing(vault.id, kind, decode(after), size + 1, pending=pending)
        return page(rows, size, lambda item: item.name.lower())

    def deleted(self, vault: Vault, kind: Kind, after: str, size: int) -> Page[Listed]:
        """Deleted objects that stand for themselves."""
        rows = self._store.glance().objects.list_deleted(vault.id, kind, decode(after), size + 1)
        return page(rows, size, lambda item: item.name.lower())

    def versions(self, vault: Vault, kind: Kind, name: str, after: str, size: int) -> Page[Listed]:
        """The versions of an object. A secret or key that does not exist has none; a certificate is NotFound."""
        rows = self._store.glance().objects.list_versions(vault.id, kind, name, decode(after), size + 1)
        if not rows and not after and kind is Kind.CERTIFICATE:
            head = self._store.glance().objects.head(vault.id, kind, name)
            if head is None or head.deletion is not None:
                raise not_found("certificate", name)
        return page(rows, size, lambda item: item.version)


def page(rows: list[T], size: int, position: Callable[[T], str]) -> Page[T]:
    """A page of `size` out of `size + 1` rows that were asked for."""
    if len(rows) <= size:
        return Page(tuple(rows))
    token = base64.urlsafe_b64encode(position(rows[size - 1]).encode()).rstrip(b"=").decode()
    return Page(tuple(rows[:size]), token)


def decode(token: str) -> str:
    """The position in a token. Raises Invalid."""
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise Invalid("$skiptoken is not one that this vault has given out.") from None
