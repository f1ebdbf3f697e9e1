"""Opening the CAs of this broker, so that something can be signed with them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from certbroker.domain.authority import Authority, AuthorityState, serial_text, signs_quickly
from certbroker.domain.errors import Invalid
from certbroker.domain.keys import SigningKey
from certbroker.domain.objects import Kind
from certbroker.domain.records import Identity
from certbroker.ports.authority import Signer
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

_KEPT: Final = 64
_LONGEST_PATH: Final = 16


class Signers:
    """Opens CAs, and keeps the last few open: unsealing and parsing a key costs more than signing with it.

    `url` is where this broker publishes what belongs to its CAs, if it does; an OCSP reply holds for `ocsp_life`.
    """

    def __init__(
        self, store: SQLiteStore, seal: Seal, keystore: KeyStore, url: str | None, ocsp_life: timedelta
    ) -> None:
        self._store = store
        self._seal = seal
        self._keystore = keystore
        self.url = url
        self._ocsp_life = ocsp_life
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Signer] = OrderedDict()

    def of(self, vault_id: int) -> VaultAuthorities:
        """The CAs that one vault may use."""
        return VaultAuthorities(self._store, self, vault_id)

    def find(self, vault_id: int, name: str) -> Authority:
        """The generation that signs of the CA of that name, or of `vault/name`, whoever asks. Raises Invalid."""
        place, short = self.place(vault_id, name)
        found = self._store.glance().authorities.active(place, short)
        if found is None:
            raise _nowhere(name)
        return self.enabled(found)

    def enabled(self, found: Authority) -> Authority:
        """The same one. Raises Invalid where its certificate is disabled."""
        place = (found.vault_id, Kind.CERTIFICATE, found.name, found.version)
        if not self._store.recall(("enabled", *place), lambda seen: seen.objects.is_enabled(*place)):
            raise Invalid(f"The certificate of the CA {found.name} is disabled, so it signs nothing: enable it first.")
        return found

    def place(self, vault_id: int, name: str) -> tuple[int, str]:
        """The vault and the name of a CA that is named from within a vault. Raises Invalid."""
        vault, slash, short = name.rpartition("/")
        if not slash:
            return vault_id, short
        found = self._store.glance().vaults.find(vault)
        if found is None:
            raise _nowhere(name)
        return found.id, short

    def open(self, authority: Authority) -> Signer:
        """Any generation of a CA, whatever its state. Raises Invalid when its key is gone; Sealed."""
        # What never changes of a generation is all that is opened here; what may change comes from the row.
        with self._lock:
            known = self._open.get(authority.id)
            if known is not None:
                self._open.move_to_end(authority.id)
                if known.authority == authority:
                    return known
        if known is not None:
            opened = replace(known, authority=authority)
        else:
            with self._store.read() as transaction:
                path = path_of(transaction, authority)
                key = self._key(transaction, authority)
            opened = Signer(authority, path, key, self.url, self._ocsp_life)
        with self._lock:
            self._open[authority.id] = opened
            self._open.move_to_end(authority.id)
            if len(self._open) > _KEPT:
                self._open.popitem(last=False)
        return opened

    def _key(self, transaction: SQLTransaction, authority: Authority) -> SigningKey:
        if authority.sealed_key is not None:
            return self._keystore.load_signing(self._seal.open(key_identity(authority), authority.sealed_key))
        found = transaction.objects.get(authority.vault_id, Kind.KEY, authority.name, authority.version)
        if found is None or found.sealed is None:
            raise Invalid(
                f"The key of the CA {authority.name} is not in the vault: recover the certificate of that name, if it "
                "was deleted."
            )
        return self._keystore.load_signing(self._seal.open(found.identity(authority.vault_id), found.sealed))


class VaultAuthorities:
    """The CAs as the issuers of one vault see them."""

    def __init__(self, store: SQLiteStore, signers: Signers, vault_id: int) -> None:
        self._store = store
        self._signers = signers
        self._vault_id = vault_id

    def signer(self, name: str) -> Signer:
        return self._signers.open(self._usable(name))

    def is_quick(self, name: str) -> bool:
        return signs_quickly(self._usable(name))

    def _usable(self, name: str) -> Authority:
        found = self._signers.find(self._vault_id, name)
        if found.vault_id != self._vault_id and not self._is_lent(found):
            raise Invalid(
                f"The CA {name[:160]} is another vault's and is not lent to this one: its owner may do so with "
                "`certbroker ca set --lend-to`."
            )
        return found

    def over(self, signer: Signer, other: str) -> tuple[x509.Certificate, ...]:
        vault_id, short = self._signers.place(self._vault_id, other)
        with self._store.read() as transaction:
            over = {each.id for each in transaction.authorities.generations(vault_id, short)}
            step: Authority | None = signer.authority
            for length in range(len(signer.path)):
                if step is None:
                    break
                link = _cross(transaction, step, over)
                if link is not None:
                    return (*signer.path[:length], *path_of(transaction, link))
                step = None if step.parent is None else transaction.authorities.get(step.parent)
        raise Invalid(
            f"The CA {other[:160]} has signed no certificate for {signer.authority.name} or a CA above it: have it do "
            f"so with `certbroker ca cross-sign {signer.authority.name} --by {other[:160]}`."
        )

    def revoke(self, name: str, certificate: x509.Certificate, reason: int, now: datetime) -> None:
        vault_id, short = self._signers.place(self._vault_id, name)
        serial = serial_text(certificate.serial_number)
        sha256 = certificate.fingerprint(hashes.SHA256()).hex()

        def work(transaction: SQLTransaction) -> bool:
            for each in transaction.authorities.generations(vault_id, short):
                entry = transaction.authorities.issued(each.id, serial)
                if entry is not None and entry.sha256 == sha256:
                    transaction.authorities.revoke(each.id, serial, now, reason)
                    return True
            return False

        if not self._store.write(work):
            raise Invalid(f"The CA {name[:160]} has not issued this certificate, or it expired long ago.")

    def _is_lent(self, authority: Authority) -> bool:
        lent_to = authority.settings.lent_to
        if "*" in lent_to:
            return True
        glance = self._store.glance()
        return any((vault := glance.vaults.find(name)) is not None and vault.id == self._vault_id for name in lent_to)


def _nowhere(name: str) -> Invalid:
    return Invalid(
        f"There is no CA named {name[:160]!r} that signs: make it with `certbroker ca create`, or name another."
    )


def path_of(transaction: SQLTransaction, authority: Authority) -> tuple[x509.Certificate, ...]:
    """The certificate of a generation, then those of its issuers, as far as they are known."""
    path = [x509.load_der_x509_certificate(authority.certificate)]
    while authority.parent is not None and len(path) < _LONGEST_PATH:
        above = transaction.authorities.get(authority.parent)
        if above is None:
            return tuple(path)
        path.append(x509.load_der_x509_certificate(above.certificate))
        authority = above
    if path[-1].issuer != path[-1].subject:
        # Below a CA that is not ours: what came with its certificate.
        found = transaction.objects.get(authority.vault_id, Kind.CERTIFICATE, authority.name, authority.version)
        if found is not None and found.certificate is not None:
            path += [x509.load_der_x509_certificate(each) for each in found.certificate.chain[1:]]
    return tuple(path)


def _cross(transaction: SQLTransaction, authority: Authority, over: set[str]) -> Authority | None:
    """The newest certificate for the same CA and key that one of those generations has signed."""
    for each in transaction.authorities.generations(authority.vault_id, authority.name):
        same = (each.key_sha256, each.subject) == (authority.key_sha256, authority.subject)
        if each.state is AuthorityState.CROSS and each.parent in over and same:
            return each
    return None


def key_identity(authority: Authority) -> Identity:
    """What the key of a CA belongs to, where it is kept with the CA and not as an object of its vault."""
    return Identity(authority.vault_id, "authority", authority.name.lower(), authority.id)
