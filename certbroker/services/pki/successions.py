"""What becomes of a CA: renewed, vouched for by another one, taken over from elsewhere, and given up."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509
from msgspec.structs import replace

from certbroker.domain import operation as states
from certbroker.domain.audit import Caller, record
from certbroker.domain.authority import Authority, AuthoritySettings, AuthorityState, key_kind
from certbroker.domain.errors import Conflict, Forbidden, Invalid, OperationInProgress
from certbroker.domain.keys import KeySpec, SigningKey
from certbroker.domain.objects import Kind, Vault
from certbroker.ports.authority import Signer
from certbroker.ports.clock import Clock
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.objects.naming import not_found
from certbroker.services.pki.authorities import active, check_days
from certbroker.services.pki.generations import Place, describe, keep, make
from certbroker.services.pki.signers import Signers
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction
from issuers.private_ca.checks import is_ca
from issuers.private_ca.constraints import constraints_of, written
from issuers.private_ca.prepare import BACKDATE, CASubject, identifier_of, verifying_key
from issuers.private_ca.profiles import check_key


@dataclass(frozen=True, slots=True)
class RenewalWish:
    """How a CA is to be renewed. Without `days` it lives as long as before, without `key` the kind of key stays."""

    new_key: bool = False
    key: str | None = None
    days: int | None = None


class Successions:
    """Changes what a CA is. Each change is a new generation, or the end of one; none is taken back."""

    def __init__(self, store: SQLiteStore, seal: Seal, keystore: KeyStore, clock: Clock, signers: Signers) -> None:
        self._store = store
        self._seal = seal
        self._keystore = keystore
        self._clock = clock
        self._signers = signers

    def renew(self, caller: Caller, vault: Vault, name: str, wish: RenewalWish) -> Authority:
        """Make the next generation, which signs from then on; the one before says what is revoked until it is over.

        With the same key everything that was signed stays good under either certificate. Raises NotFound, Invalid,
        OperationInProgress, Conflict.
        """
        if wish.key is not None and not wish.new_key:
            raise Invalid("key is the kind of a new key: ask for new_key too.")
        now = self._clock.now()
        old = active(self._store.glance(), vault.id, name)
        signer = self._signers.open(old)
        life = signer.certificate.not_valid_after_utc - signer.certificate.not_valid_before_utc - BACKDATE
        if wish.days is not None:
            check_days(wish.days)
            life = timedelta(days=wish.days)
        spec, key = self._key(old, signer, wish)
        subject = CASubject(
            signer.certificate.subject,
            key.public_key(),
            old.settings,
            None if wish.new_key else identifier_of(signer.certificate),
        )
        made = make(Place(vault.id, old.name), subject, key, spec, self._above(old, signer), now, life)

        def work(transaction: SQLTransaction) -> Authority:
            latest = active(transaction, vault.id, name)
            if latest.id != old.id:
                raise Conflict(f"The CA {old.name} has just been renewed by somebody else.")
            _check_idle(transaction, vault.id, old.name)
            transaction.authorities.set_state(old.id, AuthorityState.RETIRED)
            transaction.audit(record(caller, now, f"/authorities/{old.name}/renew", status=201))
            return keep(transaction, made, self._seal, self._keystore, now)

        return self._store.write(work)

    def cross_sign(self, caller: Caller, vault: Vault, name: str, by: str, days: int | None = None) -> Authority:
        """Have another CA certify this one's key, so that who trusts that one trusts this one.

        By its own name, the generation before certifies the new key. Raises NotFound, Invalid.
        """
        now = self._clock.now()
        mine = active(self._store.glance(), vault.id, name)
        subject = self._signers.open(mine)
        if by.lower() == mine.name.lower():
            signer = self._before(mine)
        else:
            signer = self._signers.open(self._signers.find(vault.id, by))
        own = subject.certificate
        life = own.not_valid_after_utc - now
        if days is not None:
            check_days(days)
            life = timedelta(days=days)
        wanted = CASubject(own.subject, verifying_key(own.public_key()), mine.settings, identifier_of(own))
        place = Place(vault.id, mine.name, AuthorityState.CROSS)
        made = make(place, wanted, subject.key, KeySpec(), signer, now, life)

        def work(transaction: SQLTransaction) -> Authority:
            transaction.audit(record(caller, now, f"/authorities/{mine.name}/cross-sign", status=201))
            link = replace(made.authority, version="")
            transaction.authorities.add(link)
            if made.entry is not None:
                transaction.authorities.record(replace(made.entry, version="", certificate=link.certificate))
            return link

        return self._store.write(work)

    def adopt(self, caller: Caller, vault: Vault, name: str, settings: AuthoritySettings) -> Authority:
        """Make a CA of a certificate that is in the vault with its key. Raises NotFound, Invalid, Conflict."""
        settings.check()
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> Authority:
            found = transaction.objects.get(vault.id, Kind.CERTIFICATE, name)
            if found is None or found.certificate is None:
                raise not_found(Kind.CERTIFICATE, name)
            if transaction.authorities.active(vault.id, name) is not None:
                raise Conflict(f"{found.name} is a CA already.")
            if transaction.authorities.of_certificate(found.certificate.sha256) is not None:
                raise Conflict(f"The certificate of {found.name} is that of a CA here already.")
            if found.certificate.exportable:
                raise Invalid(
                    f"The key of {found.name} is exportable, so everybody who reads its secret has it: import it again "
                    "with exportable set to false, and destroy the copies."
                )
            certificate = x509.load_der_x509_certificate(found.certificate.leaf)
            full = _described(certificate, settings)
            parent = None
            for der in found.certificate.chain[1:]:
                above = transaction.authorities.of_certificate(hashlib.sha256(der).hexdigest())
                if above is not None:
                    parent = above.id
                    break
            authority = describe(Place(vault.id, found.name), certificate, full, parent, now)
            authority = replace(authority, version=found.version)
            transaction.authorities.add(authority)
            transaction.audit(record(caller, now, f"/authorities/{found.name}/adopt", status=201))
            return authority

        return self._store.write(work)

    def retire(self, caller: Caller, vault: Vault, name: str) -> Authority:
        """Have a CA sign nothing any more; what it has signed stays good, and its lists go on. Raises NotFound."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> Authority:
            found = active(transaction, vault.id, name)
            transaction.authorities.set_state(found.id, AuthorityState.RETIRED)
            transaction.audit(record(caller, now, f"/authorities/{found.name}/retire"))
            return replace(found, state=AuthorityState.RETIRED)

        return self._store.write(work)

    def _key(self, old: Authority, signer: Signer, wish: RenewalWish) -> tuple[KeySpec, SigningKey]:
        """The key of the next generation, and its kind."""
        if wish.key is not None:
            spec = key_kind(wish.key)
        else:
            policy = self._store.glance().objects.policy(old.vault_id, old.name)
            if policy is None:
                raise not_found(Kind.CERTIFICATE, old.name)
            spec = policy.key
        return spec, self._keystore.generate_signing(spec) if wish.new_key else signer.key

    def _above(self, old: Authority, signer: Signer) -> Signer | None:
        """Who signs the next generation: the CA that signed the one before, as it is now. Raises Invalid."""
        if signer.certificate.issuer == signer.certificate.subject:
            return None
        before = None if old.parent is None else self._store.glance().authorities.get(old.parent)
        if before is None:
            raise Invalid(
                f"The CA {old.name} is below one that is not here: have a request for it signed there, merge the "
                "answer into a certificate, and adopt that as a CA."
            )
        now = self._store.glance().authorities.active(before.vault_id, before.name)
        if now is None:
            raise Invalid(f"The CA {before.name}, which is above {old.name}, does not sign any more.")
        return self._signers.open(now)

    def _before(self, mine: Authority) -> Signer:
        """The newest generation of a CA with another key. Raises Invalid."""
        for each in self._store.glance().authorities.generations(mine.vault_id, mine.name):
            if each.state is AuthorityState.RETIRED and each.key_sha256 != mine.key_sha256:
                return self._signers.open(each)
        raise Invalid(f"The CA {mine.name} has had no other key, so there is nothing that would vouch for this one.")


def _check_idle(transaction: SQLTransaction, vault_id: int, name: str) -> None:
    """Raise where a version of the certificate is being made in another way, or the certificate is deleted."""
    head = transaction.objects.head(vault_id, Kind.CERTIFICATE, name)
    if head is None or head.deletion is not None:
        raise Forbidden(f"The certificate {name} of the CA is deleted: recover it first.")
    pending = transaction.operations.pending(vault_id, name)
    if pending is not None and not states.is_finished(pending.state):
        raise OperationInProgress(f"A version of the certificate {name} is being made: wait for it, or cancel it.")


def _described(certificate: x509.Certificate, settings: AuthoritySettings) -> AuthoritySettings:
    """The settings with what the certificate itself says. Raises Invalid where it is not a CA's."""
    if not is_ca(certificate):
        raise Invalid("The certificate is not that of a CA: it does not say CA:TRUE and keyCertSign.")
    check_key(verifying_key(certificate.public_key()))
    constraints = constraints_of(certificate)
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    return replace(
        settings,
        path_length=basic.path_length,
        permitted=written(constraints.permitted_subtrees if constraints else None),
        excluded=written(constraints.excluded_subtrees if constraints else None),
    )
