"""Finding an order again whose making was never answered (RFC 8555 section 7.1.2.1).

What is at stake is an order, not a certificate: nothing is finalized before the order's URL is in the journal. So an
order that stays lost expires unused, and costs only one of those that the CA allows an account in a time.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from certbroker.ports.issuer import IssuanceRequest
from issuers.acme.account import Account
from issuers.acme.chain import download, has_key
from issuers.acme.csr import csr_key
from issuers.acme.messages import Identifier, Order, read_order
from issuers.acme.problem import CARefused, Nonsense
from issuers.acme.replacing import predecessor
from issuers.acme.transport import Authority

_MAX_PAGES: Final = 100
_MAX_LOOKED_AT: Final = 40


def find_lost_order(
    account: Account,
    authority: Authority,
    request: IssuanceRequest,
    identifiers: Collection[Identifier],
    known: Collection[str],
) -> Order | None:
    """An order of ours for these identifiers that no operation is known to work on, or None.

    An order in `known` is not it. A finished order is ours only if its certificate has the key of the CSR, and only
    if that key is not used again and again: otherwise it would be the certificate that is being renewed. Raises
    IssuerUnavailable.
    """
    for url in _listed(account):
        if url in known:
            continue
        try:
            order = read_order(account.fetch(url).json(), url)
            ours = order.identifiers == set(identifiers) and _is_ours(account, order, request)
            if ours and authority.known.claim(url, request.operation_id):
                return order
        except Nonsense:
            continue  # One unreadable order among many must not stop this one.
        except CARefused as error:
            if error.transient:
                raise error.unavailable() from error
    return None


def _is_ours(account: Account, order: Order, request: IssuanceRequest) -> bool:
    if order.replaces is not None and order.replaces != predecessor(request):
        return False
    if order.status in ("pending", "ready"):
        return True
    if order.status != "valid" or order.certificate is None or request.policy.reuse_key:
        return False
    return has_key(download(account, order.certificate, None)[0], csr_key(request.csr))


def _listed(account: Account) -> list[str]:
    """The account's orders, the latest first as far as the CA lists them in their order."""
    found: list[str] = []
    page = account.orders_url
    for _ in range(_MAX_PAGES):
        if page is None:
            break
        try:
            answer = account.fetch(page)
        except CARefused as error:
            if error.transient:
                raise error.unavailable() from error
            break  # The CA has no such list after all.
        listed = answer.json().get("orders")
        found += [url for url in listed if isinstance(url, str)] if isinstance(listed, list) else []
        page = next(iter(answer.links("next")), None)
    return found[::-1][:_MAX_LOOKED_AT]
