"""The only way out: requests to other servers, under the operator's egress policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Protocol


@dataclass(frozen=True, slots=True)
class OutsideResponse:
    """What another server answered. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class EgressRefused(Exception):
    """Our own policy forbids the URL: the scheme, the host, or an address it resolves to. The text names the rule."""


class EgressFailed(Exception):
    """The other server could not be reached, broke off, took too long, or sent more than was asked for.

    `sent` is false only when it is certain that the server has not seen the request.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class Egress(Protocol):
    """Makes one request. Blocking and thread-safe; never retries, never follows a redirect.

    The name is resolved once, every address is checked, and the connection goes to a checked address, so that a name
    cannot change under the check.
    """

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        max_bytes: int = 1 << 20,
        timeout: float = 30.0,
        into: IO[bytes] | None = None,
    ) -> OutsideResponse:
        """Send the request and read the whole answer: at most `max_bytes` of body, `timeout` seconds over all.

        With `into` the body is written there as it comes, and the answer has none. Raises EgressRefused and
        EgressFailed; any status is an answer.
        """
        ...
