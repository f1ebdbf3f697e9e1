"""Certificates that nobody has told of, from the command line: found on a real server, adopted, ignored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.broker import DevBroker
from tests.support.command_line import CommandLine


@pytest.fixture(scope="module")
def certbroker(broker: DevBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A broker that looks at another one, which serves a certificate that it has not made."""
    directory: Path = tmp_path_factory.mktemp("discovery")
    port = urlsplit(broker.env["CERTBROKER_ADMIN_URL"]).port
    look = {"CERTBROKER_DISCOVERY__HOSTS": f'["localhost:{port}", "127.0.0.1:1"]'}
    with DevBroker(directory / "broker", environment=look) as running:
        yield CommandLine(running)


def test_what_a_server_shows_is_found_and_adopted(certbroker: CommandLine) -> None:
    (found,) = unknown(certbroker)
    shown = certbroker.ok("discovery", "show", found["id"]).out
    listed = certbroker.ok("discovery", "list").out
    status = certbroker("status")
    adopted = certbroker.json("discovery", "adopt", found["id"], "--vault", "demo", "--issuer", "Self", "--as", "found")
    again = certbroker("discovery", "adopt", found["id"], "--vault", "demo", "--issuer", "Self")
    ignored = certbroker.json("discovery", "ignore", found["id"])

    assert "localhost" in found["names"]
    for part in ("unknown", "localhost", found["sha256"], "EC"):
        assert part in shown
    assert found["id"] in listed
    assert 6 == status.status
    assert "Certificates were seen that are in no vault: 1." in status.out
    assert ("adopted", "demo", "found") == (adopted["state"], adopted["vault"], adopted["name"])
    assert 1 == again.status
    assert "managed already" in again.err
    assert "ignored" == ignored["state"]
    assert "None." in certbroker.ok("discovery", "list").err
    assert 5 == certbroker("discovery", "show", "nothing").status
    assert 1 == certbroker("discovery", "list", "--state", "lost").status
    assert "looks now" in certbroker.ok("discovery", "scan").err
    assert "inventory" in certbroker.ok("discovery", "status").out


def unknown(certbroker: CommandLine) -> list[dict[str, Any]]:
    """What was seen and is in no vault, once there is something."""
    end = time.monotonic() + 60
    while True:
        found: list[dict[str, Any]] = certbroker.json("discovery", "list")
        if found or time.monotonic() > end:
            return found
        time.sleep(0.3)
