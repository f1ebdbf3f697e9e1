"""`certbroker sync` keeps files as they are in the vault, asks for nothing twice, and leaves what is there alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import DevBroker
from tests.support.command_line import CommandLine, Done
from tests.support.memory_broker import self_signed_policy
from tests.support.wire import Wire, until

_ROOT = Path(__file__).resolve().parents[2]
# Notes that it ran, and fails while there is a file named `broken` beside its notes.
_HOOK = """
import os, sys
if os.path.exists(sys.argv[1] + ".broken"):
    sys.exit(9)
open(sys.argv[1], "a").write(os.environ["CERTBROKER_VERSION"] + "\\n")
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevBroker]:
    with DevBroker(tmp_path_factory.mktemp("sync") / "broker") as broker:
        yield broker


@pytest.fixture(scope="module")
def wire(broker: DevBroker) -> Wire:
    wire = Wire(broker)
    renew(wire)
    return wire


@pytest.fixture(scope="module")
def certbroker(broker: DevBroker) -> CommandLine:
    return CommandLine(broker)


def renew(wire: Wire) -> str:
    """A new version."""
    wire.ok("POST", "/certificates/www/create", {"policy": self_signed_policy()})
    wire.completed("www")
    return str(wire.ok("GET", "/certificates/www/")["id"].rpartition("/")[2])


class Host:
    """A machine that the certificate is kept on."""

    def __init__(self, certbroker: CommandLine, folder: Path, *options: str) -> None:
        self.certbroker, self.live, self.ran = certbroker, folder / "live.example.com", folder / "ran"
        self.broken = folder / "ran.broken"
        script = folder / "hook.py"
        script.write_text(_HOOK)
        hook = f"{sys.executable} -I {script} {self.ran}"
        self.arguments = ("sync", "-c", "www", "--directory", str(self.live), "--hook", hook, *options)

    def sync(self, **env: str) -> Done:
        return self.certbroker(*self.arguments, env=env)

    def versions(self) -> list[str]:
        """Those that the hook ran for."""
        return self.ran.read_text().split() if self.ran.exists() else []


@pytest.fixture
def host(certbroker: CommandLine, wire: Wire, tmp_path: Path) -> Host:
    return Host(certbroker, tmp_path)


def test_what_is_new_is_written_once_and_what_is_not_is_not_asked_for_again(
    certbroker: CommandLine, wire: Wire, host: Host
) -> None:
    first = str(wire.ok("GET", "/certificates/www/")["id"].rpartition("/")[2])
    done = host.sync()
    again = host.sync()
    second = renew(wire)
    third = host.sync()

    assert (0, 0, 0) == (done.status, again.status, third.status), done.err
    assert f"version {first}" in done.err
    assert "" == again.err
    assert [first, second] == host.versions()
    assert (host.live / "fullchain.pem").read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE KEY" in (host.live / "privkey.pem").read_text()
    assert 0o600 == (host.live / ".sync").stat().st_mode & 0o777


def test_a_hook_that_fails_is_run_again_the_next_time(host: Host) -> None:
    host.broken.touch()
    failed, again = host.sync(), host.sync()
    host.broken.unlink()
    done, quiet = host.sync(), host.sync()

    assert (1, 1, 0, 0) == (failed.status, again.status, done.status, quiet.status)
    assert "ended with status 9" in failed.err
    assert 1 == len(host.versions())


def test_what_was_removed_or_altered_here_is_put_right(wire: Wire, host: Host) -> None:
    host.sync()
    key = (host.live / "privkey.pem").read_text()
    (host.live / "privkey.pem").resolve().unlink()
    done = host.sync()

    assert 0 == done.status
    assert key == (host.live / "privkey.pem").read_text()
    assert 2 == len(host.versions())


def test_a_tag_that_changes_with_the_tags_runs_nothing(wire: Wire, host: Host) -> None:
    host.sync()
    wire.ok("PATCH", "/certificates/www/", {"tags": {"changed": str(time.monotonic())}})
    done = host.sync()

    assert 0 == done.status
    assert 1 == len(host.versions())


def test_other_options_do_it_all_again(certbroker: CommandLine, wire: Wire, tmp_path: Path) -> None:
    Host(certbroker, tmp_path).sync()
    host = Host(certbroker, tmp_path, "--mode", "0640")
    host.sync()

    assert 2 == len(host.versions())
    assert 0o640 == (host.live / "privkey.pem").stat().st_mode & 0o777


def test_one_file_for_haproxy_and_a_token_from_a_file(certbroker: CommandLine, wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(wire.token() + "\n")
    (tmp_path / "secret").write_text(certbroker.broker.env["AZURE_CLIENT_SECRET"] + "\n")
    command = ("sync", "-c", "www", "--combined", str(tmp_path / "www.pem"), "--pfx", str(tmp_path / "www.pfx"))
    nobody = {"AZURE_CLIENT_ID": "", "AZURE_CLIENT_SECRET": ""}
    done = certbroker(*command, "--token-file", str(tmp_path / "token"), env=nobody)
    again = certbroker(*command, env={"AZURE_CLIENT_SECRET": "", "AZURE_CLIENT_SECRET_FILE": str(tmp_path / "secret")})

    assert (0, 0) == (done.status, again.status), done.err + again.err
    assert {".www.pem.sync", "www.pem", "www.pfx", "token", "secret"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (("-c", "nothing", "-d", "/tmp/x"), 5, "not found"),
        (("-c", "www"), 2, "Where to?"),
        (("-c", "www", "-d", "/tmp/x", "--mode", "0644"), 2, "others could read"),
        (("-c", "www", "-d", "/tmp/x", "--hook", "reload"), 2, "absolute path of a program"),
        (("-c", "www", "-d", "/tmp/x", "--reload", "apache"), 2, "reload is nginx"),
        (("-c", "www", "-d", "/tmp/x", "--every", "soon"), 2, "no time such as"),
        (("-c", "www", "-d", "/tmp/x", "--token-file", "/nowhere"), 2, "cannot be read"),
        (("-c", "plain", "-d", "/tmp/x"), 1, "only for the secret of a certificate"),
        (("-c", "kept", "-d", "/tmp/x"), 1, "set exportable in its policy"),
    ],
)
def test_what_cannot_be_done_says_so_and_has_a_code(
    certbroker: CommandLine, wire: Wire, options: tuple[str, ...], status: int, says: str
) -> None:
    if "plain" in options:
        wire.ok("PUT", "/secrets/plain", {"value": "v"})
    if "kept" in options:
        key = {"kty": "EC", "crv": "P-256", "exportable": False}
        wire.ok("POST", "/certificates/kept/create", {"policy": self_signed_policy(key_props=key)})
        wire.completed("kept")
    done = certbroker("sync", *options)

    assert (status, True) == (done.status, says in done.err), done.err


def test_a_broker_that_is_away_changes_nothing_and_is_asked_again(
    broker: DevBroker, wire: Wire, host: Host, tmp_path: Path
) -> None:
    host.sync()
    key = (host.live / "privkey.pem").read_text()
    broker.stop()
    away = host.sync()
    log = tmp_path / "log"
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", "certbroker", *host.arguments, "--every", "5s"],
            cwd=_ROOT,
            env=broker.client_environment(),
            stdout=output,
            stderr=output,
        )
    try:
        until("it has failed once", lambda: "It is tried again" in log.read_text() or None)
        broker.start()
        version = renew(wire)
        until("it has the new version", lambda: version in host.versions() or None)
    finally:
        running.kill()
        running.wait()

    assert 3 == away.status
    assert key != (host.live / "privkey.pem").read_text()
    assert 2 == len(host.versions())
