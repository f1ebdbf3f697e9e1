"""Everything from one issuer is replaced: planned first, a bounded number at a time, to the end, after a crash too."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from certbroker import failpoints
from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.budget import Bucket, Limit, Scope, Standing
from certbroker.domain.drill import Drill, Fate, Stage
from certbroker.domain.errors import Conflict, Invalid, NotFound
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.domain.operation import Problem
from certbroker.domain.policy import SELF
from certbroker.domain.renewal import Trigger
from certbroker.keystore.software import SoftwareKeyStore
from certbroker.ports.governor import BudgetState
from certbroker.ports.issuer import RequestRefused
from certbroker.services.drills.drills import Drills, DrillWish
from certbroker.services.drills.forecast import Forecast
from certbroker.services.housekeeping import Housekeeping
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.issuers.issuers import IssuerChanges
from certbroker.services.objects.foreign import Imported
from tests.support.certificates import der
from tests.support.issuer_bench import Bench

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    return Bench(core, caller, vault)


@pytest.fixture
def drills(bench: Bench) -> Drills:
    return made(bench)


def made(bench: Bench) -> Drills:
    """As a process has it that has just begun."""
    return Drills(bench.store, bench.issuers, bench.renewals, bench.clock, Inbox())


def issued(bench: Bench, *names: str, **policy: object) -> None:
    for name in names:
        bench.ask(bench.issued_for(90), name=name, **policy)
    bench.turn()
    bench.until(bench.clock.now() + MINUTE)


def imported(bench: Bench, name: str) -> None:
    """One that comes from elsewhere, and that the scripted issuer is to renew."""
    leaf = bench.authority.issue()
    given = Imported(SoftwareKeyStore().encode(leaf.key), tuple(map(der, leaf.chain)))
    bench.certificates.import_(
        bench.caller, bench.vault, name, given, lambda described: replace(described, issuer="ca"), Changes()
    )


def go_on(bench: Bench, drills: Drills, turns: int = 1) -> None:
    """Work on drills, then on what they have asked for."""
    for _ in range(turns):
        for drill in drills.claim(10):
            drills.work(drill, lambda: True)
        bench.until(bench.clock.now() + 2 * SECOND)


def begun(bench: Bench, drills: Drills, **wish: object) -> str:
    return drills.start(bench.caller, bench.vault, DrillWish("ca", **wish)).drill.id  # type: ignore[arg-type]


def counts(bench: Bench, drills: Drills, drill_id: str) -> dict[Fate, int]:
    return drills.report(bench.vault, drill_id).progress.counts


def drill_of(bench: Bench, drills: Drills, drill_id: str) -> Drill:
    return drills.report(bench.vault, drill_id).drill


def test_a_simulation_says_what_can_be_replaced_and_changes_nothing(bench: Bench, drills: Drills) -> None:
    bench.issuers.set(bench.caller, bench.vault, "other", IssuerChanges(provider="Scripted"))
    issued(bench, "a", "b")
    issued(bench, "keeps", reuse_key=True, standby_issuers=("other",))
    issued(bench, "off")
    bench.certificates.update(bench.caller, bench.vault, "off", "", Changes(enabled=False))
    before = {name: bench.current(name).version for name in ("a", "b", "keeps", "off")}
    drill_id = begun(bench, drills)
    go_on(bench, drills)
    report = drills.report(bench.vault, drill_id)

    assert Stage.PLANNED is report.drill.stage
    assert {Fate.READY: 3, Fate.PERSON: 1} == report.progress.counts
    assert 1 == report.drill.plan.kinds["reuse_key"] == report.drill.plan.kinds["standby"]
    assert [("other", "Unused", 1)] == [(each.issuer, each.state, each.certificates) for each in
                                         report.drill.plan.standby]  # fmt: skip
    assert [("off", "It is disabled: enable it first, or delete it where nobody needs it.")] == [
        (each.name, each.reason) for each in report.persons
    ]
    assert (0, 0) == (report.progress.after_short, report.progress.after_long)
    assert before == {name: bench.current(name).version for name in before}
    assert all(bench.lifecycle(name).wish is None for name in before)


def test_everything_is_replaced_with_new_keys_and_a_reason_so_many_at_a_time(bench: Bench, drills: Drills) -> None:
    issued(bench, "a", "b", "c", "d")
    issued(bench, "keeps", reuse_key=True)
    names = ("a", "b", "c", "d", "keeps")
    keys = {name: bench.store.glance().objects.get(bench.vault.id, Kind.KEY, name) for name in names}
    bench.kind.steps += [bench.issued_for(90)] * 5
    drill_id = begun(bench, drills, perform=True, reason="The CA goes away.", new_key=True, batch=2)
    go_on(bench, drills)
    first = counts(bench, drills, drill_id)
    for drill in drills.claim(1):
        drills.work(drill, lambda: True)
    second = counts(bench, drills, drill_id)
    go_on(bench, drills, 6)
    report = drills.report(bench.vault, drill_id)

    assert {Fate.READY: 5} == first
    assert {Fate.READY: 3, Fate.ASKED: 2} == second
    assert Stage.DONE is report.drill.stage
    assert {Fate.REPLACED: 5} == report.progress.counts
    for name in names:
        key, operation = keys[name], bench.store.glance().operations.pending(bench.vault.id, name)
        assert operation is not None
        assert operation.cause is not None
        assert Trigger.INCIDENT is operation.cause.trigger
        assert "All certificates of the issuer ca are replaced. The CA goes away." == operation.cause.reason
        now = bench.store.glance().objects.get(bench.vault.id, Kind.KEY, name)
        assert key is not None
        assert now is not None
        assert key.key != now.key


def test_a_policy_that_keeps_the_key_keeps_it_unless_told_otherwise(bench: Bench, drills: Drills) -> None:
    issued(bench, "keeps", reuse_key=True)
    before = bench.store.glance().objects.get(bench.vault.id, Kind.KEY, "keeps")
    bench.kind.steps.append(bench.issued_for(90))
    drill_id = begun(bench, drills, perform=True)
    go_on(bench, drills, 4)
    after = bench.store.glance().objects.get(bench.vault.id, Kind.KEY, "keeps")

    assert {Fate.REPLACED: 1} == counts(bench, drills, drill_id)
    assert before is not None
    assert after is not None
    assert before.version != after.version
    assert before.key == after.key


def test_what_fails_is_told_with_its_reason_and_keeps_no_place(bench: Bench, drills: Drills) -> None:
    issued(bench, "a", "b", "c")
    no = RequestRefused(Problem("No", "The CA says no."))
    bench.kind.steps += [lambda request, journal: no, bench.issued_for(90), bench.issued_for(90)]
    drill_id = begun(bench, drills, perform=True, batch=1)
    go_on(bench, drills, 8)
    failing = drills.members(bench.vault, drill_id, "failing", "", 10).items

    assert {Fate.REPLACED: 2, Fate.FAILING: 1} == counts(bench, drills, drill_id)
    assert ["The CA says no."] == [each.reason for each in failing]
    assert Stage.REPLACING is drill_of(bench, drills, drill_id).stage
    # It is tried again, as any renewal is, and then the drill is over.
    bench.kind.steps.append(bench.issued_for(90))
    bench.until(bench.clock.now() + 20 * MINUTE)
    go_on(bench, drills, 2)
    assert {Fate.REPLACED: 3} == counts(bench, drills, drill_id)
    assert Stage.DONE is drill_of(bench, drills, drill_id).stage


@pytest.mark.parametrize("point", ["drill.plan.before", "drill.ask.before", "drill.ask.after"])
def test_a_drill_goes_on_after_a_crash(
    bench: Bench, drills: Drills, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued(bench, "a", "b")
    bench.kind.steps += [bench.issued_for(90)] * 2
    drill_id = begun(bench, drills, perform=True)
    monkeypatch.setattr(failpoints, "_armed", [failpoints._Armed(f"{point}:1:raise")])
    with pytest.raises(OSError, match=point):
        go_on(bench, drills, 3)
    bench.store.write(lambda transaction: transaction.drills.release_all(bench.clock.now()))
    go_on(bench, made(bench), 4)

    assert {Fate.REPLACED: 2} == counts(bench, drills, drill_id)
    assert 4 == len(bench.kind.requests)


def test_a_drill_goes_on_when_the_clock_was_days_ahead(bench: Bench, drills: Drills) -> None:
    issued(bench, "a", "b")
    bench.kind.steps += [bench.issued_for(90)] * 2
    housekeeping = Housekeeping(bench.store, bench.clock)
    drill_id = begun(bench, drills, perform=True, batch=1)
    go_on(bench, drills)
    bench.clock.moment += 3 * DAY
    housekeeping.beat()
    go_on(bench, drills)
    bench.clock.moment -= 3 * DAY
    housekeeping.beat()
    go_on(bench, drills, 4)

    assert {Fate.REPLACED: 2} == counts(bench, drills, drill_id)


def test_a_drill_that_is_stopped_asks_for_nothing_more(bench: Bench, drills: Drills) -> None:
    issued(bench, "a", "b", "c")
    bench.kind.steps += [bench.issued_for(90)] * 3
    drill_id = begun(bench, drills, perform=True, batch=1)
    go_on(bench, drills)
    go_on(bench, drills)
    stopped = drills.stop(bench.caller, bench.vault, drill_id)
    again = drills.stop(bench.caller, bench.vault, drill_id)
    go_on(bench, drills, 3)

    assert Stage.STOPPED is stopped.drill.stage is again.drill.stage
    assert 2 == counts(bench, drills, drill_id)[Fate.READY]
    assert 4 == len(bench.kind.requests)


def test_what_has_been_replaced_or_deleted_meanwhile_is_not_asked_for(bench: Bench, drills: Drills, core: Core) -> None:
    issued(bench, "a", "b")
    drill_id = begun(bench, drills, perform=True)
    go_on(bench, drills)
    bench.ask(bench.issued_for(90), name="a")
    bench.turn()
    core.broker.deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "b")
    go_on(bench, drills, 2)

    assert {Fate.REPLACED: 1, Fate.PERSON: 1} == counts(bench, drills, drill_id)
    assert 3 == len(bench.kind.requests)


def test_what_was_recovered_or_restored_is_replaced_too_by_whom_it_was_made(
    bench: Bench, drills: Drills, core: Core
) -> None:
    bench.issuers.set(bench.caller, bench.vault, "other", IssuerChanges(provider="Scripted"))
    issued(bench, "stays", "recovered", "restored")
    for name in ("recovered", "restored"):
        bench.certificates.update_policy(
            bench.caller, bench.vault, name, lambda stored: replace(stored or bench.policy(), issuer="other")
        )
    imported(bench, "imported")
    names = ("recovered", "restored", "imported")
    deletions, backups = core.broker.deletions, core.broker.backups
    for name in names:
        backup = backups.backup(bench.caller, bench.vault, Kind.CERTIFICATE, name)
        deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, name)
        if name == "restored":
            deletions.purge(bench.caller, bench.vault, Kind.CERTIFICATE, name)
            backups.restore(bench.caller, bench.vault, Kind.CERTIFICATE, backup)
        else:
            deletions.recover(bench.caller, bench.vault, Kind.CERTIFICATE, name)
    drill_id = begun(bench, drills)
    go_on(bench, drills)

    members = drills.members(bench.vault, drill_id, "", "", 10).items
    assert ["recovered", "restored", "stays"] == [each.name for each in members]


def test_where_it_is_not_on_record_who_made_what_was_recovered_it_is_whom_its_policy_names(
    bench: Bench, drills: Drills, core: Core
) -> None:
    issued(bench, "before")
    forget = "UPDATE versions SET facts = json_remove(facts, '$.made_by')"
    bench.store.write(lambda transaction: transaction.objects._cursor.execute(forget))
    core.broker.deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "before")
    core.broker.deletions.recover(bench.caller, bench.vault, Kind.CERTIFICATE, "before")
    drill_id = begun(bench, drills)
    go_on(bench, drills)

    assert {Fate.READY: 1} == counts(bench, drills, drill_id)


def test_drills_that_make_no_sense_are_refused(bench: Bench, drills: Drills, core: Core) -> None:
    issued(bench, "a")
    other = core.broker.vaults.create(bench.caller, "other")
    drill_id = begun(bench, drills, perform=True)

    with pytest.raises(Conflict, match=drill_id):
        begun(bench, drills, perform=True)
    with pytest.raises(Conflict, match=drill_id):
        drills.start(bench.caller, None, DrillWish("CA", perform=True))
    with pytest.raises(NotFound, match="No certificate in this vault was made by"):
        drills.start(bench.caller, other, DrillWish("ca"))
    with pytest.raises(NotFound, match="no drill"):
        drills.report(other, drill_id)
    with pytest.raises(Invalid, match="batch"):
        begun(bench, drills, batch=0)
    with pytest.raises(Invalid, match="state is one of"):
        drills.members(bench.vault, drill_id, "lost", "", 10)


def test_drills_that_are_over_for_long_are_forgotten(bench: Bench, drills: Drills) -> None:
    issued(bench, "a")
    drill_id = begun(bench, drills)
    go_on(bench, drills)
    bench.clock.moment += 91 * DAY
    for _ in range(3):
        drills.forget_old()

    with pytest.raises(NotFound):
        drills.report(bench.vault, drill_id)


def test_a_vault_of_self_signed_certificates_can_be_replaced_too(bench: Bench, drills: Drills) -> None:
    bench.operations.work(bench.ask(name="self", issuer=SELF))
    drill_id = drills.start(bench.caller, None, DrillWish(SELF)).drill.id
    go_on(bench, drills)

    assert {Fate.READY: 1} == drills.report(None, drill_id).progress.counts


def budget(bench: Bench, scope: Scope, limit: Limit, left: int, *exempt: Standing) -> BudgetState:
    now = bench.clock.now()
    return BudgetState(scope, "orders", limit, left, now, None, None, Bucket("ca", scope, "one"), frozenset(exempt))


def test_a_forecast_places_each_order_behind_those_before(bench: Bench) -> None:
    now = bench.clock.now()
    domain = budget(bench, Scope.DOMAIN, Limit(10, timedelta(hours=1)), 3)
    forecast = Forecast(now)
    done = [forecast.place("ca", [domain], Standing.RENEWAL, SECOND, 1) - now for _ in range(6)]

    # Three fit; then one place comes back every hour, the first an hour after the bucket was as full as that.
    assert [SECOND, 2 * SECOND, 3 * SECOND] == done[:3]
    assert [timedelta(hours=1), timedelta(hours=2), timedelta(hours=3)] == [
        each - SECOND for each in done[3:]
    ]  # fmt: skip
    assert {"It allows 10 orders in 10 hours.": 3} == dict(forecast.held_back)


def test_a_forecast_knows_what_counts_nowhere_and_that_one_issuer_takes_so_many_at_a_time(bench: Bench) -> None:
    now = bench.clock.now()
    domain = budget(bench, Scope.DOMAIN, Limit(1, DAY), 0, Standing.REPLACEMENT)
    forecast = Forecast(now)
    done = [forecast.place("ca", [domain], Standing.REPLACEMENT, 12 * SECOND, 12) - now for _ in range(100)]

    assert 12 * SECOND == done[0]
    assert timedelta(seconds=111) == done[-1]
