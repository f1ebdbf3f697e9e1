"""What the ACME issuer is lent by its surroundings, in memory, and requests to give to it."""

from __future__ import annotations

import http.server
import ipaddress
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certbroker.domain.budget import Limits, PlannedOrder, Refusal, Scope
from certbroker.domain.csr import build_csr
from certbroker.domain.errors import Invalid, LeaseLost
from certbroker.domain.policy import CertificatePolicy, SubjectAlternativeNames
from certbroker.egress import EgressPolicy, HTTPEgress
from certbroker.ports.authority import Signer
from certbroker.ports.clock import Clock
from certbroker.ports.dns import DNS, CAARecord
from certbroker.ports.governor import BudgetState, Governor
from certbroker.ports.issuer import (
    Administrator,
    BoardKind,
    CertificateIssued,
    DNSPublisher,
    IssuanceRequest,
    IssuerSettings,
    IssuerUnavailable,
    Reply,
    Resources,
    StillWaiting,
)
from issuers.acme import KIND, ACMEIssuer, authorizing

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class Crash(BaseException):
    """The process dies."""


class SystemClock:
    """The time as it is."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class MemoryJournal:
    """A journal that keeps text only, as a database would. `lost` makes every write fail as after a lost lease."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], str] = {}
        self.writes: list[tuple[str, str]] = []
        self.lost = False

    def intend(self, step: str, **about: str) -> None:
        self._write("intended", step, about)

    def record(self, step: str, **reply: str) -> None:
        self._write("recorded", step, reply)

    def intended(self, step: str) -> Mapping[str, str] | None:
        return self._read("intended", step)

    def recorded(self, step: str) -> Mapping[str, str] | None:
        return self._read("recorded", step)

    def everything(self) -> str:
        return json.dumps([*self._entries.values()])

    def _write(self, kind: str, step: str, fields: Mapping[str, str]) -> None:
        if self.lost:
            raise LeaseLost("another worker has the operation")
        assert all(isinstance(value, str) for value in fields.values())
        self._entries[kind, step] = json.dumps(dict(fields))
        self.writes.append((kind, step))

    def _read(self, kind: str, step: str) -> Mapping[str, str] | None:
        kept = self._entries.get((kind, step))
        found: Mapping[str, str] | None = json.loads(kept) if kept is not None else None
        return found


class Memory:
    """An issuer's memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def load(self, name: str) -> bytes | None:
        return self.kept.get(name)

    def save(self, name: str, value: bytes) -> bytes:
        with self._lock:
            return self.kept.setdefault(name, value)

    def swap(self, name: str, old: bytes, new: bytes) -> bool:
        with self._lock:
            if self.kept.get(name) != old:
                return False
            self.kept[name] = new
            return True


class NoBoard:
    """A board that nobody looks at, for CAs that accept everything."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.put_count = 0

    def put(self, kind: BoardKind, place: str, key_authorization: str, expires: datetime) -> bool:
        assert expires.tzinfo is UTC
        self.put_count += 1
        return self.answers.setdefault(place, key_authorization) == key_authorization

    def take_down(self, kind: BoardKind, place: str, key_authorization: str) -> None:
        if self.answers.get(place) == key_authorization:
            del self.answers[place]


class Board(NoBoard):
    """A board with its own listener for http-01, where a CA can look. A context manager."""

    def __init__(self, port: int = 0) -> None:
        super().__init__()
        board = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = board.answers.get(self.path.removeprefix("/.well-known/acme-challenge/"))
                body = (answer or "").encode()
                self.send_response(404 if answer is None else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it.
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128  # A CA asks for many names at once, from several places each.

        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Unlimited:
    """A governor that lets everything pass: for tests that are not about budgets."""

    def admit(self, order: PlannedOrder, limits: Limits) -> Refusal | None:
        return None

    def issued(self, order: PlannedOrder, limits: Limits) -> None: ...

    def failed(self, order: PlannedOrder, limits: Limits, names: Sequence[str]) -> None: ...

    def ended(self, order: PlannedOrder) -> None: ...

    def hold(self, order: PlannedOrder, scope: Scope, names: Sequence[str], until: datetime, reason: str) -> None: ...

    def pause(self, ca: str) -> Refusal | None:
        return None

    def explain(self, ca: str, account: str | None, names: Sequence[str], limits: Limits) -> list[BudgetState]:
        return []


class NoAuthorities:
    """A broker without a CA of its own."""

    def signer(self, name: str) -> Signer:
        raise Invalid(f"There is no CA named {name}.")

    def is_quick(self, name: str) -> bool:
        raise Invalid(f"There is no CA named {name}.")

    def over(self, signer: Signer, other: str) -> tuple[x509.Certificate, ...]:
        raise Invalid(f"There is no CA named {other}.")

    def revoke(self, name: str, certificate: x509.Certificate, reason: int, now: datetime) -> None:
        raise Invalid(f"There is no CA named {name}.")


class NoAliases:
    """DNS without any record."""

    def caa(self, name: str) -> tuple[CAARecord, ...]:
        return ()

    def alias(self, name: str) -> str | None:
        return None

    def txt(self, name: str) -> tuple[str, ...]:
        return ()


@dataclass
class Surroundings:
    """Everything that issuers for one CA are lent."""

    egress: HTTPEgress
    board: NoBoard
    directory_url: str
    memory: Memory = field(default_factory=Memory)
    dns: dict[str, DNSPublisher] = field(default_factory=dict)
    names: DNS = field(default_factory=NoAliases)
    clock: Clock = field(default_factory=SystemClock)
    governor: Governor = field(default_factory=Unlimited)

    def issuer(self, options: str = "", **settings: str | None) -> ACMEIssuer:
        """A freshly opened issuer for the CA, as after a restart of the process."""
        return KIND.open(self.settings(options, **settings), self.resources())

    def resources(self) -> Resources:
        return Resources(
            self.egress,
            self.memory,
            self.board,
            self.dns,
            self.names,
            self.clock,
            self.governor,
            NoAuthorities(),
        )

    def settings(self, options: str = "", **settings: str | None) -> IssuerSettings:
        return IssuerSettings(
            name="ca",
            provider="ACME",
            organization_id=f"directory={self.directory_url};{options}",
            administrators=(Administrator(email="admin@example.org"),),
            **settings,  # type: ignore[arg-type]
        )


def loopback_egress(*trust: str, plain_http: bool = False) -> HTTPEgress:
    """A way out to servers on this machine."""
    return HTTPEgress(
        EgressPolicy(
            allowed_networks=LOOPBACK,
            trust=trust,
            plain_http_hosts=("127.0.0.1", "localhost") if plain_http else (),
        )
    )


def request_for(
    *names: str,
    addresses: Iterable[str] = (),
    subject: str = "",
    operation: str = "operation",
    reuse_key: bool = False,
    key: ec.EllipticCurvePrivateKey | None = None,
    replaces: x509.Certificate | None = None,
) -> IssuanceRequest:
    key = key or ec.generate_private_key(ec.SECP256R1())
    sans = SubjectAlternativeNames(dns_names=names, ip_addresses=tuple(addresses))
    policy = CertificatePolicy(subject=subject, sans=sans, issuer="ca", reuse_key=reuse_key)
    old = None if replaces is None else replaces.public_bytes(Encoding.DER)
    return IssuanceRequest(operation, build_csr(policy, key), policy, key, old)


def drive(issuer: ACMEIssuer, request: IssuanceRequest, journal: MemoryJournal, seconds: float = 20.0) -> Reply:
    """Go on until the issuer has decided, looking again sooner than it asks for: it is safe to ask at any time."""
    deadline = time.monotonic() + seconds
    while True:
        reply = issuer.advance(request, journal)
        if not isinstance(reply, StillWaiting):
            return reply
        assert time.monotonic() < deadline, reply
        time.sleep(min(reply.pause.total_seconds(), 0.02))


def persevere(issuer: ACMEIssuer, request: IssuanceRequest, journal: MemoryJournal, tries: int = 10) -> Reply:
    """Like `drive`, and like the engine, which asks an unavailable issuer again."""
    for _ in range(tries - 1):
        try:
            return drive(issuer, request, journal)
        except IssuerUnavailable:
            continue
    return drive(issuer, request, journal)


def issued(reply: Reply) -> list[x509.Certificate]:
    assert isinstance(reply, CertificateIssued), reply
    return [x509.load_der_x509_certificate(certificate) for certificate in reply.chain]


def names_in(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    dns = names.get_values_for_type(x509.DNSName)
    return {*dns, *(str(address) for address in names.get_values_for_type(x509.IPAddress))}


def authorizing_stopped(journal: MemoryJournal) -> Callable[[Surroundings, IssuanceRequest], None]:
    """Go on until the answers are up, and the CA has not been told."""

    def ask(ca: Surroundings, request: IssuanceRequest) -> None:
        def reached(name: str) -> None:
            if name == "acme.challenge.before":
                raise Crash

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(authorizing, "failpoint", reached)
            ca.issuer().advance(request, journal)

    return ask
