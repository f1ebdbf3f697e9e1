import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sealed_broker import fill, kek_ids, open_broker, read_all
from tests.support.serving import Installation

# More than two batches.
VERSIONS = 450


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


@pytest.fixture
def before(installation: Installation) -> dict[str, object]:
    core = open_broker(installation.data)
    fill(core, VERSIONS)
    values = read_all(core)
    core.close()
    return values


def state(installation: Installation) -> tuple[dict[str, object], set[int], int]:
    core = open_broker(installation.data)
    found = read_all(core), kek_ids(core), core.broker.rotation.status().superseded
    core.close()
    return found


@pytest.mark.parametrize("point", ["seal.rotate.made:1", "store.after-commit:3", "seal.rotate.destroy:2"])
def test_a_rotation_that_is_killed_goes_on_where_it_was(
    installation: Installation, before: dict[str, object], point: str
) -> None:
    command = ("seal", "rotate", "--config", str(installation.config))
    killed = installation.run(*command, CERTBROKER_FAILPOINT=f"{point}:kill")
    values, keks, left = state(installation)
    assert -signal.SIGKILL == killed.returncode
    assert before == values
    assert left or point.startswith("store"), "something was left to do"
    again = installation.run(*command)
    values, after, left = state(installation)

    assert 0 == again.returncode, again.stderr
    assert (before, 0) == (values, left)
    assert len(after & keks) <= 3, "only keys of backups are older than the rotation"


def test_a_running_broker_that_is_killed_while_rotating_goes_on_at_its_next_start(
    installation: Installation, before: dict[str, object]
) -> None:
    operator = installation.administrator()
    with installation.serve(CERTBROKER_FAILPOINT="seal.rotate.batch:2:kill") as broker:
        broker.wait("ok")
        asked = installation.run("seal", "rotate", **operator)
        assert -signal.SIGKILL == broker.process.wait(60)
        assert 0 != asked.returncode
    with installation.serve() as broker:
        broker.wait("ok")
        while "data keys rewrapped" not in broker.log.read_text():
            assert broker.process.poll() is None
        shown = installation.run("seal", "status", **operator)
        assert 0 == broker.stop()

    assert 0 == shown.returncode, shown.stderr
    assert before == state(installation)[0]


def test_a_running_broker_rotates_when_it_is_asked_to(installation: Installation, before: dict[str, object]) -> None:
    operator = installation.administrator()
    with installation.serve() as broker:
        broker.wait("ok")
        busy = installation.run("seal", "rotate", "--config", str(installation.config), **operator)
        asked = installation.run("seal", "rotate", **operator)
        assert 0 == broker.stop()

    assert 2 == busy.returncode
    assert "another broker is running" in busy.stderr
    assert 0 == asked.returncode, asked.stderr
    assert "4 new keys" in asked.stderr
    assert before == state(installation)[0]


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")
def test_the_memory_of_the_process_is_closed_to_others(installation: Installation) -> None:
    program = (
        "import ctypes, resource; from certbroker.hardening import harden; harden();"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    with installation.serve() as broker:
        broker.wait("ok")
        limits = Path(f"/proc/{broker.process.pid}/limits").read_text()

    assert "0 (0, 0)" == done.stdout.strip()
    assert ["0", "0"] == next(line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core"))
