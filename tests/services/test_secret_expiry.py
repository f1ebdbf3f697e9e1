"""People are told of secrets that come to their end, once, whatever happens to the broker meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.channels import Channel
from certbroker.domain.events import EventType
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.services.objects.secret_expiry import SecretExpiry
from tests.support.clock import SteppedClock

NEAR, EXPIRED = EventType.SECRET_NEAR_EXPIRY, EventType.SECRET_EXPIRED
DAY = timedelta(days=1)


class Told:
    """A vault with a channel that hears of expiry, and a clock."""

    def __init__(self, core: Core, caller: Caller, vault: Vault) -> None:
        self.core, self.caller, self.vault = core, caller, vault
        self.clock = SteppedClock()
        self.begin = self.clock.now()
        channel = Channel(vault.id, "all", "test", events=(NEAR, EXPIRED))
        core.broker.store.write(lambda transaction: transaction.channels.add(channel))
        SecretExpiry(core.broker.store, self.clock).tell()

    def secret(self, name: str, *, days: float) -> None:
        expires = int((self.begin + days * DAY).timestamp())
        self.core.broker.secrets.set(self.caller, self.vault, name, "x", Changes(expires=expires))

    def on_day(self, day: float) -> list[tuple[str, str]]:
        """Everything that was told up to that day."""
        self.clock.moment = self.begin + day * DAY
        SecretExpiry(self.core.broker.store, self.clock).tell()
        cursor = self.core.broker.store.glance().outbox._cursor
        cursor.execute(
            "SELECT json_extract(event, '$.name'), json_extract(event, '$.type') FROM outbox ORDER BY created, 1"
        )
        return [(name, kind) for name, kind in cursor.fetchall()]


@pytest.fixture
def told(core: Core, caller: Caller, vault: Vault) -> Told:
    return Told(core, caller, vault)


def test_a_secret_is_told_of_a_month_before_its_end_and_at_its_end(told: Told) -> None:
    told.secret("password", days=40)

    assert [] == told.on_day(9.9)
    assert [("password", NEAR)] == told.on_day(10.1) == told.on_day(39)
    assert [("password", NEAR), ("password", EXPIRED)] == told.on_day(40.1) == told.on_day(400)


def test_a_secret_is_told_of_at_the_next_look_however_short_ago_the_last_was(told: Told) -> None:
    told.secret("password", days=40)
    minute = 1 / 24 / 60

    assert [] == told.on_day(10 - minute / 2)
    assert [("password", NEAR)] == told.on_day(10 + minute / 2)


def test_what_passed_while_nobody_looked_is_told_afterwards(told: Told) -> None:
    told.secret("password", days=40)

    assert [("password", NEAR), ("password", EXPIRED)] == told.on_day(100)


def test_only_current_versions_of_live_secrets_are_told_of(told: Told) -> None:
    told.secret("replaced", days=40)
    told.secret("replaced", days=400)
    told.secret("deleted", days=40)
    told.core.broker.deletions.delete(told.caller, told.vault, Kind.SECRET, "deleted")
    told.core.broker.secrets.set(told.caller, told.vault, "endless", "x", Changes())

    assert [] == told.on_day(50)


def test_the_index_of_what_expires_is_used(told: Told) -> None:
    from certbroker.store.objects import _EXPIRING

    cursor = told.core.broker.store.glance().objects._cursor
    _EXPIRING.all(cursor, after=0, until=1)
    plan = cursor.execute(f"EXPLAIN QUERY PLAN {_EXPIRING._sql}", (0, 1)).fetchall()

    assert any("versions_expiring" in row[3] for row in plan), plan
