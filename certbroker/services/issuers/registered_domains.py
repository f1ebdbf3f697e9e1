"""The part of a name that somebody has registered, by which CAs count certificates."""

from __future__ import annotations

import ipaddress
import threading
from functools import cache, lru_cache
from typing import Final

from publicsuffixlist import PublicSuffixList

_reading: Final = threading.Lock()


@lru_cache(maxsize=4096)
def registered_domain(name: str) -> str:
    """The registered domain of a DNS name in lower case; an IPv4 address itself, and the /64 of an IPv6 address.

    Suffixes of private registries (github.io) count as suffixes, as at Let's Encrypt, and unknown ones (internal) as if
    they were registries. A name that is a suffix itself stands for itself.
    """
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        base = name.removeprefix("*.")
        return _suffixes().privatesuffix(base) or base
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def _suffixes() -> PublicSuffixList:
    """The list that came with the library. Reading it takes a tenth of a second, so nobody does that beside another."""
    with _reading:
        return _list()


@cache
def _list() -> PublicSuffixList:
    return PublicSuffixList()
