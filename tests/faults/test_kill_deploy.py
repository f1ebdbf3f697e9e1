"""A broker that renews, deploys, has a real server reload, and proves it; also when it is killed on the way."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.support.broker import DevBroker
from tests.support.command_line import CommandLine
from tests.support.failpoints import DEPLOY
from tests.support.memory_broker import self_signed_policy
from tests.support.wire import Wire, until
from tests.support.zygote import Zygote

_ROOT = Path(__file__).resolve().parents[2]
# Tells the server to reload, if there is one; fails while the file that is named first is there.
_RELOAD = """
import os, sys
broken, server = sys.argv[1:]
if os.path.exists(broken):
    sys.exit(7)
if os.path.exists(server):
    os.kill(int(open(server).read().split()[1]), 1)
"""


class Site:
    """A broker that deploys the certificate `www`, and a server that uses it."""

    def __init__(self, folder: Path, zygote: Zygote) -> None:
        self.live, self.note, self.broken = folder / "live" / "www", folder / "server", folder / "broken"
        command = (sys.executable, "-I", "-c", _RELOAD, str(self.broken), str(self.note))
        self.deployment = {
            "CERTBROKER_DEPLOY__WWW__CERTIFICATE": "demo/www",
            "CERTBROKER_DEPLOY__WWW__DIRECTORY": str(self.live),
            "CERTBROKER_DEPLOY__WWW__COMMAND": json.dumps(command),
        }
        self.broker = DevBroker(folder / "broker", launch=zygote.launch, environment=self.deployment)
        self.wire = Wire(self.broker)
        self.server: subprocess.Popen[bytes] | None = None

    def start_server(self) -> int:
        """Have the server serve what is deployed; return its port."""
        command = [sys.executable, "-m", "tests.support.reloading_server", str(self.live), str(self.note)]
        self.server = subprocess.Popen(command, cwd=_ROOT)
        until("the server listens", lambda: self.note.exists() or None)
        return int(self.note.read_text().split()[0])

    def restart(self, failpoint: str = "") -> None:
        self.broker.kill_if_running()
        self.broker.environment = self.deployment | ({"CERTBROKER_FAILPOINT": failpoint} if failpoint else {})
        self.broker.start()

    def renew(self) -> None:
        self.wire.try_to("POST", "/certificates/www/create", {"policy": self_signed_policy()})

    def current(self) -> bytes:
        """The SHA-256 of the version in use."""
        view = self.wire.ok("GET", "/certificates/www/")
        return x509.load_der_x509_certificate(base64.b64decode(view["cer"])).fingerprint(hashes.SHA256())

    def deployed(self) -> bytes:
        """The SHA-256 of what is deployed, which must be whole."""
        chain = x509.load_pem_x509_certificate((self.live / "fullchain.pem").read_bytes())
        key = load_pem_private_key((self.live / "privkey.pem").read_bytes(), None)
        assert chain.public_key() == key.public_key()
        return chain.fingerprint(hashes.SHA256())

    def endpoint(self) -> Any:
        (found,) = self.wire.ok("GET", "/certificates/www/endpoints")["value"]
        return found

    def serves_current(self) -> bool | None:
        """True once the endpoint was seen to serve the version in use."""
        found = self.endpoint()
        return (found["state"] == "Serving" and found["seen"][0]["sha256"] == self.current().hex()) or None

    def close(self) -> None:
        self.broker.stop()
        if self.server is not None:
            self.server.kill()
            self.server.wait()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("deploy"), zygote)
    site.broker.start()
    site.wire.ok("POST", "/certificates/www/create", {"policy": self_signed_policy()})
    site.wire.completed("www")
    until("it is deployed", lambda: (site.live / "privkey.pem").exists() or None)
    port = site.start_server()
    site.wire.ok(
        "POST", "/certificates/www/endpoints", {"endpoint": f"127.0.0.1:{port}", "server_name": "www.example.com"}
    )
    until("it is served", site.serves_current)
    yield site
    site.close()


def test_what_is_renewed_is_deployed_loaded_and_seen_to_be_served(site: Site) -> None:
    before = site.current()
    site.renew()
    site.wire.completed("www")
    until("the new one is served", site.serves_current)

    assert before != site.current()
    assert site.current() == site.deployed()


def test_a_hook_that_fails_is_tried_again_and_meanwhile_the_old_one_is_seen(site: Site) -> None:
    site.broken.touch()
    before = site.current()
    site.renew()
    site.wire.completed("www")
    found = until("the old one is seen", lambda: ((e := site.endpoint())["state"] == "ServingOld" and e) or None)
    certbroker = CommandLine(site.broker)
    status = json.loads(certbroker("status", "-o", "json").out)
    shown = certbroker.ok("certificate", "endpoint", "list", "www").out
    site.broken.unlink()
    site.restart()
    until("the new one is served", site.serves_current)

    assert before.hex() == found["seen"][0]["sha256"]
    assert "ServingOld" in shown
    (deployment,) = (each for each in status["failing"] if each["what"] == "deployment")
    assert ("www of www", "Failing") == (deployment["name"], deployment["state"])
    assert "ended with status 7" in deployment["reason"]
    assert ["endpoint"] == [each["what"] for each in status["failing"] if each["state"] == "ServingOld"]


@pytest.mark.parametrize("point", DEPLOY)
def test_a_broker_killed_on_the_way_deploys_the_version_in_use_after_its_start(site: Site, point: str) -> None:
    site.restart(f"{point}:1:kill")
    site.renew()
    until("the broker died", site.broker.process.poll)
    whole = site.deployed()
    site.restart()
    site.wire.completed("www")
    until("the version in use is served", site.serves_current)

    assert whole
    assert site.current() == site.deployed()
