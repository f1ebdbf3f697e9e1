"""`kill -9` while a certificate is revoked: it is revoked, on record, and has one successor; and the command for it."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from cryptography import x509

from pebble.launcher import Pebble
from tests.support.command_line import CommandLine
from tests.support.issued import issued_for
from tests.support.mortal import Mortal
from tests.support.wire import creation, until

POINTS = ["revocation.before", "revocation.after-call", "revocation.recorded"]


def issue(mortal: Mortal, pebble: Pebble, name: str, issuer: str) -> str:
    """The version of a new certificate."""
    mortal.wire.set_acme_issuer(issuer, pebble.directory_url)
    mortal.wire.ok("POST", f"/certificates/{name}/create", creation(issuer, f"{name}.example.org"))
    mortal.wire.completed(name)
    return mortal.wire.versions(name)[0]


def revocation(mortal: Mortal, name: str, version: str) -> Any:
    return mortal.wire.ok("GET", f"/certificates/{name}/{version}").get("revocation")


def status_at_ca(mortal: Mortal, pebble: Pebble, name: str, version: str) -> tuple[str, int | None]:
    der = base64.b64decode(mortal.wire.ok("GET", f"/certificates/{name}/{version}")["cer"])
    status = pebble.management.certificate_status(x509.load_der_x509_certificate(der).serial_number)
    assert status is not None
    return status.status, status.reason


def outcomes(mortal: Mortal, name: str) -> list[tuple[str, str]]:
    """Who has put what on record about the revocation."""
    with closing(sqlite3.connect(mortal.broker.data_dir / "certbroker.db")) as connection:
        rows = [json.loads(row[0]) for row in connection.execute("SELECT record FROM audit ORDER BY rowid")]
    return [
        ("engine" if each["principal"] == "engine" else "caller", each["outcome"])
        for each in rows
        if each["operation"] == "CertificateRevoke" and f"/{name}/" in each["object"]
    ]


@pytest.mark.parametrize("point", POINTS)
def test_a_broker_killed_while_it_revokes_finishes_it(mortal: Mortal, pebble: Pebble, point: str) -> None:
    name = point.replace(".", "-")
    mortal.start()
    version = issue(mortal, pebble, name, f"ca-{name}")
    mortal.start(point)
    assert mortal.wire.try_to("POST", f"/certificates/{name}/{version}/revoke", {"reason": "keyCompromise"}) is None
    mortal.await_death()
    mortal.start()

    until("revoked", lambda: revocation(mortal, name, version)["status"] == "revoked" or None)
    until("renewed", lambda: len(mortal.wire.versions(name)) > 1 or None)
    operation = mortal.wire.completed(name)
    assert ("Revoked", 1) == status_at_ca(mortal, pebble, name, version)
    # Pebble says at once that what was revoked should be renewed, and that may be heard first.
    assert operation["cause"]["trigger"] in ("Revoked", "SuggestedByCA")
    assert 2 == len(issued_for(pebble, f"{name}.example.org")) == len(mortal.wire.versions(name))
    ending = ("caller", "ok") if point == "revocation.recorded" else ("engine", "ok")
    assert [("caller", "begun"), ending] == outcomes(mortal, name)


def test_the_certificates_own_key_revokes_where_the_account_may_not(mortal: Mortal, pebble: Pebble) -> None:
    mortal.start()
    version = issue(mortal, pebble, "left", "ca-left")
    mortal.wire.ok("POST", "/certificates/issuers/ca-left/account/deactivate")

    done = mortal.wire.ok("POST", f"/certificates/left/{version}/revoke", {"reason": "superseded"})
    assert ("revoked", False) == (done["status"], done["renew"])
    assert ("Revoked", 4) == status_at_ca(mortal, pebble, "left", version)


def test_what_was_brought_here_is_revoked_by_its_key_and_not_taken_again(mortal: Mortal, pebble: Pebble) -> None:
    mortal.start()
    issue(mortal, pebble, "origin", "ca-origin")
    bundle = mortal.wire.ok("GET", "/secrets/origin")["value"]
    mortal.wire.ok("POST", "/certificates/brought/import", {"value": bundle})
    version = mortal.wire.versions("brought")[0]
    mortal.wire.set_acme_issuer("ca-stranger", pebble.directory_url)
    issue(mortal, pebble, "strange", "ca-stranger")

    unnamed = mortal.wire.ask("POST", f"/certificates/brought/{version}/revoke", {"reason": "keyCompromise"})
    body = {"reason": "keyCompromise", "issuer": "ca-stranger"}
    done = mortal.wire.ok("POST", f"/certificates/brought/{version}/revoke", body)
    again = mortal.wire.ask("POST", "/certificates/third/import", {"value": bundle})

    assert 400 == unnamed.status_code
    assert "name it as issuer" in unnamed.json()["error"]["message"]
    assert "revoked" == done["status"] == revocation(mortal, "origin", mortal.wire.versions("origin")[0])["status"]
    assert ("Revoked", 1) == status_at_ca(mortal, pebble, "brought", version)
    assert 400 == again.status_code
    assert "never used again" in again.json()["error"]["message"]


def test_the_command_revokes_says_so_and_asks_first(mortal: Mortal, pebble: Pebble) -> None:
    mortal.start()
    certbroker = CommandLine(mortal.broker)
    issue(mortal, pebble, "commanded", "ca-commanded")

    unsure = certbroker("certificate", "revoke", "commanded", "--reason", "superseded")
    wrong = certbroker("certificate", "revoke", "commanded", "--reason", "cACompromise", "--yes")
    done = certbroker.ok("certificate", "revoke", "commanded", "--reason", "superseded", "--yes")
    shown = certbroker.ok("certificate", "show", "commanded").out
    version = mortal.wire.versions("commanded")[0]
    again = certbroker.json("certificate", "revoke", "commanded", version, "--reason", "superseded", "--renew", "--yes")

    assert 2 == unsure.status
    assert 1 == wrong.status
    assert "keyCompromise" in wrong.err
    assert "is revoked." in done.err
    assert "revoked 20" in shown
    assert "(superseded)" in shown
    assert ("revoked", True) == (again["status"], again["renew"])
    assert ("Revoked", 4) == status_at_ca(mortal, pebble, "commanded", version)
    until("renewed", lambda: len(mortal.wire.versions("commanded")) > 1 or None)
