"""What a CA has revoked is found and replaced, also by a broker that dies on the way: nothing is lost or done twice."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from cryptography import x509

from pebble.launcher import Pebble
from tests.support.command_line import CommandLine
from tests.support.issued import issued_for
from tests.support.mortal import Mortal
from tests.support.peers import require_pebble
from tests.support.revocation import Publisher, pebble_crl
from tests.support.wire import creation, until
from tests.support.zygote import Zygote

# The first check of somebody who wants to know now comes before the list is fetched, the second after it.
POINTS = [
    ("watch.fetch.before", 1),
    ("watch.fetch.after-call", 1),
    ("watch.fetch.recorded", 1),
    ("watch.check.before", 2),
    ("watch.check.after", 2),
    ("watch.pass.before", 1),
    ("watch.pass.after", 1),
]
_ISSUER = "CN=Pebble Intermediate CA*"


@dataclass
class CA:
    """Pebble, and the CRL that its intermediate signs."""

    pebble: Pebble
    publisher: Publisher
    serials: list[int] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def publish(self) -> None:
        entries = [(serial, x509.ReasonFlags.key_compromise) for serial in self.serials]
        self.publisher.put("/pebble.crl", pebble_crl(self.pebble, *entries, number=next(self.numbers)))

    def revoke(self, serial: int) -> None:
        """Behind the back of the broker."""
        self.serials.append(serial)
        self.publish()


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """A CA that gives its key away, so that its CRLs can be made here."""
    binaries, folder = require_pebble(), tmp_path_factory.mktemp("pebble")
    with Pebble(folder, binaries=binaries, authz_reuse=0, retry_after=0, rsa=True) as running:
        yield running


@pytest.fixture(scope="module")
def ca(pebble: Pebble) -> Iterator[CA]:
    with Publisher() as publisher:
        ca = CA(pebble, publisher)
        ca.publish()
        yield ca


@pytest.fixture(scope="module")
def watchful(tmp_path_factory: pytest.TempPathFactory, ca: CA, zygote: Zygote) -> Iterator[Mortal]:
    """A broker that knows where the CRL is, which Pebble's certificates do not say."""
    mortal = Mortal(tmp_path_factory.mktemp("watch") / "broker", ca.pebble, zygote)
    sources = {"pebble": {"issuer": _ISSUER, "crl": ca.publisher.url("/pebble.crl")}}
    mortal.environment = {"CERTBROKER_REVOCATION__SOURCES": json.dumps(sources)}
    mortal.start()
    mortal.wire.token()
    mortal.wire.set_acme_issuer("ca", ca.pebble.directory_url)
    yield mortal
    mortal.broker.stop()


def standing(mortal: Mortal, name: str) -> Any:
    return mortal.wire.ok("GET", f"/certificates/{name}/revocation")["standing"]


def make(mortal: Mortal, name: str) -> int:
    """A certificate that is known to be good; its serial number."""
    mortal.wire.ok("POST", f"/certificates/{name}/create", creation("ca", f"{name}.example.org"))
    mortal.wire.completed(name)
    assert "Good" == mortal.wire.ok("POST", f"/certificates/{name}/revocation/check")["standing"]
    der = base64.b64decode(mortal.wire.ok("GET", f"/certificates/{name}/")["cer"])
    return x509.load_der_x509_certificate(der).serial_number


def findings(mortal: Mortal, name: str) -> list[str]:
    """How what was found about a certificate is on record."""
    with closing(sqlite3.connect(mortal.broker.data_dir / "certbroker.db")) as connection:
        rows = [json.loads(row[0]) for row in connection.execute("SELECT record FROM audit ORDER BY rowid")]
    return [
        each["outcome"]
        for each in rows
        if each["operation"] == "CertificateRevocationFound" and f"/{name}/" in each["object"]
    ]


@pytest.mark.parametrize(("point", "times"), POINTS)
def test_a_broker_killed_while_it_watches_replaces_what_is_revoked_once(
    watchful: Mortal, ca: CA, point: str, times: int
) -> None:
    name = f"{point}-{times}".replace(".", "-")
    ca.revoke(make(watchful, name))
    watchful.start(point, times)
    watchful.wire.try_to("POST", f"/certificates/{name}/revocation/check")
    watchful.await_death()
    watchful.start()

    until("renewed", lambda: len(watchful.wire.versions(name)) > 1 or None)
    operation = watchful.wire.completed(name)
    until("known to be good", lambda: standing(watchful, name) == "Good" or None)
    assert "Revoked" == operation["cause"]["trigger"]
    assert 2 == len(issued_for(ca.pebble, f"{name}.example.org")) == len(watchful.wire.versions(name))
    assert ["Revoked"] == findings(watchful, name)


def test_the_commands_say_who_says_what(watchful: Mortal, ca: CA) -> None:
    watchful.start()
    certbroker = CommandLine(watchful.broker)
    serial = make(watchful, "shown")

    shown = certbroker.ok("revocation", "show", "shown").out
    health = certbroker.ok("certificate", "health", "shown").out
    sources = certbroker.json("revocation", "sources")
    ca.revoke(serial)
    checked = certbroker("revocation", "check", "shown")

    assert "is not revoked, says http://" in shown
    assert "Good" in health
    assert ["fresh"] == [each["status"] for each in sources if each["url"].endswith("/pebble.crl")]
    assert 6 == checked.status
    assert "was revoked" in checked.out
    assert "keyCompromise" in checked.out
    until("renewed", lambda: len(watchful.wire.versions("shown")) > 1 or None)
