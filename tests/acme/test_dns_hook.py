"""dns-01 by the operator's own command."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from certbroker.ports.issuer import IssuerUnavailable
from issuers.acme.dns_hook import DNSHook, DNSHookPublisher
from pebble.launcher import Pebble
from tests.support.acme_ports import MemoryJournal, Surroundings, drive, issued, names_in, request_for

pytestmark = pytest.mark.xdist_group("acme-dns")

# Tells pebble-challtestsrv; the management interface's URL is in its environment.
HOOK = """
import json, os, urllib.request
name, value = os.environ["CERTBROKER_DNS_NAME"], os.environ["CERTBROKER_DNS_VALUE"]
assert name == "_acme-challenge." + os.environ["CERTBOT_DOMAIN"] and value == os.environ["CERTBOT_VALIDATION"]
publish = os.environ["CERTBROKER_DNS_ACTION"] == "publish"
body = {"host": name + "."} | ({"value": value} if publish else {})
url = os.environ["DNS_API"] + ("/set-txt" if publish else "/clear-txt")
urllib.request.urlopen(url, json.dumps(body).encode()).close()
"""


def hook(script: str, *, timeout: float = 20.0, **environment: str) -> DNSHookPublisher:
    return DNSHookPublisher(DNSHook((sys.executable, "-I", "-c", script), environment, timeout))


def test_a_wildcard_by_a_hook(pebble: Pebble, ca: Surroundings) -> None:
    ca.dns["hook"] = hook(HOOK, DNS_API=f"http://127.0.0.1:{pebble.dns.http.port}")

    request = request_for("*.hook.example.org")
    leaf, *_ = issued(drive(ca.issuer("challenge=dns-01;dns=hook"), request, MemoryJournal()))

    assert {"*.hook.example.org"} == names_in(leaf)


def test_the_command_gets_nothing_of_our_environment_but_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERTBROKER_SEAL_PASSPHRASE", "top secret")
    seen = tmp_path / "seen"
    publisher = hook("import json, os; json.dump(dict(os.environ), open(os.environ['SEEN'], 'w'))", SEEN=str(seen))

    publisher.withdraw("_acme-challenge.www.example.org", "value")

    environment: dict[str, Any] = json.loads(seen.read_text())
    assert "CERTBROKER_SEAL_PASSPHRASE" not in environment
    assert "withdraw" == environment["CERTBROKER_DNS_ACTION"]
    assert "www.example.org" == environment["CERTBOT_DOMAIN"]


def test_no_shell_reads_the_value(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    DNSHookPublisher(DNSHook((sys.executable, "-c", "pass"))).publish("$(touch mark)", f"`touch {mark}`; touch {mark}")

    assert not mark.exists()


def test_a_failure_shows_the_end_of_the_output_without_secrets() -> None:
    script = (
        "import os, sys\n"
        "print('x' * 1000000)\n"
        "print('token', os.environ['API_TOKEN'], 'value', os.environ['CERTBROKER_DNS_VALUE'], 'zone not found')\n"
        "sys.exit(3)"
    )

    with pytest.raises(IssuerUnavailable) as caught:
        hook(script, API_TOKEN="hunter2hunter2").publish("_acme-challenge.www.example.org", "the-value")

    message = caught.value.problem.message
    assert "ended with status 3" in message
    assert "zone not found" in message
    assert "hunter2" not in message
    assert "the-value" not in message
    assert len(message) < 700


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = f"import time; time.sleep(1.5); open({str(mark)!r}, 'w')"
    script = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    began = time.monotonic()

    with pytest.raises(IssuerUnavailable, match=r"did not end within 0\.5 seconds"):
        hook(script, timeout=0.5).publish("_acme-challenge.www.example.org", "value")

    assert time.monotonic() - began < 20
    time.sleep(max(0, 1.8 - (time.monotonic() - began)))
    assert not mark.exists()


def test_a_command_that_cannot_be_started_is_named() -> None:
    with pytest.raises(IssuerUnavailable, match="/nowhere/hook cannot be started"):
        DNSHookPublisher(DNSHook(("/nowhere/hook",))).publish("_acme-challenge.www.example.org", "value")


@pytest.mark.parametrize(("command", "timeout"), [((), 1.0), (("hook",), 1.0), (("/hook",), 0.0)])
def test_contradictory_configuration_is_refused(command: tuple[str, ...], timeout: float) -> None:
    with pytest.raises(ValueError):
        DNSHook(command, timeout=timeout)


def test_the_environment_is_not_in_a_repr() -> None:
    assert "hunter2" not in repr(DNSHook(("/hook",), {"TOKEN": "hunter2"}))
