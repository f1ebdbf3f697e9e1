"""Issuers of a vault, and the opening of an issuer for the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from certbroker.domain.audit import Caller, record
from certbroker.domain.checkup import Checked, ok
from certbroker.domain.errors import Conflict, Invalid, NotFound, Unavailable
from certbroker.domain.issuer_health import IssuerHealth
from certbroker.domain.objects import Page, Vault, check_name
from certbroker.domain.policy import MAX_NAMES, SELF, UNKNOWN, is_address, is_dns_name
from certbroker.domain.records import Identity, SealedBytes
from certbroker.ports.clock import Clock
from certbroker.ports.dns import DNS
from certbroker.ports.egress import Egress
from certbroker.ports.governor import BudgetState, Governor, HasBudgets
from certbroker.ports.issuer import (
    Administrator,
    DNSPublisher,
    Issuer,
    IssuerKind,
    IssuerMemory,
    IssuerSettings,
    IssuerUnavailable,
    Resources,
)
from certbroker.ports.issuer_abilities import (
    AccountDescription,
    ExaminesNames,
    HasAccount,
    LooksAtItself,
    ProvesByRecord,
    Rehearses,
    StandingRecord,
)
from certbroker.ports.seal import Seal
from certbroker.services.issuers.resources import Board, Memory
from certbroker.services.objects.listings import decode, page
from certbroker.services.pki.signers import Signers
from certbroker.store.database import SQLiteStore
from certbroker.store.issuers import PublicSettings, StoredIssuer
from certbroker.store.transaction import SQLTransaction

_BUILT_IN = {SELF.lower(): SELF, UNKNOWN.lower(): UNKNOWN}


@dataclass(frozen=True, slots=True)
class IssuerChanges:
    """What a caller sets on an issuer; None keeps what is there."""

    provider: str | None = None
    account_id: str | None = None
    password: str | None = None
    organization_id: str | None = None
    administrators: tuple[Administrator, ...] | None = None
    enabled: bool | None = None

    def __repr__(self) -> str:
        return f"IssuerChanges({self.provider!r})"


class Issuers:
    """Configures issuers, and opens them. Passwords go in and never come out.

    `kinds` of issuers are found by their provider, in any case.
    """

    def __init__(
        self,
        store: SQLiteStore,
        seal: Seal,
        clock: Clock,
        kinds: Mapping[str, IssuerKind],
        egress: Egress,
        dns: Mapping[str, DNSPublisher],
        names: DNS,
        governor: Governor,
        signers: Signers,
    ) -> None:
        self._store = store
        self._seal = seal
        self._clock = clock
        self._kinds = kinds
        self._egress = egress
        self._dns = dns
        self._names = names
        self._governor = governor
        self._signers = signers

    def prepare(self) -> None:
        """Load the kinds of all issuers that there are, so that no request has to wait for that."""
        for provider in self._store.glance().issuers.providers():
            self._kinds.get(provider)

    def set(self, caller: Caller, vault: Vault, name: str, changes: IssuerChanges) -> StoredIssuer:
        """Make an issuer or replace all of its settings. Raises Invalid."""
        check_name(name)
        if name.lower() in _BUILT_IN:
            raise Invalid(f"{_BUILT_IN[name.lower()]} is built in; choose another name for the issuer.")
        if not changes.provider:
            raise Invalid("provider is missing: name the kind of issuer, for example ACME.")
        return self._put(caller, vault, name, changes, replacing=True)

    def update(self, caller: Caller, vault: Vault, name: str, changes: IssuerChanges) -> StoredIssuer:
        """Change the settings that are given. Raises NotFound, Invalid."""
        return self._put(caller, vault, name, changes, replacing=False)

    def _put(self, caller: Caller, vault: Vault, name: str, changes: IssuerChanges, *, replacing: bool) -> StoredIssuer:
        now = self._clock.now()
        seconds = int(now.timestamp())

        def work(transaction: SQLTransaction) -> StoredIssuer:
            old = transaction.issuers.get(vault.id, name)
            if old is None and not replacing:
                raise _not_found(name)
            base = PublicSettings("") if old is None or replacing else old.settings
            settings = _changed(base, changes)
            sealed = None if old is None or replacing else old.sealed_password
            password = changes.password
            if password is None and sealed is not None:
                password = self._password(vault.id, name, sealed)
            elif password:
                sealed = self._seal.close(_identity(vault.id, name), password.encode())
            elif password == "":
                sealed = None
            self._check(_settings(name, settings, password))
            issuer = StoredIssuer(old.name if old else name, settings, old.created if old else seconds, seconds, sealed)
            transaction.issuers.put(vault.id, issuer)
            transaction.audit(record(caller, now, f"/certificates/issuers/{name}"))
            return issuer

        return self._store.write(work)

    def get(self, vault: Vault, name: str) -> StoredIssuer:
        """An issuer, without its password. Raises NotFound."""
        issuer = self._store.glance().issuers.get(vault.id, name)
        if issuer is None:
            raise _not_found(name)
        return issuer

    def health(self, vault: Vault, name: str) -> IssuerHealth:
        """How an issuer has done with the settings that it has. Raises NotFound."""
        health = self._store.glance().issuers.health(vault.id, name)
        if health is None:
            raise _not_found(name)
        return health

    def listing(self, vault: Vault, after: str, size: int) -> Page[StoredIssuer]:
        rows = self._store.glance().issuers.listing(vault.id, decode(after), size + 1)
        return page(rows, size, lambda issuer: issuer.name.lower())

    def delete(self, caller: Caller, vault: Vault, name: str) -> StoredIssuer:
        """Delete an issuer and return what it was. Raises NotFound, and Conflict while operations wait for it."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> StoredIssuer:
            issuer = transaction.issuers.get(vault.id, name)
            if issuer is None:
                raise _not_found(name)
            if transaction.operations.count_unfinished(vault.id, name):
                raise Conflict(f"Operations are waiting for the issuer {name}: cancel them, or let them finish.")
            transaction.issuers.remove(vault.id, name)
            transaction.audit(record(caller, now, f"/certificates/issuers/{name}"))
            return issuer

        return self._store.write(work)

    def kind(self, vault_id: int, name: str) -> IssuerKind:
        """The kind of an issuer. Raises NotFound."""
        built_in = _BUILT_IN.get(name.lower())
        provider = built_in or self._stored(vault_id, name).settings.provider
        return self._kind(provider)

    def open(self, vault_id: int, name: str) -> Issuer:
        """An issuer that can be asked.

        Raises NotFound, and Invalid when it is disabled or its settings no longer hold.
        """
        built_in = _BUILT_IN.get(name.lower())
        if built_in:
            return self._opened(vault_id, IssuerSettings(built_in, built_in))
        stored = self._stored(vault_id, name)
        if not stored.settings.enabled:
            raise Invalid(f"The issuer {name} is disabled: enable it, or use another one.")
        return self._opened(vault_id, self._revealed(vault_id, stored))

    def open_to_clean_up(self, vault_id: int, name: str) -> Issuer:
        """An issuer that ends what it has begun, also one that is disabled.

        Raises NotFound, and Invalid when its settings no longer hold.
        """
        return self._opened(vault_id, self._revealed(vault_id, self._stored(vault_id, name)))

    def account(self, vault: Vault, name: str) -> AccountDescription:
        """What the CA says of an issuer's account. Raises NotFound, Invalid, Unavailable."""
        issuer = self._with_account(vault, name)
        try:
            return issuer.account()
        except IssuerUnavailable as error:
            raise Unavailable(error.problem.message) from error

    def roll_over_account(self, caller: Caller, vault: Vault, name: str) -> None:
        """Exchange the key of an issuer's account; safe to repeat. Raises NotFound, Invalid, Unavailable."""
        self._change_account(caller, name, self._with_account(vault, name).roll_over)

    def deactivate_account(self, caller: Caller, vault: Vault, name: str) -> None:
        """Give an issuer's account up for good; safe to repeat. Raises NotFound, Invalid, Unavailable."""
        self._change_account(caller, name, self._with_account(vault, name).deactivate)

    def standing_record(self, vault: Vault, name: str, host: str) -> StandingRecord:
        """The record by which an issuer lets a DNS name be proved for good, and how it stands.

        Raises NotFound, Invalid, and Unavailable when the CA cannot be asked now.
        """
        issuer = self.open(vault.id, name)
        if not isinstance(issuer, ProvesByRecord):
            raise Invalid(f"The issuer {name[:64]} proves nothing by standing records; those of the kind ACME may.")
        try:
            return issuer.standing_record(host)
        except IssuerUnavailable as error:
            raise Unavailable(error.problem.message) from error

    def examine(self, vault: Vault, name: str, host: str, reach: Egress) -> Iterable[Checked]:
        """Whether an issuer could prove control over a host's name. Raises NotFound, Invalid, IssuerUnavailable."""
        issuer = self.open(vault.id, name)
        return issuer.examine(host, reach) if isinstance(issuer, ExaminesNames) else []

    def checkup(self, vault: Vault, name: str, what: str) -> Iterable[Checked]:
        """How an issuer is that needs nobody outside. Raises NotFound, Invalid."""
        issuer = self.open(vault.id, name)
        return issuer.checkup(what) if isinstance(issuer, LooksAtItself) else [ok(what, "It needs nobody outside.")]

    def rehearsal(self, vault: Vault, name: str, directory: str | None) -> IssuerSettings:
        """The settings of an issuer for the staging environment of its CA. Raises NotFound, Invalid."""
        stored = self._stored(vault.id, name)
        kind = self._kind(stored.settings.provider)
        if not isinstance(kind, Rehearses):
            raise Invalid(f"Issuers of the provider {stored.settings.provider} have no staging environment.")
        return kind.rehearsal(_settings(stored.name, stored.settings, None), directory)

    def open_for_rehearsal(self, vault: Vault, name: str, directory: str | None, memory: IssuerMemory) -> Issuer:
        """The issuer for the staging environment of its CA; it remembers nothing but in `memory`."""
        return self._lent(vault.id, self.rehearsal(vault, name, directory), memory)

    def budgets(self, vault: Vault, name: str, names: Sequence[str]) -> list[BudgetState]:
        """How an issuer's rate budgets stand, and those for a certificate for these names.

        Nothing for an issuer that keeps none. Raises NotFound, Invalid.
        """
        wrong = next((each for each in names if not is_address(each) and not is_dns_name(each)), None)
        if wrong is not None or len(names) > MAX_NAMES:
            said = (
                f"has {wrong[:100]!r}, which is no host name and no address" if wrong else f"has more than {MAX_NAMES}"
            )
            raise Invalid(f"names {said}.")
        self.get(vault, name)
        issuer = self.open(vault.id, name)
        return issuer.budgets(names) if isinstance(issuer, HasBudgets) else []

    def _change_account(self, caller: Caller, name: str, change: Callable[[], None]) -> None:
        """On record before the CA is asked, since nobody may be there to say so afterwards, and again when done."""
        self._note(caller, name, "begun")
        try:
            change()
        except IssuerUnavailable as error:
            raise Unavailable(error.problem.message) from error
        self._note(caller, name, "ok")

    def _note(self, caller: Caller, name: str, outcome: str) -> None:
        noted = record(caller, self._clock.now(), f"/certificates/issuers/{name}/account", outcome)
        self._store.write(lambda transaction: transaction.audit(noted))

    def _with_account(self, vault: Vault, name: str) -> HasAccount:
        """Also of a disabled issuer, whose account somebody may want to give up."""
        stored = self._stored(vault.id, name)
        issuer = self._opened(vault.id, self._revealed(vault.id, stored))
        if not isinstance(issuer, HasAccount):
            raise Invalid(f"Issuers of the provider {stored.settings.provider} have no account: {name} is one.")
        return issuer

    def _revealed(self, vault_id: int, stored: StoredIssuer) -> IssuerSettings:
        """The settings with the password."""
        sealed = stored.sealed_password
        password = None if sealed is None else self._password(vault_id, stored.name, sealed)
        return _settings(stored.name, stored.settings, password)

    def _opened(self, vault_id: int, settings: IssuerSettings) -> Issuer:
        return self._lent(vault_id, settings, Memory(self._store, self._seal, vault_id, settings.name))

    def _lent(self, vault_id: int, settings: IssuerSettings, memory: IssuerMemory) -> Issuer:
        resources = Resources(
            self._egress,
            memory,
            Board(self._store),
            self._dns,
            self._names,
            self._clock,
            self._governor,
            self._signers.of(vault_id),
        )
        return self._kind(settings.provider).open(settings, resources)

    def _stored(self, vault_id: int, name: str) -> StoredIssuer:
        stored = self._store.glance().issuers.get(vault_id, name)
        if stored is None:
            raise _not_found(name)
        return stored

    def _kind(self, provider: str) -> IssuerKind:
        kind = self._kinds.get(provider)
        if kind is None:
            known = ", ".join(sorted(name for name in self._kinds if name.lower() not in _BUILT_IN))
            raise Invalid(f"provider {provider[:64]!r} is not one that is installed here; there are: {known}.")
        return kind

    def _check(self, settings: IssuerSettings) -> None:
        if settings.provider.lower() in _BUILT_IN:
            raise Invalid(f"provider {settings.provider} is built in and needs no issuer: use it as issuer.name.")
        kind = self._kinds.get(settings.provider)
        # Azure takes any provider, and its own tests use one that does not exist; such an issuer is kept and refuses to
        # issue, with a message that says why.
        if kind is not None:
            kind.check(settings)

    def _password(self, vault_id: int, name: str, sealed: SealedBytes) -> str:
        return self._seal.open(_identity(vault_id, name), sealed).decode()


def _changed(settings: PublicSettings, changes: IssuerChanges) -> PublicSettings:
    return PublicSettings(
        provider=changes.provider or settings.provider,
        account_id=settings.account_id if changes.account_id is None else changes.account_id,
        organization_id=settings.organization_id if changes.organization_id is None else changes.organization_id,
        administrators=settings.administrators if changes.administrators is None else changes.administrators,
        enabled=settings.enabled if changes.enabled is None else changes.enabled,
    )


def _settings(name: str, settings: PublicSettings, password: str | None) -> IssuerSettings:
    return IssuerSettings(
        name,
        settings.provider,
        settings.account_id,
        password,
        settings.organization_id,
        settings.administrators,
        settings.enabled,
    )


def _identity(vault_id: int, name: str) -> Identity:
    return Identity(vault_id, "issuer", name, "password")


def _not_found(name: str) -> NotFound:
    return NotFound("issuer", f"Issuer not found: there is no issuer named {name[:64]} in this key vault.")
