"""What a CA, or whatever stands between, may do to a request: faults for `FaultProxy.script`.

A function here is a fault, or makes one out of what it is given.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.certificates import pem
from tests.support.fault_proxy import Exchange, Fault, Reply

PROBLEM = "application/problem+json"


def lose_request(exchange: Exchange) -> None:
    """Nothing happened at the CA."""
    exchange.drop()


def lose_reply(exchange: Exchange) -> None:
    """It happened, and nobody was told."""
    exchange.forward()
    exchange.drop()


def truncate(exchange: Exchange) -> None:
    """It happened, and half of the answer comes."""
    encoded = exchange.forward().encoded()
    exchange.write(encoded[: max(len(encoded) - 10, len(encoded) // 2)])
    exchange.drop()


def endless(exchange: Exchange) -> None:
    """A body that never ends, as fast as it is taken."""
    exchange.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    while exchange.write(b"10000\r\n" + b" " * 65536 + b"\r\n"):
        pass


def hundred_megabytes(exchange: Exchange) -> None:
    """A body that says how large it is."""
    exchange.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 104857600\r\n\r\n")
    for _ in range(1600):
        if not exchange.write(b" " * 65536):
            break
    exchange.drop()


def drip(exchange: Exchange) -> None:
    """A byte now and then, so that no single wait is long."""
    exchange.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n")
    while exchange.write(b" "):
        time.sleep(0.05)


def without_nonce(exchange: Exchange) -> None:
    exchange.send(exchange.forward().without("Replay-Nonce"))


def with_nonce(value: str) -> Fault:
    """The CA's answer with another nonce, which is none of its."""
    return lambda exchange: exchange.send(exchange.forward().having(Replay_Nonce=value))


def moved(url: str) -> Fault:
    """A redirect; `{self}` in the URL is what was asked for."""

    def fault(exchange: Exchange) -> None:
        exchange.send(Reply(302, (("Location", url.replace("{self}", exchange.passed.path)),)))

    return fault


def problem(
    status: int,
    kind: str,
    detail: str = "words of the CA",
    *,
    retry_after: str | None = None,
    subproblems: Sequence[tuple[str, str, str]] = (),
    acted: bool = False,
    **more: Any,
) -> Fault:
    """A problem document instead of the CA's answer; of subproblems the type, the name and the detail.

    `acted` when the CA did what was asked before that. Every error has a nonce that is good (RFC 8555 section 6.5).
    """
    body: dict[str, Any] = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail, "status": status, **more}
    if subproblems:
        body["subproblems"] = [
            {"type": f"urn:ietf:params:acme:error:{kind}", "detail": said, "identifier": {"type": "dns", "value": name}}
            for kind, name, said in subproblems
        ]
    headers = [("Content-Type", PROBLEM), *([("Retry-After", retry_after)] if retry_after is not None else [])]

    def fault(exchange: Exchange) -> None:
        if acted:
            exchange.forward()
        exchange.send(Reply(status, tuple(headers), json.dumps(body).encode()))

    return fault


def busy(status: int = 503, retry_after: str | None = None, *, acted: bool = False) -> Fault:
    """What a load balancer or a firewall says in the place of the CA; `acted` when the CA was only too slow for it."""
    headers = [("Content-Type", "text/html"), *([("Retry-After", retry_after)] if retry_after is not None else [])]

    def fault(exchange: Exchange) -> None:
        if acted:
            exchange.forward()
        exchange.send(Reply(status, tuple(headers), b"<html>Not now</html>"))

    return fault


def asking_to_wait(retry_after: str, **fields: Any) -> Fault:
    """The CA's answer with this Retry-After, and with other fields in its JSON."""
    return lambda exchange: exchange.send(exchange.forward().changed(**fields).having(Retry_After=retry_after))


def changed(**fields: Any) -> Fault:
    """The CA's answer with other fields in its JSON."""
    return lambda exchange: exchange.send(exchange.forward().changed(**fields))


def chain(make: Callable[[x509.Certificate], Sequence[x509.Certificate]]) -> Fault:
    """Other certificates than the CA issued, made from its end entity's."""
    return whole_chain(lambda leaf, issuers: make(leaf))


def whole_chain(
    make: Callable[[x509.Certificate, Sequence[x509.Certificate]], Sequence[x509.Certificate]],
) -> Fault:
    """The same, made from the end entity's certificate and those of its issuers."""

    def fault(exchange: Exchange) -> None:
        reply = exchange.forward()
        leaf, *issuers = x509.load_pem_x509_certificates(reply.body)
        exchange.send(Reply(200, reply.headers, "".join(map(pem, make(leaf, issuers))).encode()))

    return fault


def unlimited(exchange: Exchange) -> None:
    """A certificate that is valid whatever clocks say, by an authority of our own."""
    ages = timedelta(days=3650)

    def renewed(leaf: x509.Certificate) -> list[x509.Certificate]:
        sans = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [
            x509.CertificateBuilder()
            .subject_name(leaf.subject)
            .issuer_name(leaf.issuer)
            .public_key(leaf.public_key())
            .serial_number(leaf.serial_number)
            .not_valid_before(leaf.not_valid_before_utc - ages)
            .not_valid_after(leaf.not_valid_after_utc + ages)
            .add_extension(sans, critical=True)
            .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        ]

    chain(renewed)(exchange)


class Hold:
    """A fault that keeps an answer back, after the CA has acted, until it is released."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self._released = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        reply = exchange.forward()
        self.arrived.set()
        self._released.wait(30)
        exchange.send(reply)

    def release(self) -> None:
        self._released.set()
