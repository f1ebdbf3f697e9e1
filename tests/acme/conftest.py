"""One Pebble per configuration and module, and what an issuer needs to use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from certbroker.domain.operation import Problem
from certbroker.ports.issuer import IssuanceRequest, IssuerUnavailable
from issuers.acme import ACMEIssuer, abandoned, account
from issuers.acme.authorizing import Authorizing
from pebble.launcher import Pebble
from tests.support.acme_ports import Board, Crash, MemoryJournal, NoBoard, Surroundings, loopback_egress
from tests.support.peers import require_pebble
from tests.support.scripted_ca import ScriptedCA


@pytest.fixture(scope="module")
def start_pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Pebble]]:
    """Start a Pebble that runs until the module is done."""
    binaries = require_pebble()
    with ExitStack() as running:

        def start(**options: Any) -> Pebble:
            return running.enter_context(Pebble(tmp_path_factory.mktemp("pebble"), binaries=binaries, **options))

        yield start


@pytest.fixture(scope="module")
def pebble(start_pebble: Callable[..., Pebble]) -> Pebble:
    return start_pebble(authz_reuse=0)


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> Callable[[ACMEIssuer, IssuanceRequest, MemoryJournal], None]:
    """Go on with a request until the answers to its challenges are up, and no further.

    Pebble 2.10 hangs for good when an authorization is given up while it is being validated: showing it then leaves a
    lock behind, which the validation waits for.
    """

    def go_on(issuer: ACMEIssuer, request: IssuanceRequest, journal: MemoryJournal) -> None:
        def lost(*_: object) -> None:
            raise IssuerUnavailable(Problem("Lost", "The CA did not answer."))

        with monkeypatch.context() as patched:
            patched.setattr(Authorizing, "_ask", lost)
            with pytest.raises(IssuerUnavailable, match="did not answer"):
                issuer.advance(request, journal)

    return go_on


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Die the first time that the point is reached."""

    def arm(point: str) -> None:
        left = [point]

        def reached(name: str) -> None:
            if name in left:
                left.remove(name)
                raise Crash

        for module in (account, abandoned):
            monkeypatch.setattr(module, "failpoint", reached)

    return arm


@pytest.fixture
def surround() -> Iterator[Callable[[Pebble], Surroundings]]:
    """Surroundings for a Pebble, with an empty memory and a listener where it looks for http-01 answers."""
    with ExitStack() as running:

        def surround(pebble: Pebble) -> Surroundings:
            egress = loopback_egress(str(pebble.ca_path))
            running.callback(egress.close)
            board = running.enter_context(Board(pebble.http_port))
            return Surroundings(egress, board, pebble.directory_url)

        yield surround


@pytest.fixture
def ca(pebble: Pebble, surround: Callable[[Pebble], Surroundings]) -> Surroundings:
    return surround(pebble)


@pytest.fixture
def scripted() -> Iterator[ScriptedCA]:
    """A CA that does what a test tells it; modules whose CA can do more define their own."""
    with ScriptedCA() as ca:
        yield ca


@pytest.fixture
def scripted_ca(scripted: ScriptedCA) -> Iterator[Surroundings]:
    """Surroundings for the scripted CA."""
    egress = loopback_egress(plain_http=True)
    yield Surroundings(egress, NoBoard(), scripted.directory_url)
    egress.close()
