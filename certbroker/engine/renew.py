"""Which certificates are due for a look, and who asks their issuers.

Looking and deciding needs the database only and is done at once, for many together. Asking an issuer for its renewal
window is an outside call, in a lane for each issuer.
"""

from __future__ import annotations

from typing import Final

from certbroker.engine.lanes import Lanes
from certbroker.services.renewal.looks import Look
from certbroker.services.renewal.renewals import Renewals

_BATCH: Final = 200
_THREADS: Final = 48
_PER_ISSUER: Final = 4
_WAITING_PER_ISSUER: Final = 64


class RenewSweep:
    """Claims lifecycles that are due and sees to them."""

    def __init__(self, renewals: Renewals) -> None:
        self._renewals = renewals
        self._questions: Lanes[tuple[int, str], Look] = Lanes(
            "renewal", self._ask, threads=_THREADS, at_once=_PER_ISSUER, waiting=_WAITING_PER_ISSUER
        )

    def sweep(self) -> int:
        """See to what is due; return how much that was."""
        claimed = self._renewals.claim(_BATCH)
        looks = self._renewals.look(claimed)
        at_once = []
        for look in looks:
            if not self._renewals.is_question_due(look):
                at_once.append(look)
            elif not self._questions.put((look.care.vault_id, look.issuer.lower()), look):
                at_once.append(self._renewals.put_off(look))
        if at_once:
            self._renewals.attend(at_once)
        return len(claimed)

    def stop(self) -> None:
        """Wait for the questions in hand. What has not been asked is due again when its lease is over."""
        self._questions.stop()

    def _ask(self, look: Look) -> None:
        self._renewals.attend([self._renewals.ask(look)])
