"""Looking at an order, and what it means when the CA does not show it.

Before the CSR is sent, an order that is gone costs another order. After that it may cost a certificate that nobody ever
fetches, and one too many: so it is not enough that something answers *not found*. A proxy whose CA is being restarted
does so for everything, and Pebble says no more of an order that it has really lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from certbroker.ports.clock import Clock
from certbroker.ports.issuer import StillWaiting
from issuers.acme.account import Account
from issuers.acme.messages import Order, read_order
from issuers.acme.pauses import pause_after, stamp, stamped
from issuers.acme.problem import CARefused
from issuers.acme.steps import Later, StartOver, Steps
from issuers.acme.transport import Answer

# An order is given up by our own reckoning only when it is well past its end, by the CA's clock if the answer has it.
_EXPIRY_GRACE: Final = timedelta(hours=1)
# How long an order may be missing at the CA after it was made: a CA of several replicas may not show it at once.
_LAG: Final = timedelta(seconds=10)
# How long one that may become a certificate has to be missing all the time.
_LAG_AFTER_FINALIZE: Final = timedelta(hours=1)
# The step whose intent says since when it is.
_MISSING: Final = "missing"


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of the order of one attempt."""

    account: Account
    clock: Clock
    steps: Steps

    def of(self, url: str) -> tuple[Order, timedelta | None]:
        """The order as the CA has it now, and the pause it asked for. Raises StartOver when it is gone, and Later."""
        answer = self._answer(url)
        order = read_order(answer.json(), url)
        if self._missing_since() is not None:
            self.steps.intend(_MISSING, at="")
        over = order.expires is not None and order.expires + _EXPIRY_GRACE < (answer.date or self.clock.now())
        if over and order.status in ("pending", "ready"):
            raise StartOver("The order had expired.")
        return order, answer.pause

    def _answer(self, url: str) -> Answer:
        try:
            return self.account.fetch(url)
        except CARefused as error:
            if not _is_missing(error):
                raise
            self._wait()
            if not self.steps.committed:
                raise _vanished() from error
            if not self.account.is_served():
                raise error.unavailable() from error
        try:
            return self.account.fetch(url)  # The CA may have come back just before it was asked for the account.
        except CARefused as error:
            if not _is_missing(error):
                raise
            raise _vanished() from error

    def _wait(self) -> None:
        """Raise Later while it is too early to believe that an order is gone."""
        now = self.clock.now()
        if self.steps.committed:
            since, patience = self._missing_since(), _LAG_AFTER_FINALIZE
            if since is None or since > now:  # Or the clock was set back.
                self.steps.intend(_MISSING, at=stamp(now))
                since = now
        else:
            since, patience = stamped((self.steps.recorded("order") or {}).get("at")), _LAG
        if since is not None and timedelta(0) <= now - since < patience:
            raise Later(StillWaiting(pause_after(since, now), "The CA does not show the order at the moment."))

    def _missing_since(self) -> datetime | None:
        return stamped((self.steps.intended(_MISSING) or {}).get("at"))


def _is_missing(error: CARefused) -> bool:
    # Another account's order is as good as gone: the CA forgot ours and counts from the start again.
    return error.status in (404, 410) or error.kind == "unauthorized"


def _vanished() -> StartOver:
    return StartOver("The order had vanished from the CA.")
