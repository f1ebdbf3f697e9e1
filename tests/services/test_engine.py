"""The engine as a whole: what goes wrong in one of its parts stops no other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.keys import KeySpec
from certbroker.domain.lifecycle import Health
from certbroker.domain.objects import Changes, Vault
from certbroker.domain.policy import CertificatePolicy
from certbroker.engine.scheduler import Engine
from tests.support.wire import until

POLICY = CertificatePolicy(KeySpec("EC"), subject="CN=www.example.com", issuer="Self")


def test_a_chore_that_fails_or_hangs_silences_nothing_else(core: Core, caller: Caller, vault: Vault) -> None:
    done, release = threading.Event(), threading.Event()

    def fail() -> None:
        raise RuntimeError("a bug")

    def hang() -> None:
        done.set()
        release.wait(60)

    with _running(core, fail, hang):
        assert done.wait(20)
        core.broker.certificates.create(caller, vault, "c", lambda stored: POLICY, Changes())
        # Issued, and looked at some seconds later, while the chore still hangs.
        until("looked after", lambda: _health(core, vault) is Health.HEALTHY or None)
        release.set()


def test_a_start_makes_due_what_a_dead_process_was_looking_at(core: Core, caller: Caller, vault: Vault) -> None:
    store, now = core.broker.store, datetime.now(UTC)
    store.write(lambda transaction: transaction.lifecycles.disturb(vault.id, "c", now))
    claimed = core.broker.renewals.claim(10)
    hidden = core.broker.renewals.next_due()
    store.write(lambda transaction: transaction.lifecycles.release(datetime.now(UTC), timedelta(minutes=2)))

    assert 1 == len(claimed)
    assert hidden is not None
    assert hidden > now + timedelta(minutes=1)
    assert 1 == len(core.broker.renewals.claim(10))


def _health(core: Core, vault: Vault) -> Health | None:
    care = core.broker.store.glance().lifecycles.get(vault.id, "c")
    return None if care is None else care.lifecycle.health


class _running:  # noqa: N801  # Reads as a phrase where it is used.
    """The engine with these chores."""

    def __init__(self, core: Core, *chores: Callable[[], None]) -> None:
        self._engine = Engine(core.broker, core.inbox, chores)

    def __enter__(self) -> None:
        self._engine.start()

    def __exit__(self, *_: object) -> None:
        self._engine.stop()
