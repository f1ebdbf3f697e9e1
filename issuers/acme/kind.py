"""The issuer kind ACME: what is registered, and what it opens."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from cryptography import x509

from certbroker.domain.checkup import Checked
from certbroker.domain.errors import Invalid
from certbroker.domain.keys import PrivateKey
from certbroker.domain.policy import is_address, is_dns_name
from certbroker.ports.egress import Egress
from certbroker.ports.governor import BudgetState
from certbroker.ports.issuer import IssuanceRequest, IssuerSettings, Journal, Reply, Resources
from certbroker.ports.issuer_abilities import AccountDescription, RenewalWindow, StandingRecord
from issuers.acme.account import Account
from issuers.acme.budget import OrderBudget, look
from issuers.acme.challenges import Publisher
from issuers.acme.examination import examine
from issuers.acme.known_ca import KnownCA
from issuers.acme.order import OrderRun
from issuers.acme.problem import CARefused
from issuers.acme.renewal_info import renewal_window
from issuers.acme.revocation import Revoker
from issuers.acme.settings import ACMESettings, read_settings, staging, write_options
from issuers.acme.standing import StandingRecords
from issuers.acme.transport import Authority

_MAX_KNOWN: Final = 64


class ACMEIssuer:
    """One configured ACME issuer. Thread-safe, and cheap enough to be opened for each use."""

    def __init__(self, settings: ACMESettings, resources: Resources, authority: Authority) -> None:
        self._settings = settings
        self._resources = resources
        self._authority = authority
        dns = resources.dns[settings.options.dns] if settings.options.dns is not None else None
        self._publisher = Publisher(resources.board, dns, resources.names)
        warning = timedelta(days=settings.options.persist_warning)
        self._standing = StandingRecords(resources.names, resources.clock, warning)

    def advance(self, request: IssuanceRequest, journal: Journal) -> Reply:
        return self._run(request, journal).go_on()

    def abandon(self, request: IssuanceRequest, journal: Journal) -> None:
        self._run(request, journal).abandon()

    def revoke(self, certificate: bytes, reason: int, key: PrivateKey | None = None) -> None:
        """RFC 8555 section 7.6: by our account, or with the certificate's own key where that may not."""
        Revoker(self._authority, self._account(), self._resources.clock).revoke(certificate, reason, key)

    def renewal_window(self, certificate: bytes) -> RenewalWindow | None:
        """RFC 9773."""
        look(self._resources.governor, self._settings.options.directory)
        return renewal_window(self._authority, x509.load_der_x509_certificate(certificate), self._resources.clock)

    def budgets(self, names: Sequence[str]) -> list[BudgetState]:
        options = self._settings.options
        return self._resources.governor.explain(options.directory, self._account().url, names, options.limits)

    def account(self) -> AccountDescription:
        account = self._account()
        try:
            directory, status = self._authority.directory(self._resources.clock), account.status()
        except CARefused as error:
            raise error.unavailable() from error
        external = self._settings.external_account
        return AccountDescription(
            directory=self._authority.directory_url,
            account=account.url,
            status=status,
            thumbprint=None if account.url is None else account.key.thumbprint,
            key=self._settings.options.account_key,
            contacts=self._settings.contacts,
            external_account=None if external is None else external.key_id,
            external_account_required=directory.external_account_required,
            terms_of_service=directory.terms_of_service,
            website=directory.website,
            caa_identities=directory.caa_identities,
            profiles=None if directory.profiles is None else dict(directory.profiles),
            renewal_info=directory.renewal_info is not None,
        )

    def standing_record(self, name: str) -> StandingRecord:
        if not is_dns_name(name) or is_address(name):
            raise Invalid(f"{name[:100]!r} is not a DNS name.")
        try:
            directory = self._authority.directory(self._resources.clock)
            return self._standing.of(name.lower(), directory, self._account().ensure())
        except CARefused as error:
            if error.transient:
                raise error.unavailable() from error
            raise Invalid(f"The CA will not make an account: {error.problem.text()}") from error

    def examine(self, name: str, reach: Egress) -> Iterator[Checked]:
        resources = self._resources
        return examine(name, self._settings.options, self.account(), resources, reach, self.standing_record)

    def roll_over(self) -> None:
        account = self._account()
        if account.url is None:
            raise Invalid("The issuer has no account at the CA yet: the first order makes it.")
        _change(account.roll_over, "will not change the account's key")

    def deactivate(self) -> None:
        _change(self._account().leave, "will not deactivate the account")

    def _account(self) -> Account:
        return Account(self._authority, self._settings, self._resources.memory, self._resources.clock)

    def _run(self, request: IssuanceRequest, journal: Journal) -> OrderRun:
        options, resources, account = self._settings.options, self._resources, self._account()
        return OrderRun(
            options=options,
            authority=self._authority,
            account=account,
            budget=OrderBudget(
                resources.governor, options.limits, options.directory, account, request, resources.clock
            ),
            publisher=self._publisher,
            standing=self._standing,
            clock=self._resources.clock,
            request=request,
            journal=journal,
        )


def _change(change: Callable[[], None], refused: str) -> None:
    try:
        change()
    except CARefused as error:
        if error.transient:
            raise error.unavailable() from error
        raise Invalid(f"The CA {refused}: {error.problem.text()}") from error


class ACMEKind:
    """RFC 8555. Its only state is a cache: what is known of a CA serves all issuers that use the same way out."""

    provider = "ACME"
    local = False
    manual = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: weakref.WeakKeyDictionary[Egress, OrderedDict[str, KnownCA]] = weakref.WeakKeyDictionary()

    def check(self, settings: IssuerSettings) -> None:
        read_settings(settings)

    def open(self, settings: IssuerSettings, resources: Resources) -> ACMEIssuer:
        """The issuer. Raises Invalid, also when its DNS publisher is not configured here."""
        read = read_settings(settings)
        publisher = read.options.dns
        if publisher is not None and publisher not in resources.dns:
            raise Invalid(
                f"org_details.id: dns={publisher} names no configured DNS publisher; "
                f"there is {', '.join(sorted(resources.dns)) or 'none'}."
            )
        return ACMEIssuer(read, resources, self._authority(read, resources.egress))

    def rehearsal(self, settings: IssuerSettings, directory: str | None) -> IssuerSettings:
        without = replace(settings, account_id=None, password=None)
        options = staging(read_settings(without).options, directory)
        return replace(without, organization_id=write_options(options))

    def _authority(self, settings: ACMESettings, egress: Egress) -> Authority:
        url = settings.options.directory
        with self._lock:
            known = self._known.setdefault(egress, OrderedDict())
            ca = known.setdefault(url, KnownCA())
            known.move_to_end(url)
            if len(known) > _MAX_KNOWN:
                known.popitem(last=False)
        return Authority(url, egress, ca, settings.options.hosts)


KIND: Final = ACMEKind()
