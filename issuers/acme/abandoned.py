"""What is left of an order that nobody waits for any more (RFC 8555 section 7.5.2)."""

from __future__ import annotations

import logging
from typing import Final

from certbroker.failpoints import failpoint
from certbroker.ports.issuer import IssuerUnavailable
from issuers.acme.account import Account, AccountLost
from issuers.acme.messages import read_authorization, read_order
from issuers.acme.problem import CARefused

_log: Final = logging.getLogger(__name__)


def free_authorizations(account: Account, order_url: str) -> None:
    """Deactivate the pending authorizations of an order, of which a CA lets an account have a number at a time.

    Valid ones stay, since the next order for the name can use them. The first error ends it: they expire by themselves
    in the end.
    """
    try:
        order = read_order(account.fetch(order_url).json(), order_url)
        for url in order.authorizations if order.status == "pending" else ():
            if read_authorization(account.fetch(url).json(), url).status == "pending":
                failpoint("acme.abandon.before")
                account.post(url, {"status": "deactivated"})
                failpoint("acme.abandon.after-call")
    except (CARefused, AccountLost, IssuerUnavailable) as error:
        _log.info("The authorizations of an abandoned order were left to expire: %s", error)
