"""The account of one configured issuer at one CA: made once, kept, found again (RFC 8555 section 7.3).

All that is kept of it is one record in the issuer's memory, changed by comparing and swapping, so that replicas never
mix the key of one account with the URL of another.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from certbroker.domain.errors import Invalid
from certbroker.domain.operation import Problem
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.issuer import IssuerMemory, IssuerUnavailable, Journal
from issuers.acme.problem import CARefused, ProblemDocument
from issuers.acme.settings import ACMESettings
from issuers.acme.signing import AccountKey, load_account_key, make_account_key
from issuers.acme.transport import Answer, Authority

STEP: Final = "account"

_KEY_TRIES: Final = 5

# How a CA answers what is signed for an account that it does not serve any more (sections 6.2 and 7.3.6).
_GONE: Final = {"unauthorized": "deactivated", "accountDoesNotExist": "lost"}

# All that a CA, and nothing that stands before it, says of an account (section 7.1.2), and what we make of its errors.
_STATUSES: Final = frozenset({"valid", "revoked", *_GONE.values()})


class AccountLost(Exception):
    """The CA does not know the account any more: it has lost its state, or forgot us."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of an account. Keys are PKCS#8 in DER and appear in no repr."""

    key: bytes
    url: str | None = None
    orders: str | None = None
    next_key: bytes | None = None
    """The key that the account is being changed to: which of the two the CA accepts is not known."""
    leaving: bool = False
    """Whether the account is being deactivated: whether it has been is not known."""

    def __repr__(self) -> str:
        return f"Kept({self.url!r})"


class Account:
    """Signs requests of one account. Cheap to make; everything that lasts is in the issuer's memory.

    The key is kept before it is used, so a reply to newAccount that gets lost costs nothing: the same key registered
    again yields the same account (section 7.3.1).
    """

    def __init__(self, authority: Authority, settings: ACMESettings, memory: IssuerMemory, clock: Clock) -> None:
        self._authority = authority
        self._clock = clock
        self._settings = settings
        self._memory = memory
        # A key belongs to one CA: an account at another directory must not be linked to it.
        place = hashlib.sha256(authority.directory_url.encode()).hexdigest()[:16]
        self._name = f"acme.account.{settings.options.account_key}.{place}"
        self._kept: Kept | None = None
        self._key: tuple[bytes, AccountKey] | None = None

    @property
    def key(self) -> AccountKey:
        """The account's key, made when there is none."""
        kept = self._kept or self._look()
        if not kept.key:
            kept = self._kept = _decode(self._memory.save(self._name, _encode(Kept(self._new_key()))))
        if self._key is None or self._key[0] != kept.key:
            self._key = (kept.key, load_account_key(kept.key))
        return self._key[1]

    @property
    def url(self) -> str | None:
        """The account's URL, or None when it is not registered as far as we know."""
        return (self._kept or self._look()).url

    @property
    def orders_url(self) -> str | None:
        """Where the CA lists the account's orders (section 7.1.2.1); None for the many CAs that do not."""
        return (self._kept or self._look()).orders

    def ensure(self, journal: Journal | None = None) -> str:
        """The account's URL, after registering it if need be. Raises CARefused, IssuerUnavailable."""
        if (self._kept or self._look()).leaving:
            try:
                self._leave()
            except CARefused as error:
                if error.transient:
                    raise
        if self.url is None:
            with self._authority.known.registering(self.key.thumbprint):
                if self._look().url is None:
                    self._register(journal)
        if self.url is None:
            raise IssuerUnavailable(Problem("IssuerUnavailable", "The account was given up while it was registered."))
        return self.url

    def forget(self, lost: str) -> None:
        """The CA does not know the account `lost`: register the key again at the next call of `ensure`."""
        # When another worker has registered it anew already, its URL is another.
        self._change(lambda kept: kept.url == lost, url=None, orders=None, leaving=False)

    def post(self, url: str, payload: Mapping[str, Any] | None, accept: str = "application/json") -> Answer:
        """A request under the account. Raises AccountLost, CARefused, IssuerUnavailable."""
        for _ in range(_KEY_TRIES):
            account = self.ensure()
            try:
                return self._authority.post(url, payload, self.key, account, self._clock, accept)
            except CARefused as error:
                # Another worker may have changed the key, or one that crashed since.
                if error.transient or not self._has_moved():
                    raise (AccountLost(account) if error.kind == "accountDoesNotExist" else error) from error
        raise IssuerUnavailable(Problem("IssuerUnavailable", "The account's key is being changed again and again."))

    def fetch(self, url: str, accept: str = "application/json") -> Answer:
        """A POST-as-GET under the account."""
        return self.post(url, None, accept)

    def status(self) -> str | None:
        """What the CA says of the account (section 7.1.2), `lost` when it does not know it; None where there is none.

        Registers nothing. Raises CARefused, IssuerUnavailable.
        """
        url = self.url
        if url is None:
            return None
        try:
            return str(self._authority.post(url, None, self.key, url, self._clock).json().get("status"))[:40]
        except CARefused as error:
            if not error.transient and self._has_moved():
                return self.status()
            if error.kind not in _GONE:
                raise
            return _GONE[error.kind]

    def is_served(self) -> bool:
        """Whether the CA is evidently there: what it says of the account is what CAs say. Raises like `status`."""
        return self.status() in _STATUSES

    def roll_over(self) -> None:
        """Exchange the account's key for a new one (section 7.3.5); the old one is not kept.

        Safe to repeat: a change that was interrupted is brought to its end. Until then the account is found with
        either key. Raises CARefused, IssuerUnavailable.
        """
        account = self.ensure()
        if self._settle():
            return
        url = self._authority.directory(self._clock).key_change
        if url is None:
            raise Invalid("The CA does not let accounts change their keys: deactivate the account to get a new one.")
        old = self._change(lambda kept: kept.url == account and kept.next_key is None, next_key=self._new_key())
        if old.next_key is None or old.url != account:
            raise IssuerUnavailable(Problem("IssuerUnavailable", "The account was given up while its key was changed."))
        payload = load_account_key(old.next_key).succeed(self.key, account, url)
        failpoint("acme.rollover.before")
        try:
            self._authority.post(url, payload, self.key, account, self._clock)
        except CARefused as error:
            if error.transient:
                raise
            if not self._settle() and self._look().key == old.key:  # Else another worker was faster.
                self._change(lambda kept: kept.next_key == old.next_key, next_key=None)
                raise
        failpoint("acme.rollover.after-call")
        self._change(lambda kept: kept.key == old.key and kept.next_key == old.next_key, **_succession(old.next_key))
        failpoint("acme.rollover.recorded")

    def leave(self) -> None:
        """Deactivate the account for good (section 7.3.6). The next use registers another one, with a key of its own.

        Safe to repeat: a deactivation that was interrupted is brought to its end by whoever uses the account next.
        Raises CARefused, IssuerUnavailable.
        """
        if self._look().url is None:
            return
        self._settle()
        account = self.url
        self._change(lambda kept: kept.url == account, leaving=True)
        self._leave()

    def _leave(self) -> None:
        kept = self._kept or self._look()
        if kept.url is None:
            return
        failpoint("acme.deactivation.before")
        try:
            self._authority.post(kept.url, {"status": "deactivated"}, self.key, kept.url, self._clock)
        except CARefused as error:
            if error.transient:
                raise
            if error.kind not in _GONE:
                self._change(lambda now: now.key == kept.key, leaving=False)
                raise
        failpoint("acme.deactivation.after-call")
        # A CA takes no account for the key of a deactivated one.
        successor = Kept(self._new_key())
        self._change(lambda now: now.key == kept.key, **asdict(successor))
        failpoint("acme.deactivation.recorded")

    def _settle(self) -> bool:
        """Find out whether a change of the key that was interrupted took place, and go on with the key that holds.

        False when the old one does. Raises CARefused, IssuerUnavailable when that cannot be told now.
        """
        kept = self._look()
        if kept.next_key is None or kept.url is None:
            return False
        try:
            self._authority.post(kept.url, None, load_account_key(kept.next_key), kept.url, self._clock)
        except CARefused as error:
            if error.transient:
                raise
            return False
        self._change(lambda now: (now.key, now.next_key) == (kept.key, kept.next_key), **_succession(kept.next_key))
        return True

    def _has_moved(self) -> bool:
        """Whether what we know of the account, with which a request was signed, does not hold any more."""
        used = self._kept
        settled = self._settle()
        # Looked at last: while we tried one key, others may have gone on to the next.
        now = self._look()
        return settled or used is None or (used.url, used.key) != (now.url, now.key)

    def _look(self) -> Kept:
        """What is kept now."""
        raw = self._memory.load(self._name)
        self._kept = Kept(b"") if raw is None else _decode(raw)
        return self._kept

    def _change(self, applies: Callable[[Kept], bool], **changes: Any) -> Kept:
        """Change what is kept where that `applies`, and return what is kept then."""
        while applies(kept := self._look()):
            changed = replace(kept, **changes)
            if self._memory.swap(self._name, _encode(kept), _encode(changed)):
                self._kept = changed
                return changed
        return kept

    def _new_key(self) -> bytes:
        return make_account_key(self._settings.options.account_key)

    def _register(self, journal: Journal | None) -> None:
        directory = self._authority.directory(self._clock)
        external = self._settings.external_account
        if directory.external_account_required and external is None:
            missing = ProblemDocument("externalAccountRequired", "The CA asks for an external account binding.")
            raise CARefused(403, missing, directory.new_account, None)
        payload: dict[str, Any] = {
            "termsOfServiceAgreed": True,
            "contact": [f"mailto:{contact}" for contact in self._settings.contacts],
        }
        if external is not None:
            payload["externalAccountBinding"] = self.key.bind(external, directory.new_account)
        if journal is not None:
            journal.intend(STEP, directory=self._authority.directory_url)
        key, signer = self.key, (self._kept or self._look()).key
        failpoint("acme.account.before")
        try:
            answer = self._authority.post(directory.new_account, payload, key, None, self._clock)
        except CARefused as error:
            found = None if external is None or error.transient else self._existing(directory.new_account)
            if found is None:
                raise
            answer = found
        failpoint("acme.account.after-call")
        url = answer.location()
        orders = answer.json().get("orders")
        self._change(lambda kept: kept.key == signer, url=url, orders=orders if isinstance(orders, str) else None)
        if journal is not None:
            journal.record(STEP, url=url)
        failpoint("acme.account.recorded")

    def _existing(self, new_account: str) -> Answer | None:
        """The account that the key has already (section 7.3.1): some bindings serve once, and this one may have."""
        try:
            return self._authority.post(new_account, {"onlyReturnExisting": True}, self.key, None, self._clock)
        except CARefused:
            return None


def _succession(key: bytes) -> dict[str, Any]:
    return {"key": key, "next_key": None}


def _encode(kept: Kept) -> bytes:
    fields = {
        "key": _text(kept.key),
        "url": kept.url,
        "orders": kept.orders,
        "next_key": None if kept.next_key is None else _text(kept.next_key),
        "leaving": kept.leaving,
    }
    return json.dumps(fields, sort_keys=True).encode()


def _decode(raw: bytes) -> Kept:
    fields = json.loads(raw)
    following = fields["next_key"]
    return Kept(
        base64.b64decode(fields["key"]),
        fields["url"],
        fields["orders"],
        None if following is None else base64.b64decode(following),
        fields["leaving"],
    )


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()
