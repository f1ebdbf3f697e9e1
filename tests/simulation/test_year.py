"""A year of a small site: the real services and store under a stepped clock. `make simulate` lives through ten."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from benchmarks.simulation.ideal import ideal_orders
from benchmarks.simulation.record import write_record
from benchmarks.simulation.tally import Tally, broken, figures, together
from benchmarks.simulation.world import DAY, HOUR, SUGGESTING, draw
from benchmarks.simulation.years import Simulation


def test_a_year_passes_without_a_certificate_that_ends_an_order_too_many_or_a_limit_that_is_met(tmp_path: Path) -> None:
    world = draw(1, 30, 1)
    tally = Simulation(world, tmp_path, "1", tick=2 * HOUR).run(lambda now, orders: None)
    told = figures(world, tally, 1.0)
    write_record(tmp_path / "record.json", world, tally, told)

    assert [] == broken(world, tally)
    assert 0 == told["expired"] == told["limit_violations"]
    assert tally.orders == sum(json.loads((tmp_path / "record.json").read_text())["orders_by_week"]) + (
        tally.failed_validations
    )
    # The year had in it what it was to survive.
    assert world.outages
    assert world.jumps
    assert world.suspends
    assert tally.replaced_for_incident
    assert max(tally.replaced_for_incident) < timedelta(hours=30)


def test_the_same_seed_draws_the_same_world() -> None:
    assert draw(3, 200, 7) == draw(3, 200, 7)
    assert draw(3, 200, 7) != draw(3, 200, 8)


def test_parts_of_a_world_have_teams_domains_and_accounts_of_their_own() -> None:
    world = draw(3, 200, 7)
    parts = [world.part(number, 2) for number in range(2)]
    teams = [{wanted.team for wanted in part.certificates} for part in parts]

    assert {*world.certificates} == {wanted for part in parts for wanted in part.certificates}
    assert teams[0].isdisjoint(teams[1])


def test_the_ideal_is_a_certificate_at_each_middle_of_its_window() -> None:
    world = draw(1, 5, 1)
    six_days = next(wanted for wanted in world.certificates if wanted.life == 6 * DAY)
    year = replace(world, certificates=(replace(six_days, at=world.start),), incident=world.end)

    assert SUGGESTING == six_days.ca
    assert 124 == ideal_orders(year)  # 365.25 days, three days less an hour apart.


def test_every_promise_that_is_not_kept_is_told() -> None:
    world = draw(1, 10, 1)
    good = Tally(orders=round(ideal_orders(world)))
    bad = Tally(expired=["a"], doubled_orders=1, needless_certificates=1, unwell=["c is ill"], looks=10**6)
    bad.refused_by_limits["new orders"] = 1

    assert [] == broken(world, good)
    assert 7 == len(broken(world, bad)) == len(broken(world, together([good, bad]))) + 1
