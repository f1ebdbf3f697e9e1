"""Connections to checked addresses, under one deadline per request.

httpcore knows timeouts for single reads and writes only, so a server that drips one byte a second could hold a
request for ever. Every stream here shortens each wait to what is left of the request's deadline. Requests are
synchronous: a request and all its reads and writes run on one thread, so the deadline is kept per thread and pooled
connections need no rewiring.
"""

from __future__ import annotations

import ipaddress
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpcore

from certbroker.egress.addresses import resolve
from certbroker.egress.policy import EgressPolicy
from certbroker.ports.egress import EgressFailed

SocketOptions = Iterable[tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]]

# RFC 8305 section 5 starts the next address after 250 ms; we try one after the other, so a dead first address costs
# this.
_CONNECT_SHARE: Final = 10.0


@dataclass(slots=True)
class Exchange:
    """One request under way: when it must be over (monotonic seconds), and whether any byte of it was written."""

    deadline: float
    sent: bool = False

    def left(self) -> float:
        """Seconds left; raises EgressFailed when there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise EgressFailed("The whole exchange took too long.", sent=self.sent)
        return left


_current = threading.local()


@contextmanager
def exchange(timeout: float) -> Iterator[Exchange]:
    """What this thread does inside the block must be over in `timeout` seconds."""
    _current.exchange = Exchange(time.monotonic() + timeout)
    try:
        yield _current.exchange
    finally:
        del _current.exchange


def _exchange() -> Exchange | None:
    return getattr(_current, "exchange", None)


def _wait(timeout: float | None) -> float | None:
    under_way = _exchange()
    if under_way is None:
        return timeout
    return min(under_way.left(), timeout) if timeout is not None else under_way.left()


class DeadlineStream(httpcore.NetworkStream):
    """A stream whose waits end with the exchange that uses it."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _wait(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        wait = _wait(timeout)
        under_way = _exchange()
        if under_way is not None and buffer:
            under_way.sent = True
        self._stream.write(buffer, wait)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, _wait(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class CheckedBackend(httpcore.NetworkBackend):
    """Connects to an address that the policy was asked about, never to a name. TLS goes on to use the name.

    With a proxy every connection goes to the proxy, whose address is the operator's choice and is not checked.
    """

    def __init__(self, policy: EgressPolicy) -> None:
        # 0.0.0.0/0 and ::/0 allow what the operator has named as the proxy.
        everything = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
        self._policy = policy if policy.proxy is None else EgressPolicy(allowed_networks=everything)
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.NetworkStream:
        addresses = resolve(self._policy, host, port, _wait(timeout) or 0.0)
        failure: Exception = EgressFailed(f"The name {host} has no address.", sent=False)
        for position, address in enumerate(addresses):
            last = position == len(addresses) - 1
            wait = _wait(timeout if last else _CONNECT_SHARE)
            try:
                return DeadlineStream(
                    self._backend.connect_tcp(str(address), port, wait, local_address, socket_options)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure
