"""Orders keep to the budgets of their CA, and tell the governor what the CA says about them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from certbroker.domain.budget import Scope
from certbroker.ports.governor import HasBudgets
from certbroker.ports.issuer import CertificateIssued, IssuerUnavailable, RequestRefused
from certbroker.services.issuers import governor as governor_module
from certbroker.services.issuers.governor import Governor
from certbroker.store import migrations
from certbroker.store.database import SQLiteStore
from issuers.acme.budget import Hold, hold_of
from issuers.acme.problem import CARefused, ProblemDocument
from pebble.launcher import Pebble
from tests.support.acme_ports import MemoryJournal, NoBoard, Surroundings, drive, issued, loopback_egress, request_for
from tests.support.certificates import Authority, der
from tests.support.clock import SteppedClock
from tests.support.scripted_ca import Exchange, ScriptedCA

NAMES = ("www.example.org", "*.example.org", "other.test")
NOW = datetime(2026, 9, 24, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=7)
HOUR = timedelta(hours=1)


class Crash(BaseException):
    """The process dies."""


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def governor(tmp_path: Path, clock: SteppedClock) -> Iterator[Governor]:
    migrations.upgrade(tmp_path / "certbroker.db")
    store = SQLiteStore(tmp_path / "certbroker.db", "writer")
    yield Governor(store, clock)
    store.close()


@pytest.fixture
def scripted() -> Iterator[ScriptedCA]:
    with ScriptedCA(renewal_info=True) as ca:
        yield ca


@pytest.fixture
def ca(scripted: ScriptedCA, governor: Governor, clock: SteppedClock) -> Iterator[Surroundings]:
    egress = loopback_egress(plain_http=True)
    yield Surroundings(egress, NoBoard(), scripted.directory_url, clock=clock, governor=governor)
    egress.close()


def left(ca: Surroundings, options: str, scope: Scope, *names: str) -> int | None:
    issuer = ca.issuer(options)
    assert isinstance(issuer, HasBudgets)
    return next(state.left for state in issuer.budgets(names) if state.scope is scope)


def refused(ca: Surroundings, options: str, *names: str, operation: str = "next") -> IssuerUnavailable:
    with pytest.raises(IssuerUnavailable) as caught:
        drive(ca.issuer(options), request_for(*names, operation=operation), MemoryJournal())
    return caught.value


def test_an_order_that_does_not_fit_is_not_made(ca: Surroundings, scripted: ScriptedCA, clock: SteppedClock) -> None:
    options = "limits=set=1/1d"
    issued(drive(ca.issuer(options), request_for("www.example.org", operation="first"), MemoryJournal()))
    journal = MemoryJournal()
    with pytest.raises(IssuerUnavailable) as caught:
        drive(ca.issuer(options), request_for("www.example.org", operation="next"), journal)

    assert 1 == scripted.hits["new-order"]
    assert ("RateBudget", False) == (caught.value.problem.code, caught.value.committed)
    assert "1 certificates for this exact set of names in 1 day; the next fits at" in caught.value.problem.message
    assert caught.value.retry_at is not None
    assert timedelta(days=1) <= caught.value.retry_at - clock.now() <= timedelta(days=1, minutes=5)
    assert journal.intended("order") is None
    clock.moment = caught.value.retry_at
    issued(drive(ca.issuer(options), request_for("www.example.org", operation="next"), journal))


def test_an_order_that_replaces_a_certificate_passes(ca: Surroundings, scripted: ScriptedCA) -> None:
    options = "limits=orders=1/1d,set=1/1d"
    old = issued(drive(ca.issuer(options), request_for("www.example.org"), MemoryJournal()))[0]
    renewal = request_for("www.example.org", operation="renewal", replaces=old)
    issued(drive(ca.issuer(options), renewal, MemoryJournal()))

    assert "replaces" in scripted.ordered[-1]


def test_an_order_that_the_ca_does_not_take_as_a_replacement_is_one_like_others(
    ca: Surroundings, scripted: ScriptedCA
) -> None:
    options = "limits=set=1/1d"
    old = issued(drive(ca.issuer(options), request_for("www.example.org"), MemoryJournal()))[0]
    scripted.fault("new-order", lambda exchange: exchange.problem(409, "alreadyReplaced"), acts=False)
    renewal = request_for("www.example.org", operation="renewal", replaces=old)
    with pytest.raises(IssuerUnavailable) as caught:
        drive(ca.issuer(options), renewal, MemoryJournal())

    assert "RateBudget" == caught.value.problem.code


def test_orders_count_at_once_and_certificates_when_they_are_issued(ca: Surroundings, scripted: ScriptedCA) -> None:
    options = "limits=orders=10/1d,domain=10/1d,set=10/1d"
    journal = MemoryJournal()
    scripted.fault("finalize", lambda exchange: exchange.problem(500, "serverInternal"), acts=False)
    request = request_for("www.example.org")
    with pytest.raises(IssuerUnavailable):
        drive(ca.issuer(options), request, journal)

    assert 9 == left(ca, options, Scope.ACCOUNT)
    assert 9 == left(ca, options, Scope.DOMAIN, "a.example.org")
    issued(drive(ca.issuer(options), request, journal))
    assert 9 == left(ca, options, Scope.ACCOUNT)
    assert 9 == left(ca, options, Scope.NAMES, "www.example.org")


@pytest.mark.parametrize("point", ["admit.before", "admit.after", "issued.before", "issued.after"])
def test_a_crash_costs_no_budget_twice(
    ca: Surroundings, scripted: ScriptedCA, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    options, journal, request = "limits=orders=10/1d,set=10/1d", MemoryJournal(), request_for("www.example.org")
    points: list[str] = []

    def die(reached: str) -> None:
        points.append(reached)
        if points.count(f"governor.{point}") == 1 and reached == f"governor.{point}":
            raise Crash

    monkeypatch.setattr(governor_module, "failpoint", die)
    with pytest.raises(Crash):
        drive(ca.issuer(options), request, journal)
    issued(drive(ca.issuer(options), request, journal))

    assert 1 == scripted.hits["new-order"]
    assert 9 == left(ca, options, Scope.ACCOUNT)
    assert 9 == left(ca, options, Scope.NAMES, "www.example.org")


def test_a_refused_order_gives_its_places_back(ca: Surroundings, scripted: ScriptedCA) -> None:
    options = "limits=domain=10/1d,set=10/1d"
    scripted.fault("finalize", lambda exchange: exchange.problem(403, "badCSR"), acts=False)
    reply = drive(ca.issuer(options), request_for("www.example.org"), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert 10 == left(ca, options, Scope.DOMAIN, "www.example.org")


def test_a_withdrawn_request_gives_its_places_back(ca: Surroundings) -> None:
    options, journal, request = "limits=domain=10/1d", MemoryJournal(), request_for("www.example.org")
    ca.issuer(options).advance(request, journal)
    assert 9 == left(ca, options, Scope.DOMAIN, "www.example.org")
    ca.issuer(options).abandon(request, journal)

    assert 10 == left(ca, options, Scope.DOMAIN, "www.example.org")


def test_a_limit_that_the_ca_names_holds_others_too(
    ca: Surroundings, scripted: ScriptedCA, clock: SteppedClock
) -> None:
    detail = 'too many certificates (50) already issued for "example.org" in the last 168h0m0s, retry after later'
    scripted.fault("new-order", lambda exchange: exchange.problem(429, "rateLimited", detail, retry_after="3600"))
    first = refused(ca, "", "www.example.org", operation="first")
    assert "RateLimited" == first.problem.code
    next_one = refused(ca, "", "mail.example.org")

    assert 1 == scripted.hits["new-order"]
    assert "RateBudget" == next_one.problem.code
    assert "too many certificates (50) already issued" in next_one.problem.message
    assert next_one.retry_at is not None
    assert HOUR <= next_one.retry_at - clock.now() <= HOUR + timedelta(minutes=5)
    issued(drive(ca.issuer(), request_for("www.example.com"), MemoryJournal()))


def test_a_ca_that_is_down_for_a_while_is_not_asked_for_anything(
    ca: Surroundings, scripted: ScriptedCA, clock: SteppedClock
) -> None:
    scripted.fault("new-order", lambda exchange: exchange.send(503, b"busy", "text/plain", retry_after="120"))
    refused(ca, "", "www.example.org", operation="first")
    asked = scripted.hits.total()
    assert "RateBudget" == refused(ca, "", "www.example.com").problem.code
    with pytest.raises(IssuerUnavailable):
        ca.issuer().renewal_window(der(Authority().issue().certificate))

    assert asked == scripted.hits.total()
    clock.forward(timedelta(minutes=3))
    issued(drive(ca.issuer(), request_for("www.example.com"), MemoryJournal()))


def test_names_that_cannot_be_validated_are_left_alone_for_a_while(ca: Surroundings, scripted: ScriptedCA) -> None:
    options = "limits=failures=2/1h"

    def invalid(exchange: Exchange) -> None:
        exchange.proceed(status="invalid")

    def failed(exchange: Exchange) -> None:
        status, _, body = exchange.proper
        error = {"type": "urn:ietf:params:acme:error:dns", "detail": "NXDOMAIN"}
        shown = json.loads(body) | {"status": "invalid"}
        shown["challenges"][0] |= {"status": "invalid", "error": error}
        exchange.send(status, json.dumps(shown).encode())

    for number in range(2):
        scripted.fault("order", invalid)
        journal, request = MemoryJournal(), request_for("www.example.org", operation=f"o{number}")
        ca.issuer(options).advance(request, journal)
        scripted.fault("authorization", failed)
        assert isinstance(drive(ca.issuer(options), request, journal), RequestRefused)

    assert (
        "2 failed validations of www.example.org in 1 hour" in refused(ca, options, "www.example.org").problem.message
    )
    issued(drive(ca.issuer(options), request_for("www.example.com"), MemoryJournal()))


class WildcardCA(ScriptedCA):
    """A CA that validates wildcard names, which its authorizations have without the `*.` (RFC 8555 section 7.1.4)."""

    failed: dict[str, Any] | None = None
    """What failed, where it is to fail."""

    def _authorization(self, number: str) -> dict[str, Any]:
        shown = super()._authorization(number)
        kind, value = shown["identifier"]["type"], shown["identifier"]["value"]
        shown |= {"identifier": {"type": kind, "value": value.removeprefix("*.")}, "wildcard": value.startswith("*.")}
        shown["challenges"][0]["type"] = "dns-01"
        if self.failed is not None:
            shown["status"] = "invalid"
            shown["challenges"][0] |= {"status": "invalid", "error": self.failed}
        return shown


class NoZone:
    """DNS records that nobody looks at."""

    def publish(self, name: str, value: str) -> None: ...

    def withdraw(self, name: str, value: str) -> None: ...


@pytest.mark.parametrize("said", [None, "example.org", "*.example.org", "*.Example.ORG"])
@pytest.mark.parametrize("status", ["invalid", "pending"])
def test_a_wildcard_that_cannot_be_validated_is_left_alone_like_its_base(
    governor: Governor, clock: SteppedClock, status: str, said: str | None
) -> None:
    """Whatever the CA calls it, and whether the order or only its authorization says that it failed."""
    options = "challenge=dns-01;dns=zone;limits=failures=2/1h"
    egress = loopback_egress(plain_http=True)
    with WildcardCA() as scripted:
        ca = Surroundings(egress, NoBoard(), scripted.directory_url, clock=clock, governor=governor)
        ca.dns = {"zone": NoZone()}
        for number in range(2):
            journal, request = MemoryJournal(), request_for("*.example.org", operation=f"o{number}")
            scripted.failed = None
            ca.issuer(options).advance(request, journal)
            scripted.failed = {"type": "urn:ietf:params:acme:error:unauthorized", "detail": "no TXT record"}
            if said is not None:
                scripted.failed["identifier"] = {"type": "dns", "value": said}
            clock.forward(timedelta(seconds=10))
            scripted.fault("order", lambda exchange: exchange.proceed(status=status))
            assert isinstance(drive(ca.issuer(options), request, journal), RequestRefused)
        scripted.failed = None

        for name in ("*.example.org", "example.org"):
            assert "2 failed validations of example.org in 1 hour" in refused(ca, options, name).problem.message
        issued(drive(ca.issuer(options), request_for("*.example.com"), MemoryJournal()))
    egress.close()


def problem(detail: str, kind: str = "rateLimited", *, identifier: str | None = None) -> ProblemDocument:
    return ProblemDocument(kind, detail, None, (ProblemDocument(kind, "no", identifier),) if identifier else ())


LIMITED = "retry after 2026-09-24 19:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/"


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (
            429,
            problem(f"too many certificates (5) already issued for this exact set of identifiers in 168h, {LIMITED}"),
            Hold(Scope.NAMES, (), LATER),
        ),
        (
            429,
            problem(f'too many certificates (50) already issued for "example.org" in the last 168h, {LIMITED}'),
            Hold(Scope.DOMAIN, ("www.example.org", "*.example.org"), LATER),
        ),
        (
            429,
            problem('too many certificates (50) already issued for "somebody.else"'),
            Hold(Scope.DOMAIN, NAMES, LATER),
        ),
        (
            429,
            problem(f'too many failed authorizations (5) for "example.org" in the last 1h, {LIMITED}'),
            Hold(Scope.NAME, ("*.example.org",), LATER),
        ),
        (
            429,
            problem(f"too many new orders (300) from this account in the last 3h, {LIMITED}"),
            Hold(Scope.ACCOUNT, (), LATER),
        ),
        (429, problem("Service busy; retry later."), Hold(Scope.CA, (), NOW + HOUR)),
        (503, problem("Service busy; retry later."), Hold(Scope.CA, (), NOW + HOUR)),
        (503, problem("no problem document", "about:blank"), Hold(Scope.CA, (), NOW + HOUR)),
        (429, problem("slow down", "about:blank"), Hold(Scope.ACCOUNT, (), LATER)),
        (429, problem("slow down", identifier="other.test"), Hold(Scope.NAME, ("other.test",), LATER)),
        (429, problem("slow down", identifier="example.org"), Hold(Scope.NAME, ("*.example.org",), LATER)),
        (429, problem("slow down", identifier="*.other.test"), Hold(Scope.NAME, ("other.test",), LATER)),
        (429, problem("slow down", identifier="somebody.else"), Hold(Scope.ACCOUNT, (), LATER)),
        (500, problem("oops", "serverInternal"), None),
        (403, problem("no", "unauthorized"), None),
    ],
)
def test_what_the_ca_wants_to_be_left_alone(status: int, said: ProblemDocument, expected: Hold | None) -> None:
    assert expected == hold_of(CARefused(status, said, "https://ca.example/", LATER), NAMES, NOW)


def test_a_name_that_the_ca_has_paused_is_asked_for_once_an_hour() -> None:
    detail = (
        "Your account is temporarily prevented from requesting certificates for other.test, bad.test and possibly "
        "others. Please visit: https://portal.letsencrypt.org/sfe/v1/unpause?jwt=a.b.c"
    )
    error = CARefused(429, problem(detail), "https://ca.example/", None)

    assert Hold(Scope.NAME, ("other.test",), NOW + HOUR) == hold_of(error, NAMES, NOW)
    assert hold_of(CARefused(429, problem("slow down"), "https://ca.example/", None), NAMES, NOW) is None


def test_pebble_is_not_asked_for_more_than_the_options_allow(
    start_pebble: Callable[..., Pebble], surround: Callable[[Pebble], Surroundings], governor: Governor
) -> None:
    """With the real CA, whose failed validations are counted where they happen."""
    pebble = start_pebble(authz_reuse=0)
    ca = surround(pebble)
    ca.governor = governor
    options = "limits=orders=5/1d,set=1/1d,failures=1/1h"
    reply = drive(ca.issuer(options), request_for("a.budget.test", operation="first"), MemoryJournal())

    assert isinstance(reply, CertificateIssued)
    assert "this exact set of names" in refused(ca, options, "a.budget.test").problem.message
    broken = Surroundings(ca.egress, NoBoard(), pebble.directory_url, ca.memory, governor=governor)
    failed = drive(broken.issuer(options), request_for("b.budget.test", operation="second"), MemoryJournal())
    assert isinstance(failed, RequestRefused)
    assert "1 failed validations of b.budget.test" in refused(ca, options, "b.budget.test").problem.message
    assert 3 == left(ca, options, Scope.ACCOUNT)
    assert 0 == left(ca, options, Scope.NAMES, "a.budget.test")
    assert 1 == left(ca, options, Scope.NAMES, "b.budget.test")
