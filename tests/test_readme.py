"""What the documentation says can be run is run, and what it lists is there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.main import get_group

from certbroker.cli.groups import GROUPS
from certbroker.web.akv.routes import Route, Router
from certbroker.web.akv.vault import MODULES
from tests.support.broker import DevBroker

pytestmark = pytest.mark.xdist_group("readme")

_ROOT = Path(__file__).resolve().parents[1]
_PAGES = [
    *(_ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((_ROOT / "docs").rglob("*.md")),
]
_FUNCTION = 'certbroker() { .venv/bin/python -m certbroker "$@"; }\n'

# What a reader has or makes by other means than a command of ours.
_CA = """
import sys
from pathlib import Path
from certbroker.cli.demo.outside_ca import OutsideCA
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
ca = OutsideCA()
match sys.argv[1:]:
    case ["sign", request, answer]:
        csr = x509.load_pem_x509_csr(Path(request).read_bytes()).public_bytes(Encoding.DER)
        chain = [x509.load_der_x509_certificate(each) for each in ca.sign(csr)]
        Path(answer).write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain))
    case ["import"]:
        Path("build/mail.pfx").write_bytes(ca.pfx("mail.example.com", "sesame"))
        Path("build/password").write_text("sesame\\n")
        Path("build/vpn.pem").write_bytes(ca.pem("vpn.example.com"))
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevBroker]:
    with DevBroker(tmp_path_factory.mktemp("docs") / "broker") as running:
        yield running


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory in which the commands find what they name, and leave nothing in the real one."""
    (tmp_path / "build").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "ca.py").write_text(_CA)
    return tmp_path


def test_the_readme_can_be_followed(checkout: Path) -> None:
    script = _script(_ROOT / "README.md")
    # Port 8443 may be taken here.
    assert " --env-file build/dev.env &" in script

    printed = _run(script.replace(" --env-file", " --port 0 --env-file"), checkout, os.environ.copy())

    assert printed.startswith("correct horse\n")
    assert 2 == printed.count("correct horse\n")
    assert "CN=www.example.com" in printed
    assert b"BEGIN CERTIFICATE" in (checkout / "build" / "web.pem").read_bytes()


@pytest.mark.parametrize(
    "page", ["keys", "self-signed", "csr-and-merge", "import", "private-ca", "connect-azure-sdk-and-cli"]
)
def test_the_how_to_pages_can_be_followed(broker: DevBroker, checkout: Path, page: str) -> None:
    script = _script(_ROOT / "docs" / "how-to" / f"{page}.md")

    assert script
    _run(_FUNCTION + script, checkout, broker.client_environment())


def test_the_make_targets_exist() -> None:
    makefile = (_ROOT / "Makefile").read_text()
    named = {
        target
        for page in _PAGES
        for block in _blocks(page.read_text(), "sh")
        for target in re.findall(r"^make ([a-z]+)", block, re.MULTILINE)
    }

    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(_ROOT)}: {link}"
        for page in _PAGES
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text())
        if "://" not in link and not (page.parent / link).exists()
    ]

    assert [] == broken


def test_every_page_can_be_found() -> None:
    index = (_ROOT / "docs" / "index.md").read_text() + (_ROOT / "docs" / "decisions" / "README.md").read_text()

    for page in (_ROOT / "docs").rglob("*.md"):
        assert page.name == "index.md" or page.name in index, page.name


def test_the_reference_lists_the_commands_that_there_are() -> None:
    text = (_ROOT / "docs" / "reference" / "cli.md").read_text()
    listed = {
        group: re.findall(r"`([a-z -]+)`", names)
        for group, names in re.findall(r"^\| `([a-z]+)` \| ((?:`[a-z -]+`(?:, )?)+)", text, re.MULTILINE)
    }

    assert {group: sorted(_commands(import_module(f"certbroker.cli.{module}").app))
            for group, (module, _) in GROUPS.items()} == {
        group: sorted(names) for group, names in listed.items()
    }  # fmt: skip


def test_the_reference_lists_the_operations_that_are_served() -> None:
    text = (_ROOT / "docs" / "reference" / "wire.md").read_text()
    listed = {
        name
        for names in re.findall(r"^\| ((?:[A-Z][A-Za-z]+(?:, )?)+) \| `", text, re.MULTILINE)
        for name in names.split(", ")
    }

    assert _operations() == listed


def test_the_exit_codes_are_documented() -> None:
    from certbroker.cli.client import ExitCode

    text = (_ROOT / "docs" / "reference" / "cli.md").read_text()

    assert [str(int(code)) for code in ExitCode] == re.findall(r"^\| (\d) \|", text, re.MULTILINE)


def _script(page: Path) -> str:
    """The blocks of a page that are marked to be run, as one script."""
    parts = []
    pattern = r"<!-- (run|sign|import)([^>]*) -->\n```sh\n(.*?)```"
    for kind, arguments, block in re.findall(pattern, page.read_text(), re.DOTALL):
        if kind != "run":
            parts.append(f".venv/bin/python ca.py {kind}{arguments}\n")
        parts.append(block)
    return "".join(parts)


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def _run(script: str, directory: Path, environment: dict[str, str]) -> str:
    """What a shell prints that stops at the first failure. Whatever it left running is ended."""
    # Files, because a broker in the background keeps a pipe open for longer than we wait.
    with (directory / "out").open("wb") as out, (directory / "err").open("wb") as err:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=directory,
            env=environment | {"PYTHONPATH": str(_ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    try:
        status = shell.wait(timeout=90)
    finally:
        if _alive(shell.pid):
            os.killpg(shell.pid, signal.SIGTERM)
    printed = (directory / "out").read_text()
    assert 0 == status, (directory / "err").read_text() + printed
    return printed


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _commands(app: typer.Typer, prefix: str = "") -> Iterator[str]:
    for name, command in get_group(app).commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield prefix + name
        else:
            yield from (f"{prefix}{name} {each}" for each in inner)


def _operations() -> set[str]:
    found: set[str] = set()

    class Recording(Router):
        def add(self, method: str, pattern: str, route: Route) -> None:
            found.add(route.operation)

    for module in MODULES:
        module.register(Recording())
    return found


def test_what_is_said_of_known_failures_is_tested() -> None:
    """Each row of the page names tests, and all of them exist."""
    text = (_ROOT / "docs" / "explanation" / "known-failures.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| **")]
    named = [re.findall(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`", row) for row in rows]

    assert len(rows) > 10
    assert all(named)
    assert [] == [
        f"{path}::{test}"
        for path, test in (each for row in named for each in row)
        if not (_ROOT / path).exists() or f"def {test}(" not in (_ROOT / path).read_text()
    ]
