import json
import socket
import ssl
import subprocess
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

import dns.resolver
import psutil
import pytest
from cryptography import x509

from pebble import Pebble, PebbleError
from pebble.binaries import PebbleBinaries
from tests.support import peers

pytestmark = pytest.mark.xdist_group("peers")  # One CA serves the whole file.


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    peers.require_pebble(recent=True)
    with Pebble(tmp_path_factory.mktemp("pebble"), alternate_roots=1, chain_length=2) as running:
        yield running


def fetch_directory(ca: Pebble) -> dict[str, object]:
    # Without a proxy from the environment: this never leaves the machine.
    tls = ssl.create_default_context(cafile=str(ca.ca_path))
    with build_opener(ProxyHandler({}), HTTPSHandler(context=tls)).open(ca.directory_url, timeout=10) as reply:
        directory: dict[str, object] = json.load(reply)
    return directory


def test_the_directory_is_reachable_by_a_client_that_trusts_ca_path(ca: Pebble) -> None:
    directory = fetch_directory(ca)

    assert {"newNonce", "newAccount", "newOrder", "renewalInfo"} <= directory.keys()
    assert ["default"] == list(directory["meta"]["profiles"])  # type: ignore[index] # JSON


def test_roots_and_intermediates_of_every_chain_can_be_downloaded(ca: Pebble) -> None:
    roots = [x509.load_pem_x509_certificate(ca.management.root(n)) for n in (0, 1)]
    intermediate = x509.load_pem_x509_certificate(ca.management.intermediate())

    assert roots[0] != roots[1]
    assert intermediate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_serial_number_that_was_not_issued_has_no_status(ca: Pebble) -> None:
    assert ca.management.certificate_status(0x1234) is None


@pytest.mark.parametrize("tcp", [False, True])
def test_dns_answers_what_it_was_told(ca: Pebble, tcp: bool) -> None:
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], ca.dns.dns_port
    name = f"_acme-challenge.tcp-{tcp}.example".lower()
    ca.dns.set_txt(name, "one")
    ca.dns.set_txt(f"{name}.", "two")

    values = {record.to_text() for record in resolver.resolve(name, "TXT", tcp=tcp)}

    assert {'"one"', '"two"'} == values
    assert ["127.0.0.1"] == [record.to_text() for record in resolver.resolve("any.example", "A", tcp=tcp)]
    assert 1 == len(ca.dns.queries(name))

    ca.dns.clear_queries(name)

    assert [] == ca.dns.queries(f"{name}.")

    ca.dns.clear_txt(name)
    ca.dns.set_servfail("broken.example")

    with pytest.raises(dns.resolver.NoAnswer):
        resolver.resolve(name, "TXT", tcp=tcp)
    with pytest.raises(dns.resolver.NoNameservers):
        resolver.resolve("broken.example", "A", tcp=tcp)


def test_both_processes_listen_on_the_loopback_interface_only(ca: Pebble) -> None:
    listening = {
        connection.laddr.ip
        for pid in ca.pids
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
    }

    assert {"127.0.0.1"} == listening


def test_stop_ends_the_processes_and_may_be_repeated(tmp_path: Path) -> None:
    peers.require_pebble()
    ca = Pebble(tmp_path / "a path with spaces").start()
    pids = ca.pids
    assert 2 == len(pids)

    ca.stop()
    ca.stop()

    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert () == ca.pids


def test_a_restart_forgets_everything_but_its_address(tmp_path: Path) -> None:
    peers.require_pebble()
    with Pebble(tmp_path) as ca:
        root, url, trusted = ca.management.root(), ca.directory_url, ca.ca_path.read_bytes()

        ca.restart()

        assert (url, trusted) == (ca.directory_url, ca.ca_path.read_bytes())
        assert root != ca.management.root()
        assert fetch_directory(ca)


def test_external_account_binding_is_announced_when_required(tmp_path: Path) -> None:
    peers.require_pebble()
    with Pebble(tmp_path, eab={"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}) as ca:
        assert fetch_directory(ca)["meta"]["externalAccountRequired"]  # type: ignore[index] # JSON


def test_a_binary_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho out of luck\nexit 3\n")
    broken.chmod(0o755)
    ca = Pebble(tmp_path / "work", binaries=PebbleBinaries(broken, broken, recent=True))

    with pytest.raises(PebbleError, match=r"(?s)status 3.*out of luck"):
        ca.start()

    assert () == ca.pids


def test_pebble_in_the_foreground_prints_where_it_is_and_ends_on_a_signal(tmp_path: Path) -> None:
    peers.require_pebble()
    command = [sys.executable, "-m", "pebble", "--workdir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = dict(line.split(maxsplit=1) for line in iter(process.stdout.readline, "Ctrl-C stops it.\n"))
        children = psutil.Process(process.pid).children()
        process.terminate()

    assert 0 == process.returncode
    assert lines["directory"].startswith("https://127.0.0.1:")
    assert 2 == len(children)
    assert not any(child.is_running() for child in children)


@pytest.mark.parametrize(("ci", "outcome"), [("true", peers.PeerMissingError), ("", unittest.SkipTest)])
def test_a_missing_peer_fails_on_ci_and_skips_elsewhere(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[Exception]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(peers, "find_pebble", lambda: None)
    monkeypatch.setattr(peers, "find_softhsm", lambda: None)
    monkeypatch.setattr(peers, "find_promtool", lambda: None)

    for require in (peers.require_pebble, peers.require_softhsm, peers.require_promtool):
        with pytest.raises(outcome, match="make peers"):
            require()
