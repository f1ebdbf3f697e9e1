import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from sqlmodel import SQLModel

from certbroker import failpoints
from certbroker.app import Core
from certbroker.domain.errors import Conflict, Invalid, NotFound, Sealed
from certbroker.domain.objects import Attributes, Changes, Kind
from certbroker.domain.records import Version
from certbroker.keystore import seal_keys
from certbroker.services import seal_rotation
from certbroker.services.objects.vaults import BACKUP, SYSTEM
from tests.support.sealed_broker import (
    CALLER,
    SEALED_TABLES,
    fill,
    kek_ids,
    keks_in_use,
    open_broker,
    read_all,
)

NOTHING = timedelta(0)


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    opened = open_broker(tmp_path)
    fill(opened)
    yield opened
    opened.close()


@pytest.fixture
def before(tmp_path: Path) -> dict[str, object]:
    """What a broker holds that has been closed again."""
    opened = open_broker(tmp_path)
    fill(opened)
    values = read_all(opened)
    opened.close()
    return values


@contextmanager
def failing(name: str, count: int = 1) -> Iterator[None]:
    failpoints._armed.append(failpoints._Armed(f"{name}:{count}:raise"))
    yield
    failpoints._armed.clear()


def test_every_table_with_sealed_values_is_known_to_the_rotation() -> None:
    with_keks = {name for name, table in SQLModel.metadata.tables.items() if "kek" in table.columns}

    assert with_keks == SEALED_TABLES


def test_a_rotation_rewraps_every_value_and_destroys_the_old_keys(core: Core) -> None:
    before, old = read_all(core), kek_ids(core)
    in_use = keks_in_use(core)
    done = core.broker.rotation.rotate(CALLER, NOTHING)
    kept = {kek.id for kek in core.broker.store.glance().vaults.keks() if kek.vault_id == BACKUP}

    assert (4, 3, 0, 0) == (done.made, done.destroyed, done.waiting, done.unreadable)
    assert old & kek_ids(core) <= kept
    assert not in_use & keks_in_use(core)
    assert before == read_all(core)
    sealed = {"authorities", "channels", "operations", "issuers", "issuer_memory", "settings", "versions"}
    assert sealed == SEALED_TABLES


def test_values_open_after_a_rotation_and_a_restart(before: dict[str, object], tmp_path: Path) -> None:
    first = open_broker(tmp_path)
    first.broker.rotation.rotate(CALLER, NOTHING)
    first.close()
    again = open_broker(tmp_path)

    assert before == read_all(again)
    again.close()


def test_payloads_are_not_touched(core: Core, tmp_path: Path) -> None:
    def payloads() -> list[bytes]:
        with sqlite3.connect(tmp_path / "certbroker.db") as connection:
            return [row[0] for row in connection.execute("SELECT payload FROM versions ORDER BY name, version")]

    before = payloads()
    core.broker.rotation.rotate(CALLER, NOTHING)

    assert before == payloads()


def test_the_old_key_is_kept_as_long_as_somebody_may_be_using_it(core: Core) -> None:
    done = core.broker.rotation.rotate(CALLER)

    assert (0, 3) == (done.destroyed, done.waiting)
    core.broker.rotation.resume()
    assert 3 == core.broker.rotation.status().superseded
    core.broker.rotation.resume(NOTHING)
    assert 0 == core.broker.rotation.status().superseded


def test_a_value_that_was_closed_before_and_stored_after_is_rewrapped_later(core: Core) -> None:
    vault = core.broker.vaults.find("demo")
    late = seal_late(core, "late")
    core.broker.rotation.rotate(CALLER)
    late()
    core.broker.rotation.resume(NOTHING)

    assert "late value" == core.broker.secrets.reveal(vault, core.broker.secrets.find(vault, "late", ""))
    assert 0 == core.broker.rotation.status().superseded


def test_a_value_cannot_be_stored_under_a_key_that_has_been_destroyed(core: Core) -> None:
    late = seal_late(core, "later")
    core.broker.rotation.rotate(CALLER, NOTHING)

    with pytest.raises(sqlite3.IntegrityError):
        late()
    with pytest.raises(NotFound):
        core.broker.secrets.find(core.broker.vaults.find("demo"), "later", "")


def seal_late(core: Core, name: str) -> Callable[[], None]:
    """Closes a value now; what is returned stores it."""
    vault = core.broker.vaults.find("demo")
    version = Version(Kind.SECRET, name, "1" * 32, Attributes(1, 1, True))
    sealed = core.seal.close(version.identity(vault.id), f"{name} value".encode())
    closed = replace(version, sealed=sealed)
    return lambda: core.broker.store.write(lambda transaction: transaction.objects.add(vault.id, closed))


def test_a_key_in_use_cannot_be_deleted(core: Core) -> None:
    used = next(iter(keks_in_use(core)))

    assert not core.broker.store.write(lambda transaction: transaction.vaults.sealed_rows.retire(used))


def test_an_operation_in_hand_does_not_bring_back_the_old_wrapping(core: Core) -> None:
    vault = core.broker.vaults.find("demo")
    with core.broker.store.read() as transaction:
        operation = transaction.operations.pending(vault.id, "waiting")
    assert operation is not None
    core.broker.rotation.rotate(CALLER, NOTHING)
    core.broker.store.write(lambda transaction: transaction.operations.save(operation))

    read_all(core)


def test_a_value_that_does_not_open_is_left_with_its_key_and_stops_nothing_else(core: Core, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "certbroker.db") as connection:
        connection.execute("UPDATE versions SET dek = zeroblob(60) WHERE name = 's1'")
    done = core.broker.rotation.rotate(CALLER, NOTHING)
    vault = core.broker.vaults.find("demo")

    assert (1, 2, 1) == (done.unreadable, done.destroyed, done.waiting)
    assert "value of s2" == core.broker.secrets.reveal(vault, core.broker.secrets.find(vault, "s2", ""))


def test_many_values_are_rewrapped_in_small_transactions(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal_rotation, "_BATCH", 2)
    before = read_all(core)
    core.broker.rotation.rotate(CALLER, NOTHING)

    assert before == read_all(core)


def test_what_there_is_no_time_for_is_left_to_the_next_pass(core: Core) -> None:
    before = read_all(core)
    first = core.broker.rotation.rotate(CALLER, NOTHING, patience=0.0)
    assert (0, 1, 2) == (first.rewrapped, first.destroyed, first.waiting), "the empty vault's key can go at once"
    core.broker.rotation.resume(NOTHING)

    assert 0 == core.broker.rotation.status().superseded
    assert before == read_all(core)


def test_two_rotations_in_a_row_leave_one_key_for_each_vault(core: Core) -> None:
    core.broker.rotation.rotate(CALLER)
    core.broker.rotation.rotate(CALLER, NOTHING)
    vaults = [kek.vault_id for kek in core.broker.store.glance().vaults.keks() if kek.vault_id != BACKUP]

    assert sorted(set(vaults)) == sorted(vaults)


def test_one_rotation_runs_at_a_time(core: Core) -> None:
    with core.broker.rotation._running:
        with pytest.raises(Conflict):
            core.broker.rotation.rotate(CALLER)
        core.broker.rotation.resume()


@pytest.mark.parametrize(
    "point",
    [
        "seal.rotate.make:1",
        "seal.rotate.made:1",
        "seal.rotate.batch:1",
        "seal.rotate.batch:3",
        "seal.rotate.destroy:1",
        "seal.rotate.destroyed:1",
        "seal.rotate.destroy:3",
    ],
)
def test_a_rotation_that_breaks_off_anywhere_is_finished_later(
    core: Core, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    monkeypatch.setattr(seal_rotation, "_BATCH", 2)
    before, old = read_all(core), kek_ids(core)
    name, _, count = point.partition(":")
    with failing(name, int(count)), pytest.raises(OSError, match="failpoint"):
        core.broker.rotation.rotate(CALLER, NOTHING)
    assert before == read_all(core)
    core.broker.secrets.set(CALLER, core.broker.vaults.find("demo"), "between", "b", Changes())
    core.broker.rotation.rotate(CALLER, NOTHING)
    backups = {kek.id for kek in core.broker.store.glance().vaults.keks() if kek.vault_id == BACKUP}

    assert before | {"between": "b"} == read_all(core)
    assert not (old - backups) & kek_ids(core)


def test_a_backup_can_be_restored_after_rotations(core: Core) -> None:
    vault = core.broker.vaults.find("demo")
    blob = core.broker.backups.backup(CALLER, vault, Kind.SECRET, "s1")
    for _ in range(2):
        core.broker.rotation.rotate(CALLER, NOTHING)
    other = core.broker.vaults.find("empty")
    core.broker.backups.restore(CALLER, other, Kind.SECRET, blob)

    assert "value of s1" == core.broker.secrets.reveal(other, core.broker.secrets.find(other, "s1", ""))


@pytest.mark.parametrize("kek", [0, -1, 99, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_backup_under_a_key_that_never_was_is_refused(core: Core, kek: int) -> None:
    blob = b"CBB1" + msgspec.msgpack.encode((kek, b"", b""))

    with pytest.raises(Invalid, match="not a backup"):
        core.broker.backups.restore(CALLER, core.broker.vaults.find("demo"), Kind.SECRET, blob)


def test_the_keys_of_backups_are_kept_and_those_of_the_broker_are_not(core: Core) -> None:
    for _ in range(3):
        core.broker.rotation.rotate(CALLER, NOTHING)
    vaults = [kek.vault_id for kek in core.broker.store.glance().vaults.keks()]

    assert (4, 1) == (vaults.count(BACKUP), vaults.count(SYSTEM))


def test_readers_and_writers_go_on_during_rotations_and_lose_nothing(core: Core) -> None:
    vault = core.broker.vaults.find("demo")
    secrets, stop = core.broker.secrets, threading.Event()
    failures: list[BaseException] = []
    written: dict[str, str] = {}

    def until_stopped(work: Callable[[int], None]) -> Callable[[], None]:
        def run() -> None:
            count = 0
            try:
                while not stop.is_set():
                    work(count)
                    count += 1
            except BaseException as error:
                failures.append(error)

        return run

    def write(writer: int, count: int) -> None:
        name, value = f"w{writer}-{count % 20}", f"{writer} {count}"
        secrets.set(CALLER, vault, name, value, Changes())
        written[name] = value

    def read(count: int) -> None:
        name = f"s{count % 5}"
        assert f"value of {name}" == secrets.reveal(vault, secrets.find(vault, name, ""))

    works = [until_stopped(lambda count, writer=writer: write(writer, count)) for writer in range(3)]
    works += [until_stopped(read)] * 2
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    old = kek_ids(core)
    for _ in range(5):
        core.broker.rotation.rotate(CALLER)
    # Half a second is long for a thread that has closed a value and is about to store it.
    time.sleep(1.5)
    core.broker.rotation.resume(timedelta(seconds=1))
    time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join(30)

    assert [] == failures
    assert 0 == core.broker.rotation.status().superseded
    assert not {kek for kek in old if kek in keks_in_use(core)}
    assert len(written) > 10
    for name, value in written.items():
        assert value == secrets.reveal(vault, secrets.find(vault, name, ""))


def test_the_seal_key_is_changed_by_naming_the_previous_one(before: dict[str, object], tmp_path: Path) -> None:
    new = seal_keys.create_file(tmp_path / "new.key")
    with pytest.raises(Sealed, match=new.id):
        open_broker(tmp_path, file=tmp_path / "new.key")
    moved = open_broker(tmp_path, file=tmp_path / "new.key", previous={"file": tmp_path / "seal.key"})
    assert before == read_all(moved)
    moved.close()
    (tmp_path / "seal.key").unlink()
    alone = open_broker(tmp_path, file=tmp_path / "new.key")

    assert before == read_all(alone)
    assert {new.id} == {kek.seal_id for kek in alone.broker.store.glance().vaults.keks()}
    alone.close()


def test_a_change_of_seal_key_that_breaks_off_changes_nothing(before: dict[str, object], tmp_path: Path) -> None:
    seal_keys.create_file(tmp_path / "new.key")
    with failing("seal.reseal"), pytest.raises(OSError, match="failpoint"):
        open_broker(tmp_path, file=tmp_path / "new.key", previous={"file": tmp_path / "seal.key"})
    again = open_broker(tmp_path)

    assert before == read_all(again)
    again.close()


def test_rotations_are_on_record(core: Core, tmp_path: Path) -> None:
    core.broker.rotation.rotate(CALLER, NOTHING)
    with sqlite3.connect(tmp_path / "certbroker.db") as connection:
        records = [row[0] for row in connection.execute("SELECT record FROM audit")]

    assert 3 == sum(b'"SealKeyDestroy"' in record for record in records)
    assert any(b'"/seal"' in record for record in records)
