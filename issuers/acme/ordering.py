"""Making an order, or finding the one again whose making was never answered (RFC 8555 section 7.4)."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.issuer import IssuanceRequest, StillWaiting
from issuers.acme.account import Account
from issuers.acme.budget import OrderBudget
from issuers.acme.identifiers import Unorderable
from issuers.acme.lost_orders import find_lost_order
from issuers.acme.messages import Identifier, Order, read_order
from issuers.acme.pauses import stamp, stamped
from issuers.acme.problem import CARefused
from issuers.acme.replacing import ALREADY_REPLACED, objects, predecessor
from issuers.acme.settings import DNS_PERSIST_01, ACMEOptions
from issuers.acme.standing import StandingRecords
from issuers.acme.steps import Later, Steps
from issuers.acme.transport import Authority

_log: Final = logging.getLogger(__name__)

_BETWEEN_ORDERS: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Ordering:
    """The order of one attempt that has none in the journal yet."""

    options: ACMEOptions
    authority: Authority
    account: Account
    budget: OrderBudget
    standing: StandingRecords
    clock: Clock
    request: IssuanceRequest
    steps: Steps
    identifiers: tuple[Identifier, ...]

    def obtain(self) -> Order:
        """The order that got lost, or a new one. Raises Later, CARefused, Unorderable, IssuerUnavailable."""
        wanted = dict(self.steps.intended("order") or {})
        if wanted.get("asked") == "yes":
            known = [entry["url"] for earlier in Steps.all(self.steps.journal) if (entry := earlier.recorded("order"))]
            found = find_lost_order(self.account, self.authority, self.request, self.identifiers, known)
            if found is not None:
                self.steps.record("order", url=found.url, at=stamp(self.clock.now()), found="in the account's orders")
                return found
        return self._new_order(wanted)

    def _new_order(self, wanted: dict[str, str]) -> Order:
        self._pace(wanted)
        directory = self.authority.directory(self.clock)
        if self.steps.number > 1 and self.options.challenge == DNS_PERSIST_01:
            # An order that only waits for a person to publish a record would expire again.
            waiting = self.standing.await_for(self.identifiers, directory, self.account.ensure(), self.steps)
            if waiting is not None:
                raise Later(waiting)
        payload: dict[str, Any] = {"identifiers": [identifier.json() for identifier in self.identifiers]}
        if self.options.profile is not None:
            if directory.profiles is None or self.options.profile not in directory.profiles:
                raise Unorderable(
                    f"The CA has no profile {self.options.profile!r}; it has "
                    f"{', '.join(sorted(directory.profiles or ())) or 'none'}. "
                    "Correct profile= in the issuer's options."
                )
            payload["profile"] = self.options.profile
        names = json.dumps([identifier.value for identifier in self.identifiers])
        about = {**wanted, "identifiers": names, "asked": "yes"}
        replaced = None
        if directory.renewal_info is not None and "unreplaced" not in wanted:
            replaced = predecessor(self.request)
        if replaced is not None:
            payload["replaces"] = about["replaces"] = replaced
        self.budget.admit(self.steps.order, self.identifiers, replaces=replaced is not None)
        self.steps.intend("order", **about)
        failpoint("acme.order.before")
        try:
            answer = self.account.post(directory.new_order, payload)
        except CARefused as error:
            if replaced is not None:
                failures = int(wanted.get("failures", "0")) + (error.status == 500)
                if objects(error, failures):
                    return self._without_predecessor(about, error)
                about["failures"] = str(failures)
            # Below 500 there is no order to look for the next time. Above, one may have been made all the same.
            if error.status < 500:
                about |= {"asked": "no", "answered": error.kind}
            self.steps.intend("order", **about)
            raise
        failpoint("acme.order.after-call")
        url = answer.location()
        self.authority.known.claim(url, self.request.operation_id)
        self.steps.record("order", url=url, at=stamp(self.clock.now()))
        failpoint("acme.order.recorded")
        return read_order(answer.json(), url)

    def _without_predecessor(self, about: dict[str, str], error: CARefused) -> Order:
        """Order at once, and for the rest of the operation, without saying what is replaced.

        Where an order for the replacement exists already, it may be one of ours that got lost. A CA that does not list
        orders, such as Let's Encrypt, gives a pending one again to whoever orders the same names.
        """
        _log.warning("The CA does not take an order as the replacement of a certificate: %s", error)
        may_exist = error.kind == ALREADY_REPLACED or error.status >= 500
        about = {field: text for field, text in about.items() if field != "replaces"}
        self.steps.intend("order", **about | {"asked": "yes" if may_exist else "no", "unreplaced": error.kind})
        self.budget.ended(self.steps.order)  # It is another order to the budgets.
        failpoint("acme.order.unreplaced")
        return self.obtain()

    def _pace(self, wanted: dict[str, str]) -> None:
        """The second order may follow the first at once; the others not, whatever goes wrong at the CA."""
        since, now = stamped(wanted.get("at")), self.clock.now()
        if self.steps.number > 2 and since is not None and timedelta(0) <= now - since < _BETWEEN_ORDERS:
            left = _BETWEEN_ORDERS - (now - since)
            raise Later(StillWaiting(left, f"Another order will be made. {wanted.get('because', '')}"))
