"""Revoking certificates: written down, asked of the CA until it answers, and then told.

What is wanted is on record before the CA is asked. So a crash loses nothing, and a CA that is away is asked again: from
then on the certificate itself is what counts, not the name and version under which it was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from cryptography import x509
from msgspec.structs import replace

from certbroker.domain.audit import Caller, engine_caller, record
from certbroker.domain.errors import BrokerError, Invalid
from certbroker.domain.keys import PrivateKey, subject_public_key_info
from certbroker.domain.objects import Kind, Vault, object_path
from certbroker.domain.policy import UNKNOWN
from certbroker.domain.records import CertificateFacts, Version
from certbroker.domain.renewal import Trigger, Wish
from certbroker.domain.revocation import LONGEST_RETRY, Reason, Revocation, key_digest, retry_after
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.issuer import IssuerUnavailable
from certbroker.ports.issuer_abilities import Revokes
from certbroker.ports.keystore import KeyStore
from certbroker.ports.seal import Seal
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.issuers.issuers import Issuers
from certbroker.services.notification.outbox import publish
from certbroker.services.objects.naming import not_found
from certbroker.services.renewal import events
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

# Longer than asking a CA may take: its directory, a nonce, and a request by the account and one by the key.
LEASE: Final = timedelta(minutes=5)

_UNEXPECTED: Final = "An unexpected error happened; the log has the details. It is tried again."
_log = structlog.get_logger("certbroker.revocation")


@dataclass(frozen=True, slots=True)
class RevocationWish:
    """What a caller wants. Without `issuer` it is the one that the certificate came from, as far as that is known;
    without `renew` a successor is made where the key of the version in use is compromised.
    """

    reason: Reason
    issuer: str | None = None
    renew: bool | None = None


class Revocations:
    """Revokes certificates, at once where the CA answers, and later where it does not."""

    def __init__(
        self, store: SQLiteStore, seal: Seal, keystore: KeyStore, issuers: Issuers, clock: Clock, inbox: Inbox
    ) -> None:
        self._store = store
        self._seal = seal
        self._keystore = keystore
        self._issuers = issuers
        self._clock = clock
        self._inbox = inbox

    def revoke(self, caller: Caller, vault: Vault, name: str, version: str, wish: RevocationWish) -> Revocation:
        """Revoke one version. Safe to repeat; another reason is sent only where it is that the key is compromised.

        That goes before what is wanted later, until the CA has answered. The result is pending where the CA cannot be
        asked now: then the engine asks until it answers. Raises NotFound, and Invalid when nobody here can revoke it or
        the CA refuses.
        """
        with self._store.read() as transaction:
            found = transaction.objects.get(vault.id, Kind.CERTIFICATE, name, version)
            if found is None or found.certificate is None:
                raise not_found(Kind.CERTIFICATE, name, version)
            renew = self._renews(transaction, vault, found, wish)
            known = transaction.revocations.get(found.certificate.sha256, vault.id, found.name)
            issuer = wish.issuer or (known.issuer if known else "") or self._issuer(transaction, vault, found)
        if known is None or not _says_it_all(known, wish.reason):
            _check(found.certificate, self._clock.now())
            self._opened(vault.id, issuer)
        wanted = _wanted(vault.id, found, found.certificate, issuer, wish.reason, renew, self._clock.now())
        wanted = self._store.write(lambda transaction: _intend(transaction, wanted, caller))
        if wanted.act_at is None:
            self._inbox.wake()
            return wanted
        outcome = self._ask(wanted, caller)
        if outcome.problem is not None and outcome.act_at is None:
            raise Invalid(outcome.problem)
        return outcome

    def claim(self, count: int) -> list[Revocation]:
        """Take what is due; nobody else asks for it before the lease is over."""
        now = self._clock.now()
        if not self._store.glance().revocations.has_due(now):
            return []
        return self._store.write(lambda transaction: transaction.revocations.claim(now, now + LEASE, count))

    def go_on(self, revocation: Revocation) -> None:
        """Ask for one that was claimed, because its first asking was cut short or the CA was away. Raises nothing."""
        try:
            caller = engine_caller("CertificateRevoke", str(revocation.vault_id), "")
            self._ask(revocation, caller, waited=False)
        except Exception:
            # It is due again when the lease is over.
            _log.exception("certificate could not be revoked", certificate=revocation.name)

    def _renews(self, transaction: SQLTransaction, vault: Vault, found: Version, wish: RevocationWish) -> bool:
        """Whether a successor is to be made. Raises Invalid where one is wanted and cannot be."""
        current = transaction.objects.get(vault.id, Kind.CERTIFICATE, found.name)
        policy = transaction.objects.policy(vault.id, found.name)
        obstacle = None
        if current is None or current.version != found.version:
            obstacle = "this version is not the one in use, so another has taken its place already"
        elif not found.attributes.enabled:
            obstacle = "the certificate is disabled: enable it first"
        elif policy is None or self._is_manual(vault.id, policy.issuer):
            obstacle = "a person brings its certificates: create a new version and merge the answer"
        if wish.renew and obstacle is not None:
            raise Invalid(f"renew is not possible: {obstacle}.")
        if wish.renew is None:
            return wish.reason is Reason.KEY_COMPROMISE and obstacle is None
        return wish.renew

    def _issuer(self, transaction: SQLTransaction, vault: Vault, found: Version) -> str:
        """Where the version came from, as far as that is known. Raises Invalid."""
        current = transaction.objects.get(vault.id, Kind.CERTIFICATE, found.name)
        care = transaction.lifecycles.get(vault.id, found.name)
        is_current = current is not None and current.version == found.version
        # While a newer version rests, the issuer that is known is that one's.
        if is_current and care is not None and care.staged is None and care.issuer is not None:
            return care.issuer
        policy = transaction.objects.policy(vault.id, found.name)
        if policy is None:
            raise Invalid("It is not known where the certificate came from: name the issuer that can revoke it.")
        return policy.issuer

    def _opened(self, vault_id: int, name: str) -> Revokes:
        """The issuer, which must be one that can revoke. Raises NotFound, Invalid."""
        issuer = self._issuers.open(vault_id, name)
        if not isinstance(issuer, Revokes):
            raise Invalid(
                f"The issuer {name[:64]} cannot revoke certificates. If this vault has an issuer at the CA that made "
                "this one, name it as issuer; otherwise have it revoked in the CA's own way."
            )
        return issuer

    def _is_manual(self, vault_id: int, issuer: str) -> bool:
        try:
            return self._issuers.kind(vault_id, issuer).manual
        except BrokerError:
            return False

    def _ask(self, wanted: Revocation, caller: Caller, *, waited: bool = True) -> Revocation:
        """Ask the CA, and store what it says. `waited` says that somebody waits for the answer."""
        leaf = x509.load_der_x509_certificate(wanted.certificate)
        if leaf.not_valid_after_utc <= self._clock.now():
            problem = f"The certificate expired before it could be revoked. {wanted.problem or ''}".rstrip()
            return self._refused(wanted, caller, problem, waited=waited)
        try:
            issuer, key = self._opened(wanted.vault_id, wanted.issuer), self._own_key(wanted)
            failpoint("revocation.before")
            issuer.revoke(wanted.certificate, wanted.reason.code, key)
            failpoint("revocation.after-call")
        except IssuerUnavailable as error:
            return self._put_off(wanted, error.problem.message, error.retry_at)
        except BrokerError as error:
            return self._refused(wanted, caller, error.message, waited=waited)
        except Exception:
            _log.exception("revocation failed unexpectedly", certificate=wanted.name)
            return self._put_off(wanted, _UNEXPECTED, None)
        outcome = self._store.write(lambda transaction: _revoked(transaction, wanted, caller, self._clock.now()))
        failpoint("revocation.recorded")
        self._inbox.wake()
        return outcome

    def _own_key(self, wanted: Revocation) -> PrivateKey | None:
        """The certificate's own key, if it is still in the vault."""
        stored = self._store.glance().objects.get(wanted.vault_id, Kind.KEY, wanted.name, wanted.version)
        if stored is None or stored.key is None or stored.sealed is None:
            return None
        if key_digest(stored.key.public) != wanted.key_sha256:
            return None
        return self._keystore.load(self._seal.open(stored.identity(wanted.vault_id), stored.sealed))

    def _put_off(self, wanted: Revocation, problem: str, retry_at: datetime | None) -> Revocation:
        """Ask again later."""
        now = self._clock.now()
        attempts = wanted.attempts + 1
        pause = retry_after(attempts)
        if retry_at is not None:
            pause = max(pause, min(retry_at - now, LONGEST_RETRY))

        def work(transaction: SQLTransaction) -> Revocation:
            latest = _stored(transaction, wanted) or wanted
            if latest.act_at is None:
                return latest  # Somebody else was answered meanwhile.
            later = replace(latest, act_at=now + pause, attempts=attempts, problem=problem)
            transaction.revocations.put(later)
            return later

        return self._store.write(work)

    def _refused(self, wanted: Revocation, caller: Caller, problem: str, *, waited: bool) -> Revocation:
        """Nobody will revoke it. Who does not get that as an answer is told in another way."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> Revocation:
            latest = _stored(transaction, wanted) or wanted
            if latest.act_at is None:
                return latest  # Somebody else was told otherwise meanwhile.
            refused = replace(latest, act_at=None, problem=problem)
            transaction.revocations.put(refused)
            if not waited:
                transaction.audit(record(caller, now, _path(wanted), "RevocationRefused", 0))
                publish(transaction, events.revocation_failed(refused, problem, now))
            return refused

        return self._store.write(work)


def enter(
    transaction: SQLTransaction, caller: Caller, vault_id: int, found: Version, reason: Reason, now: datetime
) -> None:
    """Put on record that a version is revoked already, because whoever runs its CA has done that.

    A successor is made as when the owner of the certificate revokes it.
    """
    if found.certificate is None:
        return
    current = transaction.objects.get(vault_id, Kind.CERTIFICATE, found.name)
    policy = transaction.objects.policy(vault_id, found.name)
    care = transaction.lifecycles.get(vault_id, found.name)
    issuer = (care.issuer if care else None) or (policy.issuer if policy else UNKNOWN)
    renew = (
        reason is Reason.KEY_COMPROMISE
        and current is not None
        and current.version == found.version
        and issuer.lower() != UNKNOWN.lower()
    )
    wanted = _wanted(vault_id, found, found.certificate, issuer, reason, renew, now)
    transaction.revocations.put(_joined(wanted, _stored(transaction, wanted)))
    _revoked(transaction, wanted, caller, now)


def _says_it_all(known: Revocation, reason: Reason) -> bool:
    """Whether nothing is to be said to the CA any more."""
    if known.revoked is None or known.act_at is not None:
        return False
    # That somebody has reported the key does not mean that the CA has heard of it: it may have refused that.
    has_heard = known.reason is Reason.KEY_COMPROMISE and known.problem is None
    return has_heard or reason is not Reason.KEY_COMPROMISE


def _check(facts: CertificateFacts, now: datetime) -> None:
    """Raise Invalid where there is nobody who could revoke the certificate."""
    leaf = x509.load_der_x509_certificate(facts.leaf)
    if leaf.subject == leaf.issuer:
        raise Invalid(
            "The certificate is self-signed, so there is nobody to revoke it: make a new version, and take this one "
            "out of where it is trusted."
        )
    if leaf.not_valid_after_utc <= now:
        raise Invalid("The certificate has expired: nobody accepts it any more, and no CA revokes it.")


def _wanted(
    vault_id: int, found: Version, facts: CertificateFacts, issuer: str, reason: Reason, renew: bool, now: datetime
) -> Revocation:
    public = x509.load_der_x509_certificate(facts.leaf).public_key()
    return Revocation(
        facts.sha256,
        vault_id,
        found.name,
        found.version,
        facts.leaf,
        key_digest(subject_public_key_info(public)),
        issuer,
        reason,
        renew,
        compromised=reason is Reason.KEY_COMPROMISE,
        requested=now,
        act_at=now + LEASE,
    )


def _intend(transaction: SQLTransaction, wanted: Revocation, caller: Caller) -> Revocation:
    """Put on record what is wanted. The result is to be asked for, unless it has been revoked so already.

    That it was revoked at another place does not count: the issuer there may be one that says yes to everything.
    """
    now, known = wanted.requested, _stored(transaction, wanted)
    if known is not None and _says_it_all(known, wanted.reason):
        if wanted.renew and not known.renew:
            known = replace(known, renew=True)
            transaction.revocations.put(known)
            _wish_successor(transaction, known, now)
        transaction.audit(record(caller, now, _path(wanted)))
        return known
    wanted = _joined(wanted, known)
    transaction.revocations.put(wanted)
    transaction.audit(record(caller, now, _path(wanted), "begun"))
    return wanted


def _stored(transaction: SQLTransaction, wanted: Revocation) -> Revocation | None:
    """What is on record of the same certificate at the same place."""
    return transaction.revocations.get(wanted.sha256, wanted.vault_id, wanted.name)


def _joined(wanted: Revocation, known: Revocation | None) -> Revocation:
    """What is wanted, together with what was wanted before.

    A compromise that the CA has not heard of yet is not replaced by a weaker reason: a key that it does not know to be
    compromised goes on being accepted in other certificates.
    """
    if known is None:
        return wanted
    if known.reason is Reason.KEY_COMPROMISE and known.act_at is not None and wanted.reason is not known.reason:
        wanted = replace(wanted, reason=known.reason, issuer=known.issuer)
    return replace(
        wanted,
        name=known.name,  # It may be written in another way by now.
        renew=wanted.renew or known.renew,
        compromised=wanted.compromised or known.compromised,
        revoked=known.revoked,
    )


def _revoked(transaction: SQLTransaction, wanted: Revocation, caller: Caller, now: datetime) -> Revocation:
    latest = _stored(transaction, wanted) or wanted
    # Who has given another reason meanwhile sends that himself.
    act_at = None if latest.reason is wanted.reason else latest.act_at
    done = replace(latest, act_at=act_at, problem=None, revoked=latest.revoked or now)
    transaction.revocations.put(done)
    transaction.audit(record(caller, now, _path(wanted)))
    publish(transaction, events.revoked(done, wanted.reason, now))
    if done.renew:
        _wish_successor(transaction, done, now)
    return done


def _wish_successor(transaction: SQLTransaction, revocation: Revocation, now: datetime) -> None:
    """Let the engine renew at once, unless another version has taken the place of the revoked one."""
    care = transaction.lifecycles.get(revocation.vault_id, revocation.name)
    current = transaction.objects.get(revocation.vault_id, Kind.CERTIFICATE, revocation.name)
    if care is None or current is None or current.certificate is None:
        return
    if current.certificate.sha256 != revocation.sha256:
        return
    wish = Wish(Trigger.REVOKED, f"The certificate was revoked: {revocation.reason}.", current.version)
    lifecycle = replace(care.lifecycle, wish=wish, setback=None)
    transaction.lifecycles.rewrite(replace(care, lifecycle=lifecycle), now)


def _path(revocation: Revocation) -> str:
    return f"{object_path(Kind.CERTIFICATE, revocation.name, revocation.version)}/revoke"
