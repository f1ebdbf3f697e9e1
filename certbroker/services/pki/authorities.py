"""The broker's own CAs: made, shown and set."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from msgspec.structs import replace

from certbroker.domain.audit import Caller, record
from certbroker.domain.authority import Authority, AuthoritySettings, key_kind
from certbroker.domain.errors import Conflict, Invalid, NotFound
from certbroker.domain.objects import Vault, check_name
from certbroker.domain.policy import parse_subject
from certbroker.ports.clock import Clock
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.objects.naming import usable_for_certificate
from certbroker.services.pki.generations import Place, keep, make
from certbroker.services.pki.signers import Signers
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction
from issuers.private_ca.prepare import CASubject

MAX_DAYS: Final = 100 * 366


@dataclass(frozen=True, slots=True)
class NewAuthority:
    """A CA that is wanted: its kind of key, as `KEY_KINDS` has them, and the CA above it, which a root has not."""

    subject: str
    key: str = "P-256"
    days: int = 3652
    parent: str | None = None
    settings: AuthoritySettings = field(default=AuthoritySettings())


@dataclass(frozen=True, slots=True)
class SettingsChanges:
    """What may be changed of a CA that is there; None keeps what it has."""

    shards: int | None = None
    crl_hours: int | None = None
    lent_to: tuple[str, ...] | None = None


class Authorities:
    """Makes CAs and looks after what is not in their certificates."""

    def __init__(self, store: SQLiteStore, seal: Seal, keystore: KeyStore, clock: Clock, signers: Signers) -> None:
        self._store = store
        self._seal = seal
        self._keystore = keystore
        self._clock = clock
        self._signers = signers

    def create(self, caller: Caller, vault: Vault, name: str, wanted: NewAuthority) -> Authority:
        """Make a CA with a new key. Blocks for as long as making a key takes. Raises Invalid, Conflict.

        The parent may be another vault's: whether the caller may have it sign is asked before.
        """
        check_name(name)
        spec = key_kind(wanted.key)
        wanted.settings.check()
        check_days(wanted.days)
        subject = parse_subject(wanted.subject)
        if not list(subject):
            raise Invalid("subject is missing: a CA needs a name, such as CN=Example Root CA,O=Example Ltd.")
        now = self._clock.now()
        signer = None
        if wanted.parent is not None:
            signer = self._signers.open(self._signers.find(vault.id, wanted.parent))
        key = self._keystore.generate_signing(spec)
        made = make(
            Place(vault.id, name),
            CASubject(subject, key.public_key(), wanted.settings),
            key,
            spec,
            signer,
            now,
            timedelta(days=wanted.days),
        )

        def work(transaction: SQLTransaction) -> Authority:
            if usable_for_certificate(transaction, vault.id, name) is not None:
                raise Conflict(
                    f"There is a certificate named {name} already: choose another name, or make that one a CA with "
                    f"`certbroker ca adopt {name}` if it is one."
                )
            transaction.audit(record(caller, now, f"/authorities/{name}", status=201))
            return keep(transaction, made, self._seal, self._keystore, now)

        return self._store.write(work)

    def generations(self, vault: Vault, name: str) -> list[Authority]:
        """All certificates that a CA has had, the newest first. Raises NotFound."""
        found = self._store.glance().authorities.generations(vault.id, check_name(name))
        if not found:
            raise no_authority(name)
        return found

    def listing(self, vault: Vault) -> list[Authority]:
        """All generations of the CAs of a vault."""
        return self._store.glance().authorities.listing(vault.id)

    def set(self, caller: Caller, vault: Vault, name: str, changes: SettingsChanges) -> Authority:
        """Change how a CA publishes, and to whom it is lent. Raises NotFound, Invalid."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> Authority:
            found = active(transaction, vault.id, name)
            settings = found.settings
            settings = replace(
                settings,
                shards=settings.shards if changes.shards is None else changes.shards,
                crl_hours=settings.crl_hours if changes.crl_hours is None else changes.crl_hours,
                lent_to=settings.lent_to if changes.lent_to is None else changes.lent_to,
            )
            settings.check()
            transaction.authorities.set_settings(found.id, settings)
            transaction.authorities.publish_soon(found.id, now)
            transaction.audit(record(caller, now, f"/authorities/{found.name}"))
            return replace(found, settings=settings)

        return self._store.write(work)


def active(transaction: SQLTransaction, vault_id: int, name: str) -> Authority:
    """The generation that signs. Raises NotFound."""
    found = transaction.authorities.active(vault_id, check_name(name))
    if found is None:
        raise no_authority(name)
    return found


def no_authority(name: str) -> NotFound:
    """The refusal for a CA that is not there, or does not sign any more."""
    return NotFound("authority", f"CA not found: there is no CA named {name[:64]} that signs in this key vault.")


def check_days(days: int) -> None:
    """Raise Invalid where a CA cannot be valid for that long."""
    if not 1 <= days <= MAX_DAYS:
        raise Invalid(f"days is between 1 and {MAX_DAYS}.")
