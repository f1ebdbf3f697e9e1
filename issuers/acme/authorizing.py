"""Proving control over the names of an order, all together (RFC 8555 section 7.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.issuer import StillWaiting
from issuers.acme.account import Account
from issuers.acme.budget import OrderBudget
from issuers.acme.challenges import ChallengeAnswer, Publisher, answer_to, choose, journalled
from issuers.acme.dns_persist import wanted_for
from issuers.acme.known_ca import KnownCA
from issuers.acme.messages import Authorization, Challenge, Identifier, Order, read_authorization
from issuers.acme.pauses import pause_after, stamp, stamped
from issuers.acme.problem import CARefused, Nonsense, ProblemDocument, is_transient
from issuers.acme.settings import DNS_PERSIST_01, HTTP_01, TLS_ALPN_01
from issuers.acme.standing import StandingRecords
from issuers.acme.steps import StartOver, Steps

# An order follows its authorizations, so one request for the order tells of all names. Some CAs are slow to carry a
# failure over to the order; after this long the authorizations themselves are looked at.
_LOOK_CLOSER: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Authorizing:
    """The authorizations of one pending order."""

    kind: str
    known: KnownCA
    account: Account
    publisher: Publisher
    standing: StandingRecords
    clock: Clock
    steps: Steps
    identifiers: tuple[Identifier, ...]
    order: Order
    asked: timedelta | None
    budget: OrderBudget

    def go_on(self) -> StillWaiting | None:
        """Answer the challenges, or see how they stand; None when the order should be looked at again now.

        Raises StartOver, CARefused, Unorderable, IssuerUnavailable.
        """
        answered = self.steps.recorded("challenge")
        if answered is None:
            return self._answer()
        now = self.clock.now()
        since = stamped(answered.get("at"))
        if since is None or not timedelta(0) <= now - since < _LOOK_CLOSER:
            self._pending()
        return StillWaiting(pause_after(since, now, self.asked), self._detail(self.order))

    @staticmethod
    def problems_of(account: Account, order: Order) -> list[ProblemDocument]:
        """What the CA says about each name of a failed order that it could not validate."""
        return [_problem(found) for found in _fetched(account, order) if found.status == "invalid"]

    def _answer(self) -> StillWaiting | None:
        pending = self._pending()
        if not pending:
            return None
        chosen = [(authorization, choose(authorization, self.kind)) for authorization in pending]
        if self.kind == DNS_PERSIST_01:
            answers: list[ChallengeAnswer] = []
            waiting = self.standing.await_all(wanted_for(chosen, self.account.ensure()), self.steps)
            if waiting is not None:
                return waiting
        else:
            answers = self.publisher.located(
                [answer_to(authorization, challenge, self.account.key) for authorization, challenge in chosen]
            )
        earlier = self.steps.intended("challenge")
        # Of two keys the first: something that was asked for before a crash may hang on it.
        key = (earlier or {}).get("key") or self.account.key.thumbprint
        self.steps.intend("challenge", answers=journalled(answers, earlier), key=key)
        self.publisher.publish(answers, earlier, self.clock.now())
        asked: timedelta | None = None
        if all(challenge.status == "pending" for _, challenge in chosen):
            self.known.ask(self.order.url)
        for authorization, challenge in chosen:
            if challenge.status != "pending":
                continue  # Asked for before a crash, and under way since.
            failpoint("acme.challenge.before")
            asked = self._ask(authorization, challenge) or asked
            failpoint("acme.challenge.after-call")
        now = self.clock.now()
        self.steps.record("challenge", at=stamp(now))
        failpoint("acme.challenge.recorded")
        return StillWaiting(pause_after(now, now, asked), self._detail(self.order))

    def _ask(self, authorization: Authorization, challenge: Challenge) -> timedelta | None:
        """Tell the CA that the answer is there (section 7.5.1)."""
        try:
            return self.account.post(challenge.url, {}).pause
        except CARefused as error:
            if error.transient:
                raise
            # The CA may have gone on since we looked: what it says about the authorization now counts.
            now = _fetch(self.account, authorization.url)
            if now.status == "pending" and all(item.status == "pending" for item in now.challenges):
                raise
            return None

    def _pending(self) -> list[Authorization]:
        """The authorizations that are not valid yet. Raises when one cannot become so any more."""
        found = []
        failed = []
        for authorization in _fetched(self.account, self.order):
            if Identifier(authorization.identifier.kind, authorization.name) not in self.identifiers:
                # Answering would publish records for a name that nobody here asked for.
                raise Nonsense(
                    f"the order has an authorization for {authorization.name[:100]!r}, which was not ordered"
                )
            match authorization.status:
                case "valid":
                    continue
                case "pending":
                    found.append(authorization)
                case "invalid":
                    failed.append(_problem(authorization))
                case "expired" | "deactivated" | "revoked":
                    raise StartOver(f"The authorization for {authorization.name} was {authorization.status}.")
                case other:
                    raise Nonsense(f"an authorization has the status {other[:40]!r}")
        if failed:
            self.budget.failed(self.steps.order, self.identifiers, failed)
        if failed and was_away(failed, self.kind, self.known, self.order):
            raise StartOver("The CA could not reach certbroker, which was being restarted.")
        if failed and has_other_key(self.steps, self.account):
            raise StartOver("The account's key was changed while the CA was validating.")
        if failed:
            raise CARefused(200, _joined(failed), self.order.url, None)
        return found

    def _detail(self, order: Order) -> str:
        names = sorted(identifier.value for identifier in self.identifiers)
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return f"The CA is validating {shown} by {self.kind}."


def was_away(problems: list[ProblemDocument], kind: str, known: KnownCA, order: Order) -> bool:
    """Whether the names may have failed only because we did not run when the CA came to look for the answers."""
    missed = all(problem.kind == "connection" or is_transient(problem) for problem in problems)
    return kind in (HTTP_01, TLS_ALPN_01) and missed and not known.has_asked(order.url)


def has_other_key(steps: Steps, account: Account) -> bool:
    """Whether the challenges were answered with a key that is not the account's any more (section 8.1)."""
    return (steps.intended("challenge") or {}).get("key") not in (None, account.key.thumbprint)


def _fetched(account: Account, order: Order) -> Iterator[Authorization]:
    for url in order.authorizations:
        try:
            yield _fetch(account, url)
        except CARefused as error:
            if error.status in (404, 410):
                raise StartOver("An authorization had vanished from the CA.") from error
            raise


def _fetch(account: Account, url: str) -> Authorization:
    return read_authorization(account.fetch(url).json(), url)


def _problem(authorization: Authorization) -> ProblemDocument:
    error = authorization.error() or ProblemDocument(
        "unauthorized", "the CA could not validate it and does not say why"
    )
    return ProblemDocument(error.kind, error.detail, error.identifier or authorization.name, error.subproblems)


def _joined(problems: list[ProblemDocument]) -> ProblemDocument:
    if len(problems) == 1:
        return problems[0]
    return ProblemDocument("compound", f"{len(problems)} names could not be validated", None, tuple(problems))
