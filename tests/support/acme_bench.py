"""The broker's real services, in this process, ordering at a CA: worked by hand, at a time that the test says.

The clock stands still until the operation that is due next is due. So a week of waiting takes no time, and every pause
that was asked for can be read from the operation.
"""

from __future__ import annotations

import http.server
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509

from certbroker.app import unseal
from certbroker.config import build
from certbroker.domain import operation as states
from certbroker.domain.audit import Caller
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Changes, Kind
from certbroker.domain.policy import CertificatePolicy, SubjectAlternativeNames
from certbroker.domain.records import Operation
from certbroker.foundation import lay_foundation
from certbroker.ports.clock import Clock
from certbroker.services.issuers.issuers import IssuerChanges
from tests.support.clock import SteppedClock

# Key identifier and MAC key (RFC 8555 section 7.3.4), for a Pebble that asks for them.
EXTERNAL_ACCOUNT = ("key-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W")

_CALLER = Caller("operator", "Test")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Stored:
    """A version of a certificate."""

    version: str
    chain: list[x509.Certificate]


class ACMEBench:
    """One vault, whose answers to http-01 are served on a port. A context manager.

    `trust` are PEM files of endpoints that may be asked. With a `clock` that goes by itself, an engine does the work.
    """

    def __init__(self, directory: Path, http_port: int, trust: Sequence[Path], clock: Clock | None = None) -> None:
        self.clock = SteppedClock()
        self._database = directory / "certbroker.db"
        egress = {"allowed_networks": ["127.0.0.0/8"], "trust": [*trust]}
        foundation = lay_foundation(build({"data": {"directory": directory}, "egress": egress}))
        self.core = unseal(replace(foundation, clock=clock or self.clock))
        self.broker = self.core.broker
        self._vault = self.broker.vaults.create(_CALLER, "vault")
        self._listener = _AnswerListener(http_port, partial(self.broker.board.answer, "http-01"))

    def __enter__(self) -> Self:
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.stop()
        self.core.close()

    def issuer(self, directory_url: str, options: str = "") -> str:
        """The name of a fresh ACME issuer, which shares neither account nor nonces with others."""
        name = f"ca{next(_numbers)}"
        given = f"directory={directory_url}?{name};{options}"
        account_id, password = EXTERNAL_ACCOUNT
        changes = IssuerChanges(provider="ACME", account_id=account_id, password=password, organization_id=given)
        self.broker.issuers.set(_CALLER, self._vault, name, changes)
        return name

    def disable(self, issuer: str) -> None:
        self.broker.issuers.update(_CALLER, self._vault, issuer, IssuerChanges(enabled=False))

    def lose(self, issuer: str) -> None:
        """Let there be no such issuer any more."""
        self.broker.store.write(lambda transaction: transaction.issuers.remove(self._vault.id, issuer))

    def ask(self, issuer: str, *hosts: str, name: str | None = None) -> Operation:
        """Ask for a certificate; by default for a host that nobody has asked for yet, under a new name."""
        number = next(_numbers)
        sans = SubjectAlternativeNames(dns_names=hosts or (f"n{number}.example.org",))
        policy = CertificatePolicy(KeySpec("EC"), subject="", sans=sans, issuer=issuer)
        name = name or f"c{number}"
        return self.broker.certificates.create(_CALLER, self._vault, name, lambda stored: policy, Changes())

    def seen(self, operation: Operation) -> Operation:
        """The operation as it is now."""
        found = self.broker.store.glance().operations.get(operation.id)
        assert found is not None
        return found

    def waiting(self, operation: Operation) -> states.AwaitingIssuer:
        """Its state, which is that it waits for the issuer."""
        state = self.seen(operation).state
        assert isinstance(state, states.AwaitingIssuer), state
        return state

    def turn(self) -> int:
        """Work once on everything that is due now; the number of that."""
        claimed = self.broker.operations.claim(self.broker.operations.due(100))
        for operation in claimed:
            self.broker.operations.work(operation)
        return len(claimed)

    def until(self, reached: Callable[[], bool], seconds: float = 20) -> None:
        """Work, and move the clock to what is due next, until it is `reached`."""
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, "it takes too long"
            if not self.turn():
                due = self.broker.operations.next_due()
                assert due is not None, "nothing will happen any more"
                # The CA needs a real moment for what it is doing.
                time.sleep(min(0.01, max(0.0, (due - self.clock.moment).total_seconds())))
                self.clock.moment = max(self.clock.moment, due)

    def until_failure(self, operation: Operation) -> states.AwaitingIssuer:
        """Go on until the issuer could not be used; the state that the operation waits in."""
        self.until(lambda: getattr(self.seen(operation).state, "problem", None) is not None)
        return self.waiting(operation)

    def outcome(self, operation: Operation) -> states.State:
        """The end of an operation."""
        self.until(lambda: states.is_finished(self.seen(operation).state))
        return self.seen(operation).state

    def certificate(self, operation: Operation) -> list[x509.Certificate]:
        """The chain that the operation ends with."""
        state = self.outcome(operation)
        assert isinstance(state, states.Completed), state
        found = self.stored(operation)
        assert found is not None
        assert operation.version == found.version
        return found.chain

    def stored(self, operation: Operation) -> Stored | None:
        """What is there under the operation's name now."""
        found = self.broker.store.glance().objects.get(self._vault.id, Kind.CERTIFICATE, operation.name)
        if found is None or found.certificate is None:
            return None
        return Stored(found.version, [x509.load_der_x509_certificate(der) for der in found.certificate.chain])

    def problem(self, operation: Operation) -> states.Problem:
        """Why the operation failed in the end."""
        state = self.outcome(operation)
        assert isinstance(state, states.Failed), state
        return state.problem

    def reset(self) -> None:
        """Let the clock show the time, and nothing be left to do, so that the next test is not disturbed."""
        self.clock.moment = datetime.now(UTC)
        with closing(sqlite3.connect(self._database)) as connection, connection:
            connection.execute("UPDATE operations SET act_at = NULL")

    def challenges(self) -> int:
        """How many answers to challenges stand."""
        return int(self._rows("SELECT count(*) FROM challenges")[0][0])

    def reservations(self) -> int:
        """How many places of budgets are reserved."""
        return int(self._rows("SELECT count(*) FROM reservations")[0][0])

    def texts(self) -> str:
        """Everything readable that was kept about operations: states, journals and audit records."""
        rows = [
            *self._rows("SELECT state FROM operations"),
            *self._rows("SELECT intended, recorded FROM journal"),
            *self._rows("SELECT record FROM audit"),
        ]
        return "\n".join(str(value) for row in rows for value in row)

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._database)) as connection:
            return connection.execute(statement).fetchall()


class _AnswerListener:
    """Serves http-01 answers, as the broker's own listener does."""

    def __init__(self, port: int, answer: Callable[[str], str | None]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = answer(self.path.removeprefix("/.well-known/acme-challenge/"))
                body = (found or "").encode()
                self.send_response(200 if found else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it.
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
