"""The account of one configured issuer at one CA: made once, kept, found again (RFC 8555 section 7.3)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.issuer import IssuerMemory, Journal
from issuers.acme.problem import CARefused, ProblemDocument
from issuers.acme.settings import ACMESettings
from issuers.acme.signing import AccountKey, load_account_key, make_account_key
from issuers.acme.transport import Answer, Authority

STEP: Final = "account"


class AccountLost(Exception):
    """The CA does not know the account any more: it has lost its state, or deactivated us."""


@dataclass(frozen=True, slots=True)
class _Registered:
    """What is kept of an account."""

    url: str | None = None
    orders: str | None = None


class Account:
    """Signs requests of one account. Cheap to make; everything that lasts is in the issuer's memory.

    The key is kept before it is used, so a reply to newAccount that gets lost costs nothing: the same key registered
    again yields the same account (section 7.3.1).
    """

    def __init__(self, authority: Authority, settings: ACMESettings, memory: IssuerMemory, clock: Clock) -> None:
        self._authority = authority
        self._settings = settings
        self._memory = memory
        self._clock = clock
        # A key belongs to one CA: an account at another directory must not be linked to it.
        place = hashlib.sha256(authority.directory_url.encode()).hexdigest()[:16]
        self._key_name = f"acme.account-key.{settings.options.account_key}.{place}"
        self._account_name = f"acme.account.{settings.options.account_key}.{place}"
        self._key: AccountKey | None = None
        self._known: _Registered = _Registered()

    @property
    def key(self) -> AccountKey:
        if self._key is None:
            kept = self._memory.load(self._key_name)
            kept = kept or self._memory.save(self._key_name, make_account_key(self._settings.options.account_key))
            self._key = load_account_key(kept)
        return self._key

    @property
    def url(self) -> str | None:
        """The account's URL, or None when it is not registered as far as we know."""
        return self._registered().url

    @property
    def orders_url(self) -> str | None:
        """Where the CA lists the account's orders (section 7.1.2.1); None for the many CAs that do not."""
        return self._registered().orders

    def ensure(self, journal: Journal | None = None) -> str:
        """The account's URL, after registering it if need be. Raises CARefused, IssuerUnavailable."""
        url = self.url
        if url is None:
            with self._authority.known.registering(self.key.thumbprint):
                url = self.url or self._register(journal)
        return url

    def forget(self, lost: str) -> None:
        """The CA does not know the account `lost`: register the key again at the next call of `ensure`."""
        with self._authority.known.registering(self.key.thumbprint):
            self._known = _Registered()
            if self.url == lost:  # Else another worker has registered it anew already.
                self._keep(_Registered())

    def post(self, url: str, payload: Mapping[str, Any] | None, accept: str = "application/json") -> Answer:
        """A request under the account. Raises AccountLost, CARefused, IssuerUnavailable."""
        account = self.ensure()
        try:
            return self._authority.post(url, payload, self.key, account, self._clock, accept)
        except CARefused as error:
            if error.kind == "accountDoesNotExist":
                raise AccountLost(account) from error
            raise

    def fetch(self, url: str, accept: str = "application/json") -> Answer:
        """A POST-as-GET under the account."""
        return self.post(url, None, accept)

    def _register(self, journal: Journal | None) -> str:
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
        failpoint("acme.account.before")
        answer = self._authority.post(directory.new_account, payload, self.key, None, self._clock)
        failpoint("acme.account.after-call")
        url = answer.location()
        orders = answer.json().get("orders")
        self._keep(_Registered(url, orders if isinstance(orders, str) else None))
        if journal is not None:
            journal.record(STEP, url=url)
        failpoint("acme.account.recorded")
        return url

    def _registered(self) -> _Registered:
        if self._known.url is None:
            kept = self._memory.load(self._account_name)
            self._known = _Registered(**json.loads(kept)) if kept else _Registered()
        return self._known

    def _keep(self, registered: _Registered) -> None:
        self._memory.replace(self._account_name, json.dumps(asdict(registered)).encode())
        self._known = registered
