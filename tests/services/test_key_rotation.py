"""Keys are rotated in time and people told of their end, once, whatever happens to the broker meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certbroker import failpoints
from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.channels import Channel
from certbroker.domain.durations import parse_duration
from certbroker.domain.events import EventType
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.domain.rotation import RotationPolicy
from certbroker.engine.rotate import RotateSweep
from certbroker.keystore.software import SoftwareKeyStore
from certbroker.services.objects.key_rotation import KeyRotation
from certbroker.services.objects.keys import Keys
from tests.support.clock import SteppedClock

NEAR, EXPIRED = EventType.KEY_NEAR_EXPIRY, EventType.KEY_EXPIRED
DAY = timedelta(days=1)


class Bench:
    """A vault with keys, a channel that hears of their end, and a clock."""

    def __init__(self, core: Core, caller: Caller, vault: Vault) -> None:
        self.core, self.caller, self.vault = core, caller, vault
        self.store, self.clock = core.broker.store, SteppedClock()
        self.begin = self.clock.now()
        parts = (self.store, core.seal, SoftwareKeyStore(), self.clock)
        self.rotation, self.keys = KeyRotation(*parts), Keys(*parts)
        self.sweep = RotateSweep(self.rotation).sweep
        channel = Channel(vault.id, "all", "test", events=(NEAR, EXPIRED))
        self.store.write(lambda transaction: transaction.channels.add(channel))

    def make(self, name: str = "k", *, days: float | None = None, enabled: bool = True) -> str:
        """A key with so many days to live; its version."""
        expires = None if days is None else int((self.clock.now() + days * DAY).timestamp())
        changes = Changes(enabled, expires=expires)
        return self.keys.create(self.caller, self.vault, name, KeySpec("EC"), None, changes).version

    def follow(self, name: str = "k", **durations: str) -> None:
        """Give a key a policy."""
        policy = RotationPolicy(**{field: parse_duration(text, field) for field, text in durations.items()})
        self.rotation.set_policy(self.caller, self.vault, name, policy)

    def on_day(self, day: float) -> None:
        """Let time pass until then, with all that happens meanwhile."""
        end = self.begin + day * DAY
        while self.clock.moment < end:
            self.clock.moment = min(end, self.clock.moment + DAY / 2)
            while self.sweep():
                pass

    def versions(self, name: str = "k") -> int:
        return len(self.store.glance().objects.all_versions(self.vault.id, Kind.KEY, name))

    def told(self) -> list[tuple[str, str]]:
        cursor = self.store.glance().outbox._cursor
        cursor.execute(
            "SELECT json_extract(event, '$.name'), json_extract(event, '$.type') FROM outbox WHERE vault_id = ? "
            "ORDER BY created, 2",
            (self.vault.id,),
        )
        return [(name, kind) for name, kind in cursor.fetchall()]

    def rotated(self) -> int:
        """How many rotations are on record as the engine's."""
        cursor = self.store.glance().outbox._cursor
        cursor.execute(
            "SELECT count(*) FROM audit WHERE json_extract(record, '$.operation') = 'KeyRotate' "
            "AND json_extract(record, '$.vault') = ?",
            (str(self.vault.id),),
        )
        return int(cursor.fetchone()[0])


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    return Bench(core, caller, vault)


def test_a_key_is_rotated_again_and_again_by_its_age(bench: Bench) -> None:
    bench.make()
    bench.follow(rotate_after="P30D", expiry="P90D")
    counts = []
    for day in (29, 31, 59, 62, 93):
        bench.on_day(day)
        counts.append(bench.versions())

    assert [1, 2, 2, 3, 4] == counts
    assert 3 == bench.rotated()
    current = bench.keys.get(bench.vault, "k", "")
    assert current.attributes.expires == current.attributes.created + 90 * 86400
    assert [] == bench.told()


def test_a_key_is_rotated_so_long_before_its_end(bench: Bench) -> None:
    bench.make(days=90)
    bench.follow(rotate_before="P20D", notify_before="P30D", expiry="P90D")
    bench.on_day(61)
    assert [("k", NEAR)] == bench.told()
    bench.on_day(69)
    assert 1 == bench.versions()
    bench.on_day(71)

    assert 2 == bench.versions()
    bench.on_day(120)
    assert [("k", NEAR)] == bench.told()  # The version that ended was not the current one any more.


def test_people_are_told_a_month_before_and_at_the_end_without_a_policy(bench: Bench) -> None:
    bench.make(days=40)
    bench.make("endless")
    bench.make("short", days=10)
    bench.on_day(9.5)
    assert [] == bench.told()
    bench.on_day(11)
    assert [("k", NEAR), ("short", EXPIRED)] == sorted(bench.told())
    bench.on_day(100)

    assert [("k", EXPIRED), ("k", NEAR), ("short", EXPIRED)] == sorted(bench.told())
    assert 1 == bench.versions()


def test_a_policy_without_notice_is_silent_until_the_end(bench: Bench) -> None:
    bench.make(days=40)
    bench.follow(rotate_after="P1Y")
    bench.on_day(39)
    assert [] == bench.told()
    bench.on_day(41)

    assert [("k", EXPIRED)] == bench.told()


def test_what_passed_while_nobody_looked_is_done_afterwards_and_once(bench: Bench) -> None:
    bench.make()
    bench.make("old", days=40)
    bench.follow(rotate_after="P30D")
    bench.clock.moment = bench.begin + 200 * DAY
    while bench.sweep():
        pass

    assert 2 == bench.versions()
    assert [("old", EXPIRED)] == bench.told()


def test_a_key_that_is_switched_off_or_deleted_is_not_rotated_until_it_is_back(bench: Bench) -> None:
    bench.make()
    bench.make("gone")
    for name in ("k", "gone"):
        bench.follow(name, rotate_after="P30D")
    bench.keys.update(bench.caller, bench.vault, "k", "", None, Changes(enabled=False))
    bench.core.broker.deletions.delete(bench.caller, bench.vault, Kind.KEY, "gone")
    bench.on_day(50)
    assert [1, 1] == [bench.versions(name) for name in ("k", "gone")]
    bench.keys.update(bench.caller, bench.vault, "k", "", None, Changes(enabled=True))
    bench.core.broker.deletions.recover(bench.caller, bench.vault, Kind.KEY, "gone")
    bench.on_day(51)

    assert [2, 2] == [bench.versions(name) for name in ("k", "gone")]


def test_a_version_that_somebody_makes_meanwhile_takes_the_turn(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.make()
    bench.follow(rotate_after="P30D")
    bench.clock.moment = bench.begin + 31 * DAY
    generate = bench.rotation._keystore.generate

    def beside(spec: KeySpec) -> object:
        monkeypatch.undo()
        bench.make()
        return generate(spec)

    monkeypatch.setattr(bench.rotation._keystore, "generate", beside)
    while bench.sweep():
        pass

    assert 2 == bench.versions()
    assert 0 == bench.rotated()


@pytest.mark.parametrize("point", ["rotation.before", "rotation.after"])
def test_a_crash_costs_time_and_no_second_version(bench: Bench, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    bench.make()
    bench.follow(rotate_after="P30D")
    bench.clock.moment = bench.begin + 31 * DAY
    monkeypatch.setattr(failpoints, "_armed", [failpoints._Armed(f"{point}:1:raise")])
    bench.sweep()
    monkeypatch.setattr(failpoints, "_armed", [])
    bench.on_day(32)

    assert 2 == bench.versions()
    assert 1 == bench.rotated()


def test_a_key_that_cannot_be_rotated_keeps_nobody_waiting(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.make("broken")
    bench.make("sound")
    for name in ("broken", "sound"):
        bench.follow(name, rotate_after="P30D")
    successor = bench.rotation._successor

    def fails(vault: int, current: object, *more: object) -> object:
        if current.name == "broken":  # type: ignore[attr-defined]
            raise RuntimeError("no")
        return successor(vault, current, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.rotation, "_successor", fails)
    bench.on_day(31)

    assert [1, 2] == [bench.versions(name) for name in ("broken", "sound")]
    monkeypatch.undo()
    bench.on_day(32)
    assert 2 == bench.versions("broken")


def test_an_idle_look_writes_nothing(bench: Bench) -> None:
    bench.make(days=300)
    bench.sweep()
    changes = bench.store._writer.changes
    assert 0 == bench.sweep()

    assert changes == bench.store._writer.changes
