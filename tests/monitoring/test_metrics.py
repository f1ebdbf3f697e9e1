"""What the metrics say is what has happened, and a scrape costs the same however many certificates there are."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.budget import PlannedOrder, Scope
from certbroker.domain.objects import Vault
from certbroker.domain.operation import Problem
from certbroker.ports.issuer import IssuanceRequest, IssuerUnavailable, Journal, Reply, RequestRefused
from certbroker.services.health.metrics import Metrics
from tests.monitoring.conftest import Stopwatch
from tests.support.clock import SteppedClock
from tests.support.issuer_bench import Bench

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scrapes:
    """Scrapes the metrics of a broker, half a minute after the last time."""

    def __init__(self, core: Core, clock: SteppedClock, stopwatch: Stopwatch, limit: int = 500) -> None:
        self.stopwatch = stopwatch
        self.metrics = Metrics(
            core.broker.store, clock, core.broker.meters, core.broker.readiness, limit, monotonic=stopwatch
        )

    def samples(self, *, wait: float = 30) -> Samples:
        self.stopwatch.seconds += wait
        text = self.metrics.render("text/plain")[0].decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, *, wait: float = 30, **labels: str) -> float | None:
        return self.samples(wait=wait).get((name, frozenset(labels.items())))


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault, clock: SteppedClock) -> Bench:
    bench = Bench(core, caller, vault)
    bench.clock.moment = clock.moment
    return bench


@pytest.fixture
def scrapes(core: Core, bench: Bench, stopwatch: Stopwatch) -> Scrapes:
    return Scrapes(core, bench.clock, stopwatch)


def unavailable(request: IssuanceRequest, journal: Journal) -> Reply:
    raise IssuerUnavailable(Problem("Down", "The CA is down."))


def refused(request: IssuanceRequest, journal: Journal) -> Reply:
    return RequestRefused(Problem("No", "No."))


def test_a_renewal_is_counted_from_its_start_to_its_end(bench: Bench, scrapes: Scrapes) -> None:
    which: dict[str, Any] = {"vault": "vault", "issuer": "ca", "trigger": "LifetimeAction"}
    bench.ask(bench.issued_for(90))
    bench.turn()
    bench.until(bench.clock.now() + timedelta(minutes=1))

    assert scrapes.value("certbroker_renewals_started_total", **which) is None
    bench.kind.steps += [refused, bench.issued_for(90)]
    bench.until(bench.clock.now() + timedelta(days=74))
    assert 2 == scrapes.value("certbroker_renewals_started_total", **which)
    assert 1 == scrapes.value("certbroker_renewals_ended_total", **which, outcome="failed")
    assert 1 == scrapes.value("certbroker_renewals_ended_total", **which, outcome="succeeded")
    assert 2 == scrapes.value("certbroker_operations_ended_total", vault="vault", issuer="ca", outcome="succeeded")


def test_calls_to_issuers_are_counted_by_how_they_went(bench: Bench, scrapes: Scrapes) -> None:
    bench.ask(unavailable, bench.issued_for(90))
    bench.turn()
    bench.until(bench.clock.now() + timedelta(minutes=1))
    samples = scrapes.samples()

    def calls(call: str, outcome: str) -> float | None:
        labels = {"vault": "vault", "issuer": "ca", "call": call, "outcome": outcome}
        return samples.get(("certbroker_issuer_calls_total", frozenset(labels.items())))

    assert (1, 1, 1) == (calls("advance", "unavailable"), calls("advance", "ok"), calls("window", "ok"))
    assert 2 == samples["certbroker_issuer_call_seconds_count", frozenset({("call", "advance")})]


def test_certificates_and_operations_are_counted_by_how_they_are(bench: Bench, scrapes: Scrapes) -> None:
    for number in range(3):
        bench.ask(bench.issued_for(90), name=f"c{number}")
        bench.turn()
    bench.ask(refused, name="refused")
    bench.turn()
    bench.until(bench.clock.now() + timedelta(minutes=1))
    samples = scrapes.samples()

    def count(name: str, **labels: str) -> float:
        return samples[name, frozenset(labels.items())]

    assert 3 == count("certbroker_certificates", health="Healthy")
    assert 1 == count("certbroker_certificates", health="NeedsPerson")
    assert 0 == count("certbroker_certificates", health="Expired")
    assert 1 == count("certbroker_operations", state="Failed")
    assert 0 == count("certbroker_operations", state="AwaitingIssuer")


def test_with_more_certificates_than_the_limit_none_is_told_and_all_are_counted(
    core: Core, bench: Bench, stopwatch: Stopwatch
) -> None:
    scrapes = Scrapes(core, bench.clock, stopwatch, limit=2)
    told = []
    for number in range(3):
        bench.ask(bench.issued_for(90), name=f"c{number}")
        bench.turn()
        told.append(sum(name == "x509_cert_not_after" for name, _ in scrapes.samples()))

    assert [1, 2, 0] == told
    assert 3 == sum(value for (name, _), value in scrapes.samples().items() if name == "certbroker_certificates")


def test_what_is_counted_is_kept_for_half_a_minute(bench: Bench, scrapes: Scrapes) -> None:
    before = scrapes.value("certbroker_certificates", health="Unknown")
    bench.ask(bench.issued_for(90))
    bench.turn()

    assert 0 == before == scrapes.value("certbroker_certificates", wait=29, health="Unknown")
    assert 1 == scrapes.value("certbroker_certificates", wait=1, health="Unknown")


def test_work_that_is_due_and_not_done_shows_as_a_lag(bench: Bench, scrapes: Scrapes) -> None:
    bench.ask()
    bench.clock.forward(timedelta(minutes=7))

    assert 420 == scrapes.value("certbroker_engine_lag_seconds", part="issue")
    assert 0 == scrapes.value("certbroker_engine_lag_seconds", part="renew")


def test_pauses_that_a_ca_asked_for_are_counted(bench: Bench, scrapes: Scrapes) -> None:
    order = PlannedOrder("o", "s", "https://ca.example/dir", "account", ("a.example",))
    bench.core.broker.governor.hold(order, Scope.CA, (), bench.clock.now() + timedelta(hours=1), "Go away.")
    which = {"ca": "https://ca.example/dir", "scope": "ca"}

    assert 1 == scrapes.value("certbroker_governor_holds", **which)
    bench.clock.forward(timedelta(hours=2))
    assert scrapes.value("certbroker_governor_holds", **which) is None


def test_channels_are_told_with_what_waits_for_them(core: Core, bench: Bench, caller: Caller, scrapes: Scrapes) -> None:
    from certbroker.services.notification.channels import ChannelChanges

    wanted = ChannelChanges(kind="webhook", settings={"url": "https://h.example/"}, events=("*",))
    core.broker.channels.set(caller, bench.vault, "Hook", wanted)
    bench.ask(bench.issued_for(90))
    bench.turn()
    which = {"vault": "vault", "channel": "Hook"}

    # A certificate, its key and its secret.
    assert 3 == scrapes.value("certbroker_outbox_waiting", **which)
    assert 0 == scrapes.value("certbroker_outbox_dead", **which)
    assert 0 == scrapes.value("certbroker_channel_failing", **which)


def test_an_issuer_that_is_away_is_told_until_it_is_back(bench: Bench, scrapes: Scrapes) -> None:
    which = {"vault": "vault", "issuer": "ca"}
    fresh = scrapes.value("certbroker_issuer_failing", **which)
    bench.ask(unavailable, bench.issued_for(90))
    bench.turn()
    failing = scrapes.value("certbroker_issuer_failing", **which)
    bench.until(bench.clock.now() + timedelta(minutes=1))

    assert (0, 1, 0) == (fresh, failing, scrapes.value("certbroker_issuer_failing", **which))
    noted = scrapes.value("certbroker_issuer_last_success_timestamp_seconds", **which)
    assert noted is not None
    assert abs(noted - bench.clock.now().timestamp()) < 120


def test_a_database_that_cannot_be_read_leaves_what_this_process_knows(
    core: Core, scrapes: Scrapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(type(core.broker.store.glance().lifecycles), "next_due", broken)
    samples = scrapes.samples()

    assert 0 == samples["certbroker_database_readable", frozenset()]
    assert ("certbroker_engine_beat_age_seconds", frozenset({("part", "beat")})) in samples
    assert not any(name == "certbroker_certificates" for name, _ in samples)


def test_no_query_of_a_scrape_reads_whole_tables_but_for_the_count(core: Core) -> None:
    """Every listing is by an index or cut off; the count of all certificates is the one that is not."""
    plans: dict[str, list[str]] = {}
    with sqlite3.connect(core.broker.store._path) as connection:
        from certbroker.store import totals

        for name in ("_UNFINISHED", "_LEFT", "_MERGES", "_WAITING", "_DEAD", "_HOW_MANY", "_CURRENT"):
            statement = getattr(totals, name)
            statement._compile()
            rows = connection.execute(f"EXPLAIN QUERY PLAN {statement._sql}", [1] * len(statement._names)).fetchall()
            plans[name] = [row[3] for row in rows if row[3].startswith(("SCAN", "SEARCH"))]
    connection.close()

    assert {
        "_UNFINISHED": "operations_due",
        "_LEFT": "operations_open",
        "_MERGES": "operations_open",
        "_WAITING": "outbox_due",
        "_DEAD": "outbox_dead",
        "_HOW_MANY": "sqlite_autoindex_lifecycles_1",
        "_CURRENT": "sqlite_autoindex_lifecycles_1",
    } == {name: steps[0].split("INDEX ")[-1].split()[0] for name, steps in plans.items()}
