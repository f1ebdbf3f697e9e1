"""The breaker ends renewal loops, whatever has gone wrong in the reckoning of when to renew."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbroker.app import Core
from certbroker.domain import operation as states
from certbroker.domain.audit import Caller
from certbroker.domain.breaker import breaker_limit
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.domain.policy import CertificatePolicy, SubjectAlternativeNames
from certbroker.domain.records import Cause, Operation
from certbroker.domain.renewal import Trigger
from certbroker.keystore.software import SoftwareKeyStore
from certbroker.ports.issuer import CertificateIssued, IssuanceRequest, IssuerSettings, Journal, Reply, Resources
from certbroker.ports.issuer_abilities import RenewalWindow
from certbroker.services.issuance.operations import Operations
from certbroker.services.issuers.governor import Governor
from certbroker.services.issuers.issuers import IssuerChanges, Issuers
from certbroker.store.transaction import SQLTransaction
from issuers import Kinds
from tests.support import issuer_bench
from tests.support.certificates import Authority, der
from tests.support.clock import SteppedClock

LIFE = timedelta(hours=160)
DAY = timedelta(days=1)
STALE = "The CA suggests a renewal at 2026-08-01 12:00 UTC."


class EagerKind:
    """An issuer that issues whatever it is asked for, for as long as it is told."""

    provider = "Eager"
    local = False
    manual = False

    def __init__(self, clock: SteppedClock) -> None:
        self.clock, self.life, self.issued = clock, LIFE, 0
        self._authority = Authority()

    def check(self, settings: IssuerSettings) -> None:
        """Takes any settings."""

    def open(self, settings: IssuerSettings, resources: Resources) -> EagerKind:
        return self

    def advance(self, request: IssuanceRequest, journal: Journal) -> Reply:
        self.issued += 1
        leaf = self._authority.answer(request.csr, self.life, self.clock.now())
        return CertificateIssued((der(leaf), der(self._authority.certificate)))


class Bench:
    """A vault with one certificate, whose scheduler has lost its mind: it renews whenever it is told to."""

    def __init__(self, core: Core, caller: Caller, vault: Vault) -> None:
        self.core, self.caller, self.vault = core, caller, vault
        self.clock, self.store = SteppedClock(), core.broker.store
        self.kind = EagerKind(self.clock)
        core.broker.issuers.set(caller, vault, "ca", IssuerChanges(provider="Eager"))
        kinds = Kinds({"eager": self.kind})
        governor = Governor(self.store, self.clock)
        issuers = Issuers(self.store, core.seal, self.clock, kinds, None, {}, None, governor, core.broker.signers)  # type: ignore[arg-type]
        self.operations = Operations(
            self.store, core.seal, SoftwareKeyStore(), issuers, self.clock, "one", core.broker.meters
        )

    def create(self, *names: str, name: str = "c", issuer: str = "ca") -> None:
        sans = SubjectAlternativeNames(dns_names=names or ("www.example.com",))
        policy = CertificatePolicy(KeySpec("EC"), sans=sans, issuer=issuer)
        made = self.core.broker.certificates.create(self.caller, self.vault, name, lambda stored: policy, Changes())
        self.clock.moment = max(self.clock.moment, made.created)
        self.work()

    def renew(self, trigger: Trigger = Trigger.SUGGESTED, name: str = "c") -> states.State:
        """Renew now, and say what came of it."""
        now = self.clock.now()
        policy = self.store.glance().objects.policy(self.vault.id, name)
        assert policy is not None

        def begin(transaction: SQLTransaction) -> Operation:
            transaction.operations.retire(self.vault.id, name)
            cause = Cause(trigger, STALE, "")
            return self.operations.begin(transaction, self.vault.id, name, policy, now, tags={}, cause=cause)

        operation = self.store.write(begin)
        if operation.fence:
            self.operations.work(operation)
        else:
            self.work()
        found = self.store.glance().operations.get(operation.id)
        assert found is not None
        return found.state

    def work(self) -> None:
        for operation in self.operations.claim(self.operations.due(10)):
            self.operations.work(operation)

    def loop(self, pause: timedelta, rounds: int, trigger: Trigger = Trigger.SUGGESTED) -> int:
        """Renew again and again; how many certificates came of it."""
        before = self.versions()
        for _ in range(rounds):
            self.renew(trigger)
            self.clock.forward(pause)
        return self.versions() - before

    def versions(self, name: str = "c") -> int:
        return len(self.store.glance().objects.all_versions(self.vault.id, Kind.CERTIFICATE, name))


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    return Bench(core, caller, vault)


def test_a_stale_window_on_six_day_certificates_brings_two_and_no_more(bench: Bench) -> None:
    """cert-manager #8993: notBefore lies before the window's end, so each new certificate seemed due at once."""
    bench.create()

    assert 2 == bench.loop(timedelta(seconds=2), 20)
    assert 3 == bench.kind.issued
    stopped = bench.renew()
    assert isinstance(stopped, states.Failed)
    assert "RenewalLoopStopped" == stopped.problem.code
    assert stopped.problem.message.startswith(
        "c has been renewed 2 times in too short a time, so it is now renewed only"
    )
    assert STALE in stopped.problem.message
    assert "create the certificate again" in stopped.problem.message
    assert Trigger.SUGGESTED.value == stopped.problem.detail


def test_a_ca_whose_windows_are_always_over_gets_two_orders_and_then_one_a_day(
    core: Core, caller: Caller, vault: Vault
) -> None:
    """The same with the real scheduler, which does what the CA asks for."""
    bench = issuer_bench.Bench(core, caller, vault)
    begin = bench.clock.now()
    over = RenewalWindow(begin - 2 * DAY, begin - DAY, None, timedelta(hours=6))
    bench.kind.window = lambda certificate: over
    bench.ask(*[bench.issued_for(LIFE / DAY) for _ in range(40)])
    bench.turn()
    bench.until(begin + timedelta(hours=1))

    assert 3 == len(bench.kind.requests)
    setback = bench.lifecycle().setback
    assert setback is not None
    assert "RenewalLoopStopped" == setback.problem.code
    # It rests until the breaker closes, and is not stopped again and again meanwhile.
    assert 20 <= (setback.retry_at - begin) / timedelta(hours=1) <= 25
    bench.until(setback.retry_at - timedelta(minutes=1))
    assert setback == bench.lifecycle().setback
    bench.until(begin + 4 * DAY)
    assert 3 <= len(bench.kind.requests) - 3 <= 4
    made = bench.renewals.request(caller, vault, "c", "")
    bench.turn()
    assert isinstance(bench.now(made).state, states.Completed)


def test_a_loop_goes_on_at_one_certificate_a_day_at_most(bench: Bench) -> None:
    bench.create()

    assert 2 + 3 == bench.loop(timedelta(hours=5), 20)


def test_the_breaker_closes_by_itself(bench: Bench) -> None:
    bench.create()
    bench.loop(timedelta(seconds=2), 5)
    bench.clock.forward(DAY)

    assert isinstance(bench.renew(), states.Completed)
    assert isinstance(bench.renew(), states.Failed)


def test_regular_renewals_never_meet_it(bench: Bench) -> None:
    for life in (timedelta(hours=1), DAY, LIFE):
        bench.kind.life = life
        bench.create(f"{life.total_seconds():.0f}.example.com")

        assert 8 == bench.loop(life / 2, 8)


def test_what_somebody_asks_for_always_passes(bench: Bench) -> None:
    bench.create()
    bench.loop(timedelta(seconds=2), 5)
    for _ in range(6):
        bench.create()

    assert 3 + 6 == bench.versions()


@pytest.mark.parametrize("trigger", [Trigger.OPERATOR, Trigger.REVOKED, Trigger.INCIDENT])
def test_a_reason_from_outside_has_a_limit_of_its_own(bench: Bench, trigger: Trigger) -> None:
    bench.create()
    assert 2 == bench.loop(timedelta(seconds=2), 5)

    assert 5 == bench.loop(timedelta(seconds=2), 8, trigger)


def test_certificates_of_the_same_names_do_not_stop_each_other(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.create(name=name)

    assert all(isinstance(bench.renew(name=name), states.Completed) for name in ("a", "b", "c", "a", "b", "c"))


def test_it_holds_for_self_signed_certificates_too(bench: Bench) -> None:
    bench.create(issuer="Self")

    assert isinstance(bench.renew(), states.Completed)
    assert isinstance(bench.renew(), states.Completed)
    assert isinstance(bench.renew(), states.Failed)


def test_a_failed_renewal_does_not_count(bench: Bench) -> None:
    bench.create()
    bench.core.broker.issuers.update(bench.caller, bench.vault, "ca", IssuerChanges(enabled=False))
    assert 0 == bench.loop(timedelta(seconds=2), 5)
    bench.core.broker.issuers.update(bench.caller, bench.vault, "ca", IssuerChanges(enabled=True))

    assert 2 == bench.loop(timedelta(seconds=2), 5)


def test_a_certificate_that_is_over_when_it_arrives_counts(bench: Bench) -> None:
    """Nothing is stored of it, so it would be ordered for ever."""
    bench.create()
    bench.kind.life = timedelta(minutes=-5)
    before = bench.kind.issued
    states_seen = [bench.renew() for _ in range(5)]

    assert 2 == bench.kind.issued - before
    codes = [state.problem.code for state in states_seen if isinstance(state, states.Failed)]
    assert ["IssuedCertificateInvalid"] * 2 + ["RenewalLoopStopped"] * 3 == codes


def test_a_clock_that_is_put_back_gives_nothing_and_locks_nobody_out(bench: Bench) -> None:
    bench.create()
    assert 2 == bench.loop(timedelta(seconds=2), 4)
    bench.clock.forward(-3 * DAY)
    assert 0 == bench.loop(timedelta(seconds=2), 2)
    bench.clock.forward(DAY)

    assert 1 == bench.loop(timedelta(seconds=2), 2)


@given(st.timedeltas(timedelta(-1), timedelta(days=4000)), st.sampled_from(Trigger))
def test_no_life_lets_more_than_a_burst_pass_at_once(life: timedelta, trigger: Trigger) -> None:
    limit = breaker_limit(trigger, life)

    assert limit.burst in (2, 5)
    assert timedelta(seconds=1) <= limit.every <= DAY
    if life >= timedelta(days=4) and limit.burst == 2:
        assert DAY == limit.every
