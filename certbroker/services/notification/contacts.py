"""Contacts of a vault: who is told by mail of its certificates."""

from __future__ import annotations

from certbroker.domain.audit import Caller, record
from certbroker.domain.channels import CONTACTS
from certbroker.domain.errors import Invalid, NotFound
from certbroker.domain.mail_address import MOST_RECIPIENTS, is_mail_address
from certbroker.domain.objects import Vault
from certbroker.domain.records import Contact
from certbroker.ports.clock import Clock
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction


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
        # All are told by one mail, so none of them may be one that keeps the others from being told.
        if len(contacts) > MOST_RECIPIENTS:
            raise Invalid(f"contacts has more than {MOST_RECIPIENTS} addresses: use a distribution list.")
        for contact in contacts:
            if not is_mail_address(contact.email):
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
