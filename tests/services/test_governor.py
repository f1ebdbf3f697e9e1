"""The governor on a real database: nobody overspends, nothing is spent twice, and what the CA says is obeyed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from certbroker.domain.budget import UNLIMITED, Limits, PlannedOrder, Scope, Standing, limit
from certbroker.ports import governor as port
from certbroker.services.issuers.governor import Governor
from certbroker.store import migrations
from certbroker.store.database import SQLiteStore
from tests.support.clock import CountingClock, SteppedClock

CA = "https://ca.example/directory"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LIMITS = Limits(limit(10, HOUR), limit(4, DAY), limit(2, DAY), limit(3, HOUR), limit(5, 5 * DAY), exempts_renewals=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    migrations.upgrade(tmp_path / "certbroker.db")
    store = SQLiteStore(tmp_path / "certbroker.db", "writer")
    yield store
    store.close()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def governor(store: SQLiteStore, clock: SteppedClock) -> Governor:
    made: port.Governor = Governor(store, clock)
    assert isinstance(made, Governor)
    return made


def order(operation: str, *names: str, standing: Standing = Standing.NEW, account: str = "account") -> PlannedOrder:
    return PlannedOrder(operation, "order", CA, account, names or (f"{operation}.{operation}.test",), standing)


def left(governor: Governor, scope: Scope, *names: str, account: str = "account") -> int | None:
    found = [state.left for state in governor.explain(CA, account, names, LIMITS) if state.scope is scope]
    assert 1 == len(found)
    return found[0]


def test_two_threads_cannot_overspend(governor: Governor) -> None:
    orders = [order(f"o{number}", f"{number}.example.com") for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        refusals = [*pool.map(lambda each: governor.admit(each, LIMITS), orders)]

    assert 4 == refusals.count(None)
    sentences = {refused.sentence for refused in refusals if refused is not None}
    assert all("used up: 4 certificates for example.com in 1 day; the next fits at" in text for text in sentences)


def test_admitting_an_order_again_takes_nothing_more(governor: Governor) -> None:
    for _ in range(3):
        assert governor.admit(order("o", "a.example.com"), LIMITS) is None

    assert 9 == left(governor, Scope.ACCOUNT)
    assert 3 == left(governor, Scope.DOMAIN, "a.example.com")


def test_a_certificate_takes_the_place_that_its_order_reserved_once(governor: Governor, clock: SteppedClock) -> None:
    governor.admit(order("o", "a.example.com"), LIMITS)
    clock.forward(10 * HOUR)
    for _ in range(2):
        governor.issued(order("o", "a.example.com"), LIMITS)

    assert 3 == left(governor, Scope.DOMAIN, "b.example.com")
    clock.forward(6 * HOUR)
    assert 4 == left(governor, Scope.DOMAIN, "b.example.com")


def test_an_order_that_came_to_nothing_gives_back_what_it_reserved(governor: Governor) -> None:
    governor.admit(order("o", "a.example.com"), LIMITS)
    for _ in range(2):
        governor.ended(order("o"))

    assert 4 == left(governor, Scope.DOMAIN, "a.example.com")
    assert 9 == left(governor, Scope.ACCOUNT)


def test_what_a_deleted_operation_had_reserved_comes_back(governor: Governor, clock: SteppedClock) -> None:
    governor.admit(order("o", "a.example.com"), LIMITS)
    clock.forward(7 * DAY)
    governor.tidy()
    assert 3 == left(governor, Scope.DOMAIN, "a.example.com")
    clock.forward(DAY)
    governor.tidy()

    assert 4 == left(governor, Scope.DOMAIN, "a.example.com")


def test_failed_validations_are_counted_for_the_name_and_the_account(governor: Governor, clock: SteppedClock) -> None:
    for number in range(3):
        made = order(f"o{number}", "*.example.com", "other.test")
        assert governor.admit(made, replace(LIMITS, names=None)) is None
        governor.failed(made, LIMITS, ["*.example.com"])
        governor.failed(made, LIMITS, ["*.example.com"])

    refused = governor.admit(order("next", "example.com"), LIMITS)
    assert refused is not None
    assert refused.sentence.startswith("The budget is used up: 3 failed validations of example.com in 1 hour; the next")
    assert governor.admit(order("elsewhere", "example.com", account="other account"), LIMITS) is None
    assert governor.admit(order("fine", "other.test"), LIMITS) is None
    assert governor.admit(order("ari", "example.com", standing=Standing.REPLACEMENT), LIMITS) is None
    clock.forward(20 * timedelta(minutes=1))
    assert governor.admit(order("next", "example.com"), LIMITS) is None


def test_a_success_ends_a_row_of_failures(governor: Governor, clock: SteppedClock) -> None:
    names = ("www.example.com",)
    for number in range(4):
        clock.forward(HOUR)
        made = order(f"o{number}", *names)
        governor.admit(made, LIMITS)
        governor.failed(made, LIMITS, names)
    assert 1 == left(governor, Scope.CONSECUTIVE, *names)
    made = order("good", *names)
    governor.admit(made, LIMITS)
    governor.issued(made, LIMITS)

    assert 5 == left(governor, Scope.CONSECUTIVE, *names)


@pytest.mark.parametrize(
    ("scope", "held", "free"),
    [
        (Scope.CA, order("b", "b.test", account="other account"), None),
        (Scope.ACCOUNT, order("b", "b.test"), order("c", "c.test", account="other account")),
        (Scope.DOMAIN, order("b", "x.example.com"), order("c", "c.test")),
        (Scope.NAMES, order("b", "www.example.com", "example.com"), order("c", "example.com")),
        (Scope.NAME, order("b", "b.test", "example.com"), order("c", "www.example.com")),
    ],
)
def test_a_hold_stops_what_it_is_about_and_nothing_else(
    governor: Governor, clock: SteppedClock, scope: Scope, held: PlannedOrder, free: PlannedOrder | None
) -> None:
    told = order("a", "example.com", "www.example.com")
    governor.hold(told, scope, ["example.com"], clock.now() + HOUR, "slow down")
    governor.hold(told, scope, ["example.com"], clock.now() + HOUR / 2, "a shorter one")

    for limits in (LIMITS, UNLIMITED):
        for standing in Standing:
            refused = governor.admit(replace(held, standing=standing), limits)
            assert refused is not None
            assert refused.sentence.endswith("It said: slow down")
            assert HOUR <= refused.retry_at - clock.now() <= 1.1 * HOUR
    if free is not None:
        assert governor.admit(free, LIMITS) is None
        assert governor.pause(CA) is None
    else:
        assert governor.pause(CA) is not None
        assert governor.pause("https://other.example/") is None
    clock.forward(HOUR)
    assert governor.admit(held, LIMITS) is None


class TestClockThatIsSet:
    """Budgets under a clock that is set while time passes otherwise."""

    @pytest.fixture
    def clock(self) -> CountingClock:
        return CountingClock()

    @pytest.mark.parametrize("by", [10 * DAY, HOUR, -HOUR, -10 * DAY])
    def test_nothing_is_given_back_for_time_that_has_not_passed_and_nobody_waits_longer(
        self, governor: Governor, clock: CountingClock, by: timedelta
    ) -> None:
        limits = Limits(names=limit(1, 7 * DAY))
        governor.admit(order("a", "example.com"), limits)
        governor.issued(order("a", "example.com"), limits)
        clock.forward(DAY)
        governor.tidy()
        clock.set(by)

        refused = governor.admit(order("b", "example.com"), limits)
        assert refused is not None
        assert 6 * DAY <= refused.retry_at - clock.now() <= 6 * DAY + timedelta(minutes=6)
        clock.forward(6 * DAY)
        assert governor.admit(order("b", "example.com"), limits) is None

    @pytest.mark.parametrize("by", [10 * DAY, -10 * DAY])
    def test_a_clock_that_is_put_right_again_changes_nothing(
        self, governor: Governor, clock: CountingClock, by: timedelta
    ) -> None:
        until = clock.now() + 5 * HOUR
        governor.hold(order("a"), Scope.CA, (), until, "slow down")
        clock.set(by)
        governor.tidy()
        assert [until + by] == [level.held_until for _, level in governor.holds()]
        clock.set(-by)
        governor.tidy()

        assert [until] == [level.held_until for _, level in governor.holds()]

    def test_a_clock_that_is_put_right_little_by_little_is_followed(
        self, governor: Governor, clock: CountingClock
    ) -> None:
        until = clock.now() + HOUR
        governor.hold(order("a"), Scope.CA, (), until, "slow down")
        for _ in range(30):
            clock.set(timedelta(seconds=59))
            governor.tidy()

        assert [until] == [level.held_until for _, level in governor.holds()]

    def test_what_was_whole_before_stays_whole(self, store: SQLiteStore, clock: CountingClock) -> None:
        limits = Limits(failures=limit(5, HOUR))
        governor = Governor(store, clock)
        governor.admit(order("a", "example.com"), limits)
        governor.failed(order("a", "example.com"), limits, ["example.com"])
        clock.forward(2 * HOUR)
        clock.set(DAY)
        governor.admit(order("b", "example.com"), limits)

        states = governor.explain(CA, "account", ["example.com"], limits)
        assert [5] == [state.left for state in states if state.scope is Scope.NAME]


def test_an_order_that_was_admitted_still_obeys_a_hold(governor: Governor, clock: SteppedClock) -> None:
    governor.admit(order("o"), LIMITS)
    governor.hold(order("o"), Scope.ACCOUNT, (), clock.now() + HOUR, "slow down")

    assert governor.admit(order("o"), LIMITS) is not None
    clock.forward(HOUR)
    assert governor.admit(order("o"), LIMITS) is None
    assert 9 <= (left(governor, Scope.ACCOUNT) or 0)


def test_new_names_leave_a_fifth_of_the_orders_to_renewals(governor: Governor) -> None:
    limits = Limits(orders=limit(10, HOUR))
    new = [governor.admit(order(f"n{number}"), limits) for number in range(10)]
    renewals = [governor.admit(order(f"r{number}", standing=Standing.RENEWAL), limits) for number in range(3)]

    assert [None] * 8 == new[:8]
    assert all(refused is not None for refused in new[8:])
    assert [True, True, False] == [refused is None for refused in renewals]
    assert governor.admit(order("ari", standing=Standing.REPLACEMENT), limits) is None


def test_those_who_wait_for_one_place_come_back_at_different_moments(governor: Governor, clock: SteppedClock) -> None:
    governor.hold(order("o"), Scope.ACCOUNT, (), clock.now() + 10 * HOUR, "slow down")
    moments = {refused.retry_at for number in range(50) if (refused := governor.admit(order(f"o{number}"), LIMITS))}

    assert 50 == len(moments)
    assert timedelta(0) <= min(moments) - (clock.now() + 10 * HOUR)
    assert max(moments) - (clock.now() + 10 * HOUR) <= timedelta(minutes=5)


def test_rows_go_when_they_say_nothing_any_more(governor: Governor, tmp_path: Path, clock: SteppedClock) -> None:
    for number in range(5):
        made = order(f"o{number}")
        governor.admit(made, LIMITS)
        governor.issued(made, LIMITS)
    governor.hold(order("o"), Scope.DOMAIN, ["a.test"], clock.now() + 20 * HOUR, "slow down")
    assert 5 * 2 + 2 == rows(tmp_path)
    clock.forward(19 * HOUR)
    governor.tidy()

    assert 1 == rows(tmp_path)
    clock.forward(HOUR)
    governor.tidy()
    assert 0 == rows(tmp_path)


def rows(directory: Path) -> int:
    with closing(sqlite3.connect(directory / "certbroker.db")) as connection:
        count = "SELECT (SELECT count(*) FROM budgets) + (SELECT count(*) FROM reservations)"
        found: int = connection.execute(count).fetchone()[0]
    return found


def test_what_cas_want_to_be_left_alone_with_can_be_watched(governor: Governor, clock: SteppedClock) -> None:
    governor.admit(order("o"), LIMITS)
    governor.hold(order("o"), Scope.ACCOUNT, (), clock.now() + HOUR, "slow down")
    governor.hold(order("o"), Scope.DOMAIN, ["a.test"], clock.now() + 2 * HOUR, "too many")

    found = [(bucket.scope, bucket.subject, level.held_until, level.reason) for bucket, level in governor.holds()]
    assert [
        (Scope.DOMAIN, "a.test", clock.now() + 2 * HOUR, "too many"),
        (Scope.ACCOUNT, "account", clock.now() + HOUR, "slow down"),
    ] == found
    clock.forward(HOUR)
    assert [Scope.DOMAIN] == [bucket.scope for bucket, _ in governor.holds()]


def test_a_clock_that_was_put_back_locks_nobody_out(governor: Governor, clock: SteppedClock) -> None:
    limits = Limits(failures=limit(5, HOUR))
    for number in range(5):
        made = order(f"o{number}", "example.com")
        governor.admit(made, limits)
        governor.failed(made, limits, ["example.com"])
    clock.forward(-HOUR)
    assert governor.admit(order("next", "example.com"), limits) is not None
    clock.forward(timedelta(minutes=12))

    assert governor.admit(order("next", "example.com"), limits) is None


def test_budgets_are_explained(governor: Governor, clock: SteppedClock) -> None:
    governor.admit(order("o", "a.example.com"), LIMITS)
    governor.hold(order("o"), Scope.ACCOUNT, (), clock.now() + HOUR, "slow down")
    states = {state.scope: state for state in governor.explain(CA, "account", ["a.example.com"], LIMITS)}

    account, domain = states[Scope.ACCOUNT], states[Scope.DOMAIN]
    assert (9, clock.now() + HOUR, "slow down") == (account.left, account.held_until, account.reason)
    assert account.next_fit == clock.now() + HOUR
    assert (3, LIMITS.domain, None, clock.now()) == (domain.left, domain.limit, domain.held_until, domain.next_fit)
    before = [(state.scope, state.left) for state in governor.explain(CA, None, [], LIMITS)]
    assert [(Scope.CA, None), (Scope.ACCOUNT, 10)] == before
