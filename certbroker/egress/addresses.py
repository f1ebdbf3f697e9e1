"""Resolving names within a deadline."""

from __future__ import annotations

import ipaddress
import socket
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Final

from certbroker.egress.policy import EgressPolicy, IPAddress
from certbroker.ports.egress import EgressFailed

# getaddrinfo cannot be interrupted and waits as long as the resolver's own configuration says. It runs on a thread of
# its own, so that the caller's deadline holds; this bounds how many such threads a dead resolver can leave behind.
_MAX_LOOKUPS: Final = 128
_lookups: Final = threading.BoundedSemaphore(_MAX_LOOKUPS)


def resolve(policy: EgressPolicy, host: str, port: int, timeout: float) -> list[IPAddress]:
    """Every address of `host`, in the resolver's order, all of them allowed by `policy`.

    One forbidden address among several refuses the name: which one is used would be the other side's choice. Raises
    EgressRefused, and EgressFailed when the name does not resolve within `timeout` seconds.
    """
    addresses = list(dict.fromkeys(_look_up(host, port, timeout)))
    for address in addresses:
        policy.check_address(host, address)
    return addresses


def _look_up(host: str, port: int, timeout: float) -> list[IPAddress]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass
    if not _lookups.acquire(timeout=max(timeout, 0)):
        raise EgressFailed(f"{host}: too many names are being resolved at once.", sent=False)
    answer: Future[list[IPAddress]] = Future()
    threading.Thread(target=_answer, args=(answer, host, port), name=f"resolve {host[:40]}", daemon=True).start()
    try:
        return answer.result(max(timeout, 0))
    except FutureTimeout:
        raise EgressFailed(f"The name {host} was not resolved in time.", sent=False) from None
    except (OSError, UnicodeError, ValueError) as error:
        raise EgressFailed(f"The name {host} cannot be resolved: {error}", sent=False) from error


def _answer(answer: Future[list[IPAddress]], host: str, port: int) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        answer.set_result([ipaddress.ip_address(address[0]) for *_, address in found])
    except BaseException as error:
        answer.set_exception(error)
    finally:
        _lookups.release()
