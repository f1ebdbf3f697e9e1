"""Signed requests to one CA: nonces, problem documents, limits, and where its URLs may lead (RFC 8555 section 6)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from certbroker.domain.operation import Problem
from certbroker.domain.retry_after import http_date, retry_after
from certbroker.ports.clock import Clock
from certbroker.ports.egress import Egress, EgressFailed, EgressRefused, OutsideResponse
from certbroker.ports.issuer import IssuerUnavailable
from issuers.acme.known_ca import KnownCA
from issuers.acme.messages import Directory, read_directory
from issuers.acme.nonces import is_nonce
from issuers.acme.problem import CARefused, Nonsense, ProblemDocument, printable, read_problem
from issuers.acme.signing import AccountKey, encode_payload

_MAX_BODY: Final = 1 << 20
_TIMEOUT: Final = 30.0
# A CA that rejects every second nonce lets one request in a million fail so.
_NONCE_TRIES: Final = 20
# No `<` can stand in a target (RFC 3986), and to let it would make many of them without an end cost their square.
_LINK: Final = re.compile(r'<([^<>]*)>((?:\s*;\s*[^\s;=,]+\s*=\s*(?:"[^"]*"|[^\s;,"]*))*)')
_RELATION: Final = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]*))', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer. `url` is what was asked."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    pause: timedelta | None
    """What Retry-After asked for, within bounds."""
    date: datetime | None = None
    """The server's own time, which its other dates go by."""

    def json(self) -> Mapping[str, Any]:
        media_type = _media_type(self.headers)
        if media_type not in ("application/json", "application/problem+json"):
            raise Nonsense(f"{self.url} answered with {media_type or 'no media type'} instead of JSON")
        value = _parse(self.body)
        if not isinstance(value, Mapping):
            raise Nonsense(f"{self.url} did not answer with a JSON object")
        return value

    def location(self) -> str:
        """The URL of the resource that was made (RFC 9110 section 10.2.2)."""
        if "location" not in self.headers:
            raise Nonsense(f"{self.url} answered without a Location")
        return urljoin(self.url, self.headers["location"])

    def links(self, relation: str) -> list[str]:
        """The targets of Link headers of that relation (RFC 8288), in their order, at most 20."""
        found = []
        for target, parameters in _LINK.findall(self.headers.get("link", "")[:16384]):
            match = _RELATION.search(parameters)
            if match and relation in (match[1] or match[2]).lower().split():
                found.append(urljoin(self.url, target))
        return found[:20]


class Authority:
    """The way to one CA. Thread-safe; cheap to make, since what lasts is in `known`."""

    def __init__(self, directory_url: str, egress: Egress, known: KnownCA, extra_hosts: tuple[str, ...] = ()) -> None:
        self.directory_url = directory_url
        self.known = known
        self._egress = egress
        self._hosts = {_host(directory_url), *extra_hosts}

    def directory(self, clock: Clock) -> Directory:
        """The directory, at most an hour old."""
        directory = self.known.directory()
        if directory is None:
            directory = read_directory(self.get(self.directory_url, clock).json())
            for url in (directory.new_nonce, directory.new_account, directory.new_order):
                self._check(url)  # Else what was wrong for a moment would be believed for an hour.
            self.known.keep_directory(directory)
        return directory

    def get(self, url: str, clock: Clock) -> Answer:
        """A request without any account. Raises CARefused, IssuerUnavailable."""
        return self._answer(self._send("GET", url), clock)

    def post(
        self,
        url: str,
        payload: Mapping[str, Any] | None,
        key: AccountKey,
        account: str | None,
        clock: Clock,
        accept: str = "application/json",
    ) -> Answer:
        """POST `payload`, or POST-as-GET when it is None, signed by `key` for the account with the URL `account`.

        A rejected nonce is answered by an immediate repetition with the nonce that came with the rejection, as section
        6.5 asks. Raises CARefused for any other error of the CA, and IssuerUnavailable.
        """
        nonce = self.known.nonces.take()
        for _ in range(_NONCE_TRIES):
            nonce = nonce or self._new_nonce(clock)
            body = key.sign(encode_payload(payload), url=url, nonce=nonce, account=account)
            response = self._send("POST", url, body, accept)
            fresh = response.headers.get("replay-nonce")
            try:
                answer = self._answer(response, clock)
            except CARefused as error:
                if error.kind != "badNonce":
                    self.known.nonces.put(fresh)
                    raise
                nonce = fresh if fresh and is_nonce(fresh) else None
            else:
                self.known.nonces.put(fresh)
                return answer
        raise Nonsense(f"{printable(url)} rejected {_NONCE_TRIES} nonces one after the other")

    def _new_nonce(self, clock: Clock) -> str:
        url = self.directory(clock).new_nonce
        response = self._send("HEAD", url)
        nonce = response.headers.get("replay-nonce", "")
        if not is_nonce(nonce):
            self._answer(response, clock)  # An error says more than the missing header.
            raise Nonsense(f"{printable(url)} answered without a usable Replay-Nonce")
        return nonce

    def _send(
        self, method: str, url: str, body: bytes | None = None, accept: str = "application/json"
    ) -> OutsideResponse:
        self._check(url)
        headers = {"accept": accept, "accept-language": "en"}
        if body is not None:
            headers["content-type"] = "application/jose+json"
        try:
            return self._egress.request(
                method, url, headers=headers, content=body, max_bytes=_MAX_BODY, timeout=_TIMEOUT
            )
        except EgressRefused as error:
            message = f"Our own egress policy forbids a request to the CA: {error}"
            raise IssuerUnavailable(Problem("EgressRefused", message)) from error
        except EgressFailed as error:
            message = f"The CA cannot be reached: {printable(str(error))}"
            raise IssuerUnavailable(Problem("IssuerUnreachable", message)) from error

    def _check(self, url: str) -> None:
        """Raise IssuerUnavailable unless the URL leads to the CA."""
        if _host(url) not in self._hosts:
            raise Nonsense(
                f"a URL leads to {_host(url) or printable(url)[:100]} instead of {_host(self.directory_url)}; "
                "if that is right, add hosts=<that host> to the issuer's options"
            )

    def _answer(self, response: OutsideResponse, clock: Clock) -> Answer:
        now = clock.now()
        pause = retry_after(response.headers.get("retry-after"), now, response.headers.get("date"))
        if 200 <= response.status < 300:
            date = http_date(response.headers.get("date"))
            return Answer(response.status, response.headers, response.body, response.url, pause, date)
        if response.status < 400:
            raise Nonsense(f"{printable(response.url)} answered with the status {response.status}")
        if response.status in (404, 405, 410):
            self.known.forget_directory(response.url)
        raise CARefused(response.status, _problem(response), printable(response.url), now + pause if pause else None)


def _problem(response: OutsideResponse) -> ProblemDocument:
    """The problem document, or one that says what there is instead. Its media type is not asked: proxies change it."""
    try:
        found = read_problem(_parse(response.body))
    except Nonsense:
        found = None
    return found or ProblemDocument("about:blank", f"HTTP status {response.status} without a problem document")


def _parse(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Nonsense(f"its JSON cannot be read: {printable(str(error))}") from None


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _host(url: str) -> str:
    """The host that a URL leads to; empty for what is no URL of a host."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
