"""One order from newOrder to the certificate, able to stop and go on at any point (RFC 8555 section 7.4).

    order ──► challenge ──► finalize ──► certificate          each a step of the journal; `account` comes before them
      ▲           │             │            │
      └───────────┴─────────────┴────────────┘  StartOver: the order vanished, expired, or served somebody else

The rules:

- What the CA says about the order decides; the journal says which order is ours, what was published, and when.
- Only an order whose URL is in the journal is finalized. So a lost reply to newOrder costs an order and no
  certificate, and a lost reply to finalize is found in the order's status.
- From the intent to finalize on the CA may issue at any moment, so nothing is taken for a refusal without a look at
  the order.
- Each attempt has steps of its own: `order`, then `order.2` and so on, and no more than MAX_ATTEMPTS.
- An order that was finalized is gone when the CA has not shown it for long, and knows our account at the same time.
- Nothing is written while only waiting, but since when the CA does not show an order that was finalized.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cryptography.hazmat.primitives import hashes
from josepy.json_util import encode_b64jose

from certbroker.domain.operation import Problem
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.issuer import (
    CertificateIssued,
    IssuanceRequest,
    IssuerUnavailable,
    Journal,
    Reply,
    RequestRefused,
    StillWaiting,
)
from issuers.acme.abandoned import free_authorizations
from issuers.acme.account import Account, AccountLost
from issuers.acme.authorizing import Authorizing, has_other_key, was_away
from issuers.acme.budget import OrderBudget
from issuers.acme.chain import der, download, has_key, missing_names
from issuers.acme.challenges import Publisher
from issuers.acme.csr import csr_key
from issuers.acme.identifiers import Unorderable, identifiers_of
from issuers.acme.messages import Identifier, Order, read_order
from issuers.acme.ordering import Ordering
from issuers.acme.pauses import pause_after, stamp, stamped
from issuers.acme.problem import CARefused, Nonsense, is_transient, refusal_of
from issuers.acme.settings import ACMEOptions
from issuers.acme.sight import Sight
from issuers.acme.standing import StandingRecords
from issuers.acme.steps import Later, StartOver, Steps
from issuers.acme.transport import Authority

_log: Final = logging.getLogger(__name__)

# How long a CA may show an order as ready after it has accepted the CSR, because the answer came from a lagging
# replica.
_FINALIZE_AGAIN: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class OrderRun:
    """One call of `advance` for one request."""

    options: ACMEOptions
    authority: Authority
    account: Account
    budget: OrderBudget
    publisher: Publisher
    standing: StandingRecords
    clock: Clock
    request: IssuanceRequest
    journal: Journal

    def go_on(self) -> Reply:
        """Do what can be done now. Raises IssuerUnavailable."""
        try:
            return self._go_on()
        except IssuerUnavailable as unavailable:
            unavailable.committed = self._is_committed()
            raise

    def _go_on(self) -> Reply:
        self.budget.look()
        steps = Steps.current(self.journal)
        try:
            identifiers = identifiers_of(self.request.policy, self.options.challenge)
            while True:
                try:
                    return self._attempt(steps, identifiers)
                except CARefused as error:
                    self.budget.told(steps.order, identifiers, error)
                    raise
                except AccountLost as lost:
                    # Everything that the account had is gone with it, orders included.
                    self.account.forget(str(lost))
                    steps = self._start_over(steps, "The CA had lost the account.")
                except StartOver as cause:
                    steps = self._start_over(steps, str(cause))
        except CARefused as error:
            # What is not said about the CSR itself says nothing about the certificate either: it may exist.
            if error.transient or self._is_committed():
                raise error.unavailable() from error
            return self._refuse(steps, error.refusal())
        except Unorderable as error:
            return self._refuse(steps, error.problem)
        except _GivenUp as error:
            return self._refuse(steps, error.problem)
        except Later as error:
            return error.reply

    def _is_committed(self) -> bool:
        """Only the last attempt counts: a new one is begun when the order before is known to lead nowhere."""
        return Steps.current(self.journal).committed

    def abandon(self) -> None:
        """Take all answers to challenges away, and free what the order holds. Raises IssuerUnavailable."""
        last = Steps.current(self.journal)
        made = last.recorded("order")
        if made is not None and last.intended("finalize") is None and self.account.url is not None:
            free_authorizations(self.account, made["url"])
        for steps in Steps.all(self.journal):
            self.budget.ended(steps.order)
            entry = steps.intended("challenge")
            if entry is not None:
                self.publisher.withdraw(entry)

    def _attempt(self, steps: Steps, identifiers: tuple[Identifier, ...]) -> Reply:
        self.account.ensure(self.journal)
        order, asked = self._order(steps, identifiers)
        if order.status == "pending":
            authorizing = Authorizing(
                self.options.challenge,
                self.authority.known,
                self.account,
                self.publisher,
                self.standing,
                self.clock,
                steps,
                identifiers,
                order,
                asked,
                self.budget,
            )
            waiting = authorizing.go_on()
            if waiting is not None:
                return waiting
            order, asked = self._look(steps, order.url)
        if order.status == "ready":
            return self._finalize(steps, identifiers, order)
        return self._after_finalize(steps, identifiers, order, asked)

    def _after_finalize(
        self, steps: Steps, identifiers: tuple[Identifier, ...], order: Order, asked: timedelta | None
    ) -> Reply:
        match order.status:
            case "valid":
                return self._collect(steps, identifiers, order)
            case "invalid":
                raise self._failure(steps, identifiers, order)
            case "pending" | "ready" | "processing":
                return self._making(steps, asked)
            case _:
                raise Nonsense(f"an order has the status {order.status[:40]!r}")

    def _order(self, steps: Steps, identifiers: tuple[Identifier, ...]) -> tuple[Order, timedelta | None]:
        """The order of this attempt: the one in the journal, the one that got lost, or a new one."""
        entry = steps.recorded("order")
        if entry is not None:
            self.authority.known.claim(entry["url"], self.request.operation_id)
            return self._look(steps, entry["url"])
        ordering = Ordering(
            self.options,
            self.authority,
            self.account,
            self.budget,
            self.standing,
            self.clock,
            self.request,
            steps,
            identifiers,
        )
        return ordering.obtain(), None

    def _look(self, steps: Steps, url: str) -> tuple[Order, timedelta | None]:
        return Sight(self.account, self.clock, steps).of(url)

    def _finalize(self, steps: Steps, identifiers: tuple[Identifier, ...], order: Order) -> Reply:
        now = self.clock.now()
        accepted = steps.recorded("finalize")
        if accepted is not None:
            since = stamped(accepted.get("at"))
            if since is not None and timedelta(0) <= now - since < _FINALIZE_AGAIN:
                return self._making(steps, None)
        intended = steps.intended("finalize")
        if intended is None:
            cleaned = "yes" if self._clean_up(steps) else "no"
            steps.intend("finalize", order=order.url, at=stamp(now), cleaned=cleaned)
        failpoint("acme.finalize.before")
        try:
            answer = self.account.post(order.finalize, {"csr": encode_b64jose(self.request.csr)})
        except CARefused as error:
            if error.kind == "orderNotReady":
                # It was finalized already and the reply got lost, or the CA's left hand lags behind its right one.
                since = stamped((intended or {}).get("at"))
                return StillWaiting(pause_after(since, now), "The CA is preparing the order.")
            if error.status in (404, 410) and intended is None:
                # It may be no word of the CA, which has acted all the same: what it says about the order counts.
                return StillWaiting(pause_after(None, now), "The CA does not show the order at the moment.")
            if error.transient:
                raise
            return self._refused(steps, identifiers, order, error)
        failpoint("acme.finalize.after-call")
        steps.record("finalize", at=stamp(self.clock.now()))
        failpoint("acme.finalize.recorded")
        return self._after_finalize(steps, identifiers, read_order(answer.json(), order.url), answer.pause)

    def _refused(self, steps: Steps, identifiers: tuple[Identifier, ...], order: Order, error: CARefused) -> Reply:
        """The CA will not have the CSR; or it has it already, and the refusal is that of a repetition."""
        order, asked = self._look(steps, order.url)
        if order.status in ("processing", "valid"):
            return self._after_finalize(steps, identifiers, order, asked)
        if steps.recorded("finalize") is not None and order.status != "invalid":
            raise error.unavailable() from error
        if error.status in (404, 410):
            raise StartOver("The order had expired.") from error
        if error.kind == "unauthorized":
            # An authorization that was used again has ended since. Were it the account, newOrder would say so next.
            raise StartOver(f"The CA would not finalize the order: {error.problem.text()}.") from error
        raise _GivenUp(error.refusal())

    def _making(self, steps: Steps, asked: timedelta | None) -> StillWaiting:
        entry = steps.recorded("finalize") or steps.intended("finalize") or steps.recorded("order") or {}
        return StillWaiting(
            pause_after(stamped(entry.get("at")), self.clock.now(), asked), "The CA is making the certificate."
        )

    def _collect(self, steps: Steps, identifiers: tuple[Identifier, ...], order: Order) -> Reply:
        if order.certificate is None:
            raise Nonsense("a valid order has no certificate")
        steps.intend("certificate", url=order.certificate)
        failpoint("acme.certificate.before")
        try:
            chain = download(self.account, order.certificate, self.options.preferred_chain)
        except CARefused as error:
            # It exists. To order another one would be wrong, and to give up too: a later download may succeed.
            raise error.unavailable() from error
        failpoint("acme.certificate.after-call")
        leaf = chain[0]
        if not has_key(leaf, csr_key(self.request.csr)):
            if steps.recorded("finalize") is None:
                # CAs give one and the same order to all who ask for the same names at once, and somebody was faster.
                raise StartOver("The order had served another request for the same names.")
            raise _GivenUp(
                Problem("CertificateMismatch", "The CA issued a certificate for another key. Report this to the CA.")
            )
        missing = missing_names(leaf, identifiers)
        if missing:
            raise _GivenUp(
                Problem(
                    "CertificateMismatch",
                    f"The CA issued a certificate without the name {missing[0]}. Report this to the CA.",
                )
            )
        if (steps.intended("finalize") or {}).get("cleaned") != "yes":
            self._clean_up(steps)
        self.budget.issued(steps.order, identifiers)
        steps.record("certificate", serial=f"{leaf.serial_number:x}", sha256=leaf.fingerprint(hashes.SHA256()).hex())
        failpoint("acme.certificate.recorded")
        return CertificateIssued(der(chain))

    def _failure(self, steps: Steps, identifiers: tuple[Identifier, ...], order: Order) -> Exception:
        """Why an order became invalid, as what to raise: StartOver when it is no fault of the names."""
        problems = [] if order.error is None else [order.error]
        unproven = Authorizing.problems_of(self.account, order)
        if unproven:
            self.budget.failed(steps.order, identifiers, unproven)
        problems += unproven
        if not problems or all(is_transient(problem) for problem in problems):
            return StartOver("The order had become invalid without a lasting cause.")
        if was_away(problems, self.options.challenge, self.authority.known, order):
            return StartOver("The CA could not reach certbroker, which was being restarted.")
        if has_other_key(steps, self.account):
            return StartOver("The account's key was changed while the CA was validating.")
        return _GivenUp(_merged([refusal_of(problem) for problem in problems]))

    def _start_over(self, steps: Steps, cause: str) -> Steps:
        self._clean_up(steps)
        self.budget.ended(steps.order)
        following = steps.next()
        if following is None:
            raise _GivenUp(
                Problem(
                    "IssuerRefused",
                    f"{steps.number} orders came to nothing. The last time: {cause} "
                    "Look for the cause at the CA, then create the certificate again.",
                )
            )
        about = {"because": cause, "at": stamp(self.clock.now())}
        unreplaced = (steps.intended("order") or {}).get("unreplaced")
        following.intend("order", **about | ({"unreplaced": unreplaced} if unreplaced else {}))
        return following

    def _refuse(self, steps: Steps, problem: Problem) -> RequestRefused:
        self._clean_up(steps)
        self.budget.ended(steps.order)
        return RequestRefused(problem)

    def _clean_up(self, steps: Steps) -> bool:
        """Take the answers to challenges away; False when that failed, which must not stop a certificate."""
        entry = steps.intended("challenge")
        try:
            if entry is not None:
                self.publisher.withdraw(entry)
        except IssuerUnavailable as error:
            _log.warning("An answer to a challenge could not be withdrawn: %s", error)
            return False
        return True


class _GivenUp(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def _merged(problems: list[Problem]) -> Problem:
    first = problems[0]
    messages = dict.fromkeys(problem.message for problem in problems[:10])
    return Problem(first.code, " ".join(messages)[:4000], first.detail)
