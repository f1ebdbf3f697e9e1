"""Contacts of a vault: who is told by mail of its certificates."""

from __future__ import annotations

import re
from typing import Final

from certbroker.domain.audit import Caller, record
from certbroker.domain.channels import CONTACTS
from certbroker.domain.errors import Invalid, NotFound
from certbroker.domain.objects import Vault
from certbroker.domain.records import Contact
from certbroker.ports.clock import Clock
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

# Dot-atoms as in RFC 5322 section 3.2.3; quoted local parts, and what is not ASCII, are refused.
_ADDRESS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,255}", re.ASCII)


class Contacts:
    """Keeps the contacts. They are a channel of the vault, which is enabled while there is a mail server to use."""

    def __init__(self, store: SQLiteStore, clock: Clock, *, mail: bool) -> None:
        self._store = store
        self._clock = clock
        self._mail = mail

    def sync(self) -> None:
        """At a start: the configuration may have got a mail server, or lost it."""
        now = self._clock.now()
        self._store.write(lambda transaction: transaction.channels.sync_contacts(now, enabled=self._mail))

    def set(self, caller: Caller, vault: Vault, contacts: tuple[Contact, ...]) -> tuple[Contact, ...]:
        """Replace the vault's contacts. Raises Invalid."""
        now = self._clock.now()
        for contact in contacts:
            if _ADDRESS.fullmatch(contact.email) is None:
                raise Invalid(f"contacts has {contact.email[:64]!r}, which is not an e-mail address.")

        def work(transaction: SQLTransaction) -> tuple[Contact, ...]:
            transaction.issuers.put_contacts(vault.id, contacts)
            transaction.channels.sync_contacts(now, enabled=self._mail)
            transaction.audit(record(caller, now, "/certificates/contacts"))
            return contacts

        return self._store.write(work)

    def get(self, vault: Vault) -> tuple[Contact, ...]:
        """The vault's contacts. Raises NotFound when there are none."""
        contacts = self._store.glance().issuers.contacts(vault.id)
        if contacts is None:
            raise _none()
        return contacts

    def delete(self, caller: Caller, vault: Vault) -> tuple[Contact, ...]:
        """Delete the contacts and return them. Raises NotFound."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> tuple[Contact, ...]:
            contacts = transaction.issuers.contacts(vault.id)
            if contacts is None:
                raise _none()
            transaction.issuers.remove_contacts(vault.id)
            transaction.channels.remove(vault.id, CONTACTS)
            transaction.outbox.remove(vault.id, CONTACTS)
            transaction.audit(record(caller, now, "/certificates/contacts"))
            return contacts

        return self._store.write(work)


def _none() -> NotFound:
    return NotFound("contacts", "Contacts not found: none have been set for this key vault.")
