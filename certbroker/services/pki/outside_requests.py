"""What a CA does for those outside of the vaults: signs requests, revokes by serial number, and shows its ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from msgspec.structs import replace

from certbroker.domain.audit import Caller, record
from certbroker.domain.authority import Authority, AuthorityState, Issued, serial_text, signs_quickly
from certbroker.domain.errors import Conflict, Forbidden, Invalid, NotFound
from certbroker.domain.objects import Kind, Page, Vault
from certbroker.domain.policy import parse_subject
from certbroker.domain.revocation import KEY_COMPROMISED, Reason, key_digest
from certbroker.ports.clock import Clock
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.objects.listings import decode, page
from certbroker.services.pki.authorities import active, no_authority
from certbroker.services.pki.generations import CA_PROFILE
from certbroker.services.pki.signers import Signers
from certbroker.services.revocation.revocations import enter
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction
from issuers.private_ca.entry import entry_of
from issuers.private_ca.kind import encoded
from issuers.private_ca.lint import lint
from issuers.private_ca.prepare import prepare_leaf
from issuers.private_ca.requests import read_request
from issuers.private_ca.settings import read_profile
from issuers.private_ca.signing import sign

# RFC 5280 section 5.3.1: the compromise of a CA's key has a code of its own.
_CA_COMPROMISE = 2

# Bytes of a request that is looked at on the event loop. One with an RSA key of 4096 bits and a few names has less.
_SMALL: Final = 2 * 1024


@dataclass(frozen=True, slots=True)
class SigningWish:
    """A request that is to be signed. `options` describe the profile, as those of an issuer do.

    The subject is the signer's to choose: of the request only the key and the names are taken.
    """

    request: bytes = field(repr=False)
    options: dict[str, str]
    subject: str = ""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What came of it. `chain` is in DER, the new certificate first; `ignored` is what was asked for and not given."""

    chain: tuple[bytes, ...]
    entry: Issued
    ignored: tuple[str, ...]


class OutsideRequests:
    """Signs and revokes for whoever runs a CA."""

    def __init__(self, store: SQLiteStore, clock: Clock, signers: Signers, inbox: Inbox) -> None:
        self._store = store
        self._clock = clock
        self._signers = signers
        self._inbox = inbox

    def sign(self, caller: Caller, vault: Vault, name: str, wish: SigningWish) -> SignedRequest:
        """Sign a request; the certificate is in the ledger before it is anywhere else. Raises NotFound, Invalid."""
        signed, write = self._signed(caller, vault, self._authority(vault, name), wish)
        self._store.write(write)
        return signed

    async def sign_soon(self, caller: Caller, vault: Vault, name: str, wish: SigningWish) -> SignedRequest | None:
        """The same on the event loop, where the CA's key is quick and the request is small; else nothing, and None."""
        authority = self._authority(vault, name)
        if len(wish.request) > _SMALL or not signs_quickly(authority):
            return None
        signed, write = self._signed(caller, vault, authority, wish)
        await self._store.write_soon(write)
        return signed

    def _authority(self, vault: Vault, name: str) -> Authority:
        # On the event loop it is looked for once, for all requests that come before something has changed.
        found = self._store.recall(("authority", vault.id, name), lambda seen: active(seen, vault.id, name))
        return self._signers.enabled(found)

    def _signed(
        self, caller: Caller, vault: Vault, authority: Authority, wish: SigningWish
    ) -> tuple[SignedRequest, Callable[[SQLTransaction], None]]:
        """What comes of a request, and the write that has to be durable before anybody sees it. Raises Invalid."""
        now, signer = self._clock.now(), self._signers.open(authority)
        profile = read_profile(wish.options)
        request = read_request(wish.request)
        life = timedelta(days=profile.max_days)
        subject = parse_subject(wish.subject)
        prepared = prepare_leaf(signer, profile, subject, request.sans, request.key, now, life)
        certificate = sign(lint(prepared))
        x509.load_der_x509_certificate(certificate).verify_directly_issued_by(signer.certificate)
        entry = entry_of(signer, certificate, prepared, profile.name, now)
        entry = replace(entry, vault_id=vault.id, certificate=certificate)
        digest = key_digest(prepared.public)
        path = f"/authorities/{signer.authority.name}/issued/{entry.serial}"

        def write(transaction: SQLTransaction) -> None:
            if transaction.revocations.is_compromised(digest):
                raise Invalid(KEY_COMPROMISED)
            transaction.authorities.record(entry)
            transaction.audit(record(caller, now, path, status=201))

        return SignedRequest((certificate, *encoded(signer.path)), entry, request.ignored), write

    def ledger(self, vault: Vault, name: str, generation: str, after: str, size: int) -> Page[Issued]:
        """What a generation of a CA has issued; without an id, the one that signs. Raises NotFound."""
        # The place from where to go on names the generation too: another one may sign when the next page is asked for.
        begun, _, last = decode(after).partition(" ")
        authority = _generation(self._store.glance(), vault.id, name, begun or generation)
        rows = self._store.glance().authorities.ledger(authority.id, last, size + 1)
        return page(rows, size, lambda entry: f"{entry.authority} {entry.serial}")

    def issued(self, vault: Vault, name: str, serial: str) -> Issued:
        """One entry, of whichever generation. Raises NotFound, Invalid."""
        with self._store.read() as transaction:
            return _entry(transaction, vault.id, name, serial)

    def revoke(self, caller: Caller, vault: Vault, name: str, serial: str, reason: Reason) -> Issued:
        """Revoke what a CA has issued; safe to repeat. A CA below it signs nothing any more. Raises NotFound."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> Issued:
            entry = _entry(transaction, vault.id, name, serial)
            is_ca = entry.profile == CA_PROFILE
            code = _CA_COMPROMISE if is_ca and reason is Reason.KEY_COMPROMISE else reason.code
            if transaction.authorities.revoke(entry.authority, entry.serial, now, code):
                transaction.audit(record(caller, now, f"/authorities/{name}/issued/{entry.serial}/revoke"))
                below = transaction.authorities.of_certificate(entry.sha256) if is_ca else None
                if below is not None:
                    transaction.authorities.set_state(below.id, AuthorityState.REVOKED)
                    _stop_below(transaction, below.id)
                _tell_the_vault(transaction, caller, entry, reason, now)
            return _entry(transaction, vault.id, name, serial)

        found = self._store.write(work)
        self._inbox.wake()
        return found

    def delete(self, caller: Caller, vault: Vault, name: str, *, force: bool) -> None:
        """Forget a CA, so that it publishes nothing any more; its certificate stays. Raises NotFound, Forbidden."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> None:
            generations = transaction.authorities.generations(vault.id, name)
            if not generations:
                raise no_authority(name)
            for each in generations:
                if not force and transaction.authorities.has_valid(each.id, int(now.timestamp())):
                    raise Forbidden(
                        f"Certificates of the CA {each.name} are still valid, and nobody could ask whether they are "
                        "revoked: wait until they have expired, or force it."
                    )
                if any(below.state is AuthorityState.ACTIVE for below in transaction.authorities.children(each.id)):
                    raise Conflict(f"There are CAs below {each.name} that still sign: delete or retire them first.")
                transaction.authorities.remove(each.id)
            transaction.audit(record(caller, now, f"/authorities/{generations[0].name}"))

        self._store.write(work)


def _generation(transaction: SQLTransaction, vault_id: int, name: str, wanted: str) -> Authority:
    """The generation with that id, or else the one that signs, or else the newest. Raises NotFound."""
    generations = transaction.authorities.generations(vault_id, name)
    publishing = [each for each in generations if each.state is not AuthorityState.CROSS and wanted in ("", each.id)]
    if not publishing:
        raise no_authority(name)
    return next((each for each in publishing if each.state is AuthorityState.ACTIVE), publishing[0])


def _stop_below(transaction: SQLTransaction, authority: str) -> None:
    """Let the CAs below a revoked one sign nothing any more: nobody would accept it."""
    for each in transaction.authorities.children(authority):
        if each.state is AuthorityState.ACTIVE:
            transaction.authorities.set_state(each.id, AuthorityState.RETIRED)
        _stop_below(transaction, each.id)


def _entry(transaction: SQLTransaction, vault_id: int, name: str, serial: str) -> Issued:
    """The entry of a certificate, by its serial number in hexadecimal digits, which may be colons apart."""
    try:
        wanted = serial_text(int(serial.replace(":", ""), 16))
    except ValueError:
        raise Invalid(f"The serial number {serial[:60]!r} is not one in hexadecimal digits.") from None
    for each in transaction.authorities.generations(vault_id, name):
        found = transaction.authorities.issued(each.id, wanted)
        if found is not None:
            return found
    raise NotFound("certificate", f"Certificate not found: the CA {name[:64]} has issued none with that serial number.")


def _tell_the_vault(transaction: SQLTransaction, caller: Caller, entry: Issued, reason: Reason, now: datetime) -> None:
    """Let the certificate itself show it, where it is still in a vault, and its owner hear of it."""
    if not entry.name:
        return
    found = transaction.objects.get(entry.vault_id, Kind.CERTIFICATE, entry.name, entry.version)
    if found is not None and found.certificate is not None and found.certificate.sha256 == entry.sha256:
        enter(transaction, caller, entry.vault_id, found, reason, now)
