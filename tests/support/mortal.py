"""A broker that dies at a named point, and what must be true after it was started again."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

from pebble.launcher import Pebble
from tests.support.broker import DevBroker
from tests.support.issued import issued_for
from tests.support.wire import Wire, creation, until
from tests.support.zygote import Zygote


class Mortal:
    """A broker that is told at which point to die."""

    def __init__(self, directory: Path, pebble: Pebble, zygote: Zygote) -> None:
        trust = [pebble.ca_path]
        self.broker = DevBroker(directory, http01_port=pebble.http_port, trust=trust, launch=zygote.launch)
        self.wire = Wire(self.broker)
        self.environment: dict[str, str] = {}

    def start(self, point: str | None = None, count: int = 1) -> None:
        """Live from now on, up to a point."""
        self.broker.kill_if_running()
        armed = {} if point is None else {"CERTBROKER_FAILPOINT": f"{point}:{count}:kill"}
        self.broker.environment = self.environment | armed
        self.broker.start()

    @property
    def is_dead(self) -> bool:
        status = self.broker.process.poll()
        assert status in (None, -signal.SIGKILL), self.broker.log()
        return status is not None

    def await_death(self) -> None:
        until("the broker died", lambda: self.is_dead or None)


def kill_during_issuance(mortal: Mortal, pebble: Pebble, point: str, count: int) -> None:
    """Die at the point on the way of a certificate, live again, and have exactly one."""
    name = f"{point}-{count}".replace(".", "-")
    host, issuer = f"{name}.example.org", f"ca-{name}"
    mortal.start(point, count)
    mortal.wire.set_acme_issuer(issuer, pebble.directory_url)

    acknowledged = mortal.wire.try_to("POST", f"/certificates/{name}/create", creation(issuer, host))
    mortal.await_death()
    mortal.start()

    assert acknowledged is None or acknowledged.status_code == 202
    assert_one_certificate(mortal, pebble, name, host)


def assert_one_certificate(mortal: Mortal, pebble: Pebble, name: str, host: str) -> None:
    """The certificate is complete, it is the only one that the CA has issued for the name, and the only version."""
    operation: Mapping[str, str] = mortal.wire.completed(name)
    stored = mortal.wire.stored(name)

    assert [stored.certificate.serial_number] == issued_for(pebble, host)
    assert stored.certificate == stored.in_secret
    assert stored.certificate.public_key() == stored.key
    assert 1 == len(mortal.wire.versions(name))
    assert operation["target"].endswith(f"/certificates/{name}")
