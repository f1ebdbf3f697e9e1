"""The demo as a person sees it: run, read, pasted from, and ended."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.peers import require_pebble

pytestmark = pytest.mark.xdist_group("demo")

_COMMAND = [sys.executable, "-m", "certbroker", "demo"]
_NAMES = ("self-signed", "carried-out", "acme-http", "acme-dns", "from-pfx", "from-pem")


def _environment(temporary: Path, **more: str) -> dict[str, str]:
    temporary.mkdir()
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "CERTBROKER_"))}
    return mine | {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"} | more


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a demo prints that ends by itself. It leaves nothing."""
    require_pebble()
    temporary = tmp_path_factory.mktemp("demo") / "with a space"

    done = subprocess.run(
        _COMMAND, env=_environment(temporary, DEMO_EXIT="1"), capture_output=True, text=True, timeout=120, check=False
    )

    assert (0, "") == (done.returncode, done.stderr), done.stdout + done.stderr
    assert [] == list(temporary.iterdir())
    return done.stdout


def test_every_route_is_walked(walked: str) -> None:
    assert "6 certificates in " in walked
    assert "failed" not in walked
    for number, name in enumerate(_NAMES, 1):
        assert re.search(rf"^{number}  ", walked, re.MULTILINE)
        assert re.search(rf"^{name} .* [0-9A-F]{{8}}… +\d+\.\d\d s$", walked, re.MULTILINE), name
    assert re.search(r"found +The certificate was revoked .* \(keyCompromise\), says http://127\.0\.0\.1:", walked)
    replaced = re.search(r"replaced +([0-9A-F]{8})… by ([0-9A-F]{8})…", walked)
    assert replaced is not None
    assert replaced[1] != replaced[2]
    assert 6 == len(re.findall(r"^ +thumbprint +[0-9A-F]{40}", walked, re.MULTILINE))
    assert "The CA is validating" in walked


def test_what_it_prints_can_be_pasted_and_a_signal_ends_it_all(tmp_path: Path) -> None:
    require_pebble()
    output = tmp_path / "output"
    with output.open("wb") as file:
        demo = subprocess.Popen(_COMMAND, env=_environment(tmp_path / "tmp"), stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 120
        while "Ctrl-C stops" not in output.read_text() and demo.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        children = psutil.Process(demo.pid).children(recursive=True)
        said = output.read_text()
        assert 3 <= len(children), said

        source = re.search(r"^set -a; .*", said, re.MULTILINE)
        assert source is not None, said
        assert "acme-http" in _paste(source[0], _part(said, "Azure SDK for Python"))
        assert '"value":[' in _paste(source[0], _part(said, "curl"))
        assert "intranet.shop.example" in _paste(source[0], _part(said, "its own command line"))
        if shutil.which("az"):  # A large thing to install, so it is tried where it is.
            settings = f"export AZURE_CONFIG_DIR={tmp_path}/az"
            assert "intranet.shop.example" in _paste(f"{settings}\n{source[0]}", _part(said, "Azure CLI"))
    finally:
        demo.send_signal(signal.SIGTERM)
        status = demo.wait(timeout=60)

    assert 128 + signal.SIGTERM == status
    assert [] == [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert [] == list((tmp_path / "tmp").iterdir())


def test_without_a_checkout_it_says_what_is_missing() -> None:
    code = "import sys; sys.modules['pebble'] = None; sys.argv = ['certbroker', 'demo']; import certbroker.__main__"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert 2 == done.returncode
    assert "only in a checkout" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_readme_shows_what_is_printed(walked: str) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    shown = re.search(r"<!-- demo -->\n```text\n(.*?)```", readme, re.DOTALL)
    assert shown is not None
    printed = {_shape(line) for line in walked.splitlines()}

    assert [] == [line for line in shown[1].splitlines() if _shape(line) not in printed]


def _shape(line: str) -> str:
    """A line without what differs from run to run: digits, and how wide that makes the columns."""
    return " ".join(re.sub(r"[0-9A-Fa-f]{6,}|[0-9]+", "#", line).split())


def _part(said: str, title: str) -> str:
    """The lines below a title, up to the empty line before the next."""
    _, _, rest = said.partition(f"# {title}\n")
    return re.split(r"\n\n(?=# |Ctrl-C)", rest)[0]


def _paste(source: str, lines: str) -> str:
    """What a shell prints when these lines are pasted into it."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{source}\n{lines}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout
