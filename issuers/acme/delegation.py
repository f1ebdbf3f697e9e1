"""Where a record for a CA has to be: the name it looks at may be a CNAME into another zone (RFC 8555 section 8.4)."""

from __future__ import annotations

import logging
from typing import Final

from certbroker.domain.operation import Problem
from certbroker.ports.dns import DNS, DNSUnanswered
from certbroker.ports.issuer import IssuerUnavailable

_log: Final = logging.getLogger(__name__)

# As many as common resolvers follow.
_MAX_ALIASES: Final = 8


def end_of_aliases(name: str, dns: DNS) -> str:
    """The name that CNAME records lead to from `name`; `name` itself where there are none.

    Where nobody can say whether there is another one, the search ends: there is none for most names, and the CA will
    tell. Raises IssuerUnavailable when they lead in a circle, or on and on.
    """
    path = [name.lower()]
    while True:
        try:
            target = dns.alias(path[-1])
        except DNSUnanswered as error:
            _log.warning("Whether there is a CNAME record at %s is not known: %s", path[-1], error)
            return path[-1]
        if target is None:
            return path[-1]
        if target in path:
            raise _broken([*path, target], "in a circle")
        if len(path) > _MAX_ALIASES:
            raise _broken([*path, target], "further than the CA will follow")
        path.append(target)


def _broken(path: list[str], where: str) -> IssuerUnavailable:
    shown = " → ".join(path)
    message = f"CNAME records lead {where}: {shown[:1500]}. Correct them in DNS; it is tried again by itself."
    return IssuerUnavailable(Problem("DNSDelegationBroken", message))
