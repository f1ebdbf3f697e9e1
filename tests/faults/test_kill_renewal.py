"""`kill -9` on the way of a renewal: one more certificate and no second, and the old one serves until it is there."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from pebble.launcher import Pebble
from tests.support.failpoints import LOOKS, RENEWAL
from tests.support.issued import issued_for
from tests.support.mortal import Mortal
from tests.support.wire import creation, until


@pytest.mark.parametrize(("point", "count"), LOOKS)
def test_a_renewal_that_the_ca_asked_for_is_made_once(mortal: Mortal, pebble: Pebble, point: str, count: int) -> None:
    mortal.start()
    name = _issued(mortal, pebble, f"{point}-{count}")
    over = datetime.now(UTC) - timedelta(days=1)
    window = {"start": (over - timedelta(days=1)).isoformat(), "end": over.isoformat()}
    leaf = mortal.wire.stored(name).certificate.public_bytes(Encoding.PEM).decode()
    asked = {"suggestedWindow": window, "explanationURL": "https://ca.example/incident"}
    pebble.management.set_renewal_info(leaf, json.dumps(asked))
    mortal.start(point, count)
    mortal.await_death()
    mortal.start()

    cause = _renewed(mortal, pebble, name)["cause"]
    assert "Incident" == cause["trigger"]
    assert "https://ca.example/incident" in cause["reason"]


@pytest.mark.parametrize(("point", "count"), RENEWAL)
def test_a_renewal_that_somebody_asked_for_is_made_once(mortal: Mortal, pebble: Pebble, point: str, count: int) -> None:
    if mortal.is_dead:
        mortal.start()
    name = _issued(mortal, pebble, f"{point}-{count}")
    before = mortal.wire.stored(name)
    mortal.start(point, count)
    reply = mortal.wire.try_to("POST", f"/certificates/{name}/renew", {"reason": "Because."})
    mortal.await_death()
    mortal.start()

    assert reply is None or 202 == reply.status_code
    assert "Operator" == _renewed(mortal, pebble, name)["cause"]["trigger"]
    assert before.key != mortal.wire.stored(name).key


def _issued(mortal: Mortal, pebble: Pebble, case: str) -> str:
    """A certificate of an issuer of its own."""
    name = f"again-{case}".replace(".", "-")
    mortal.wire.set_acme_issuer(f"ca-{name}", pebble.directory_url)
    mortal.wire.ok("POST", f"/certificates/{name}/create", creation(f"ca-{name}", f"{name}.example.org"))
    mortal.wire.completed(name)
    return name


def _renewed(mortal: Mortal, pebble: Pebble, name: str) -> dict[str, dict[str, str]]:
    """The operation, once there is a second version: the only other one that the CA has issued."""
    until("renewed", lambda: len(mortal.wire.versions(name)) > 1 or None)
    operation: dict[str, dict[str, str]] = mortal.wire.completed(name)
    stored = mortal.wire.stored(name)
    issued = issued_for(pebble, f"{name}.example.org")

    assert 2 == len(issued) == len(mortal.wire.versions(name))
    assert issued[-1] == stored.certificate.serial_number
    assert stored.certificate == stored.in_secret
    assert stored.certificate.public_key() == stored.key
    return operation
