"""A checkup tells of everything that the broker depends on whether it works, and what to do, within a limit of time."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.checkup import Checked, Grade
from certbroker.domain.errors import Conflict, Invalid, NotFound
from certbroker.domain.objects import Vault
from certbroker.notify.mail import try_out
from certbroker.services.health import doctor as doctors
from certbroker.services.health.doctor import Checkup, Doctor, Wanted
from certbroker.services.issuers.issuers import IssuerChanges
from certbroker.services.pki.authorities import NewAuthority
from certbroker.store import migrations
from certbroker.store.database import SQLiteStore
from tests.monitoring.conftest import Stopwatch
from tests.support.mail_sink import MailSink


def ended(doctor: Doctor, wanted: Wanted | None = None) -> dict[str, Checked]:
    checkup = doctor.start(wanted or Wanted())
    _wait(checkup)
    return {each.what: each for each in checkup.found}


def _wait(checkup: Checkup) -> None:
    deadline = time.monotonic() + 60
    while not checkup.done:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def acme(core: Core, caller: Caller, vault: Vault, name: str = "ca") -> None:
    options = "directory=https://127.0.0.1:1/directory"
    core.broker.issuers.set(caller, vault, name, IssuerChanges(provider="ACME", organization_id=options))


def test_a_broker_that_is_well_passes(core: Core) -> None:
    found = ended(core.broker.doctor)

    assert {"engine", "database", "seal", "mail", "disk", "revocation"} == set(found)
    assert {Grade.OK} == {each.grade for each in found.values()}


def test_an_engine_that_stands_still_is_found(core: Core, stopwatch: Stopwatch) -> None:
    stopwatch.seconds += 1000
    found = ended(core.broker.doctor)

    assert Grade.FAIL == found["engine"].grade


def test_the_ca_behind_an_issuer_is_looked_at(core: Core, caller: Caller, vault: Vault) -> None:
    for name, days in (("long", 3650), ("short", 100)):
        core.broker.authorities.create(caller, vault, name, NewAuthority(f"CN={name}", days=days))
    for name in ("long", "short", "nobody"):
        changes = IssuerChanges(provider="PrivateCA", organization_id=f"ca={name}")
        core.broker.issuers.set(caller, vault, name, changes)
    checkup = core.broker.doctor.start(Wanted())
    _wait(checkup)
    found = [each for each in checkup.found if each.what.startswith("issuer")]

    assert {
        ("long", Grade.OK, "signs, until"),
        ("long", Grade.WARN, "nothing is published"),
        ("short", Grade.WARN, "expires on"),
        ("short", Grade.WARN, "nothing is published"),
        ("nobody", Grade.FAIL, "no CA named 'nobody'"),
    } == {
        (each.what.split()[1], each.grade, part)
        for each in found
        for part in ("signs, until", "nothing is published", "expires on", "no CA named 'nobody'")
        if part in each.detail
    }


def test_a_damaged_database_is_found(tmp_path: Path) -> None:
    path = tmp_path / "certbroker.db"
    migrations.upgrade(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    store = SQLiteStore(path, "test")
    whole = store.quick_check(20)
    with path.open("r+b") as file:
        for page in range(3, 12):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    try:
        damaged = store.quick_check(20)
    except sqlite3.DatabaseError as error:
        damaged = str(error)
    store.close()

    assert "" == whole
    assert damaged


def test_a_database_that_is_too_large_to_check_is_no_failure(core: Core) -> None:
    assert core.broker.store.quick_check(-1) in ("", None)


@pytest.mark.parametrize("right", [True, False])
def test_the_mail_server_is_signed_in_at_and_gets_no_mail(core: Core, tmp_path: Path, right: bool) -> None:
    with MailSink(tmp_path) as sink:
        server = sink.server() if right else sink.server(password="wrong")
        core.broker.doctor._mail = partial(try_out, server)
        found = ended(core.broker.doctor)["mail"]

        assert (Grade.OK if right else Grade.FAIL) == found.grade
        assert [] == sink.mails
        if not right:
            assert "mail.password" in found.detail


def test_what_hangs_delays_nothing_and_is_told(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctors, "_CHECK", 0.3)
    released = threading.Event()
    core.broker.doctor._mail = lambda: (released.wait(30), None)[1]
    found = ended(core.broker.doctor)
    released.set()

    assert Grade.FAIL == found["mail"].grade
    assert "not done within" in found["mail"].detail
    assert Grade.OK == found["seal"].grade


def test_what_goes_wrong_unexpectedly_is_told_without_its_text(core: Core) -> None:
    def broken() -> None:
        raise RuntimeError("a secret")

    core.broker.doctor._mail = broken
    found = ended(core.broker.doctor)["mail"]

    assert (Grade.FAIL, "RuntimeError; the log has the details.") == (found.grade, found.detail)


def test_a_ca_that_is_away_is_found(core: Core, caller: Caller, vault: Vault) -> None:
    acme(core, caller, vault)
    found = ended(core.broker.doctor)["issuer ca of vault"]

    assert Grade.FAIL == found.grade
    assert found.advice


def test_an_issuer_is_found_by_its_name_in_whichever_vault_it_is(core: Core, caller: Caller, vault: Vault) -> None:
    acme(core, caller, vault)
    other = core.broker.vaults.create(caller, "other")
    acme(core, caller, other, "Only")

    assert "issuer Only of other" in ended(core.broker.doctor, Wanted(issuer="only"))
    acme(core, caller, other)
    with pytest.raises(Invalid, match="--vault"):
        core.broker.doctor.start(Wanted(issuer="ca"))
    assert "issuer ca of other" in ended(core.broker.doctor, Wanted(issuer="ca", vault="other"))


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (Wanted(issuer="nobody"), NotFound),
        (Wanted(names=("not a name",)), Invalid),
        (Wanted(names=("a.example",) * 21), Invalid),
        (Wanted(dry_run=True), Invalid),
        (Wanted(issuer="ca", dry_run=True), Invalid),
        (Wanted(issuer="ca", dry_run=True, names=("a.example",)), Invalid),
        (Wanted(issuer="ca", dry_run=True, names=("a.example",), directory="letsencrypt"), Invalid),
        (Wanted(issuer="ca", dry_run=True, names=("a.example",), directory="https://127.0.0.1:1/directory/"), Invalid),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    core: Core, caller: Caller, vault: Vault, wanted: Wanted, error: type[Exception]
) -> None:
    acme(core, caller, vault)

    with pytest.raises(error):
        core.broker.doctor.start(wanted)


def test_few_checkups_run_at_once_and_old_ones_are_forgotten(core: Core) -> None:
    released = threading.Event()
    core.broker.doctor._mail = lambda: (released.wait(30), None)[1]
    running = [core.broker.doctor.start(Wanted()) for _ in range(2)]
    with pytest.raises(Conflict):
        core.broker.doctor.start(Wanted())
    released.set()
    for each in running:
        _wait(each)
    for _ in range(16):
        _wait(core.broker.doctor.start(Wanted()))

    with pytest.raises(NotFound):
        core.broker.doctor.seen(running[0].id)


@pytest.mark.parametrize(
    ("ahead", "grade"), [(0, Grade.OK), (-4, Grade.OK), (20, Grade.WARN), (-20, Grade.WARN), (90, Grade.FAIL)]
)
def test_the_clock_is_compared_with_the_cas(ahead: int, grade: Grade) -> None:
    asked = datetime(2026, 3, 1, 12, 0, 0, 700_000, tzinfo=UTC)
    theirs = asked.replace(microsecond=0) + timedelta(seconds=ahead)
    judge: Callable[..., Checked] = doctors._skew

    assert grade == judge(asked, theirs, asked + timedelta(seconds=1), "https://ca.example").grade
