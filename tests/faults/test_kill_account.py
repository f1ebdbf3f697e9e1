"""`kill -9` while the key of an account is exchanged, and while the account is given up; and the commands for both."""

from __future__ import annotations

from typing import Any

import pytest

from pebble.launcher import Pebble
from tests.support.command_line import CommandLine
from tests.support.mortal import Mortal, assert_one_certificate
from tests.support.wire import creation

STEPS = ["before", "after-call", "recorded"]


def order(mortal: Mortal, issuer: str, name: str) -> None:
    mortal.wire.ok("POST", f"/certificates/{name}/create", creation(issuer, f"{name}.example.org"))
    mortal.wire.completed(name)


def account_of(mortal: Mortal, issuer: str) -> Any:
    return mortal.wire.ok("GET", f"/certificates/issuers/{issuer}/account")


def kill_during(mortal: Mortal, pebble: Pebble, act: str, path: str, step: str) -> tuple[Any, Any]:
    """The account before and after a broker died while it changed it, and then got another certificate by it."""
    issuer = f"ca-{act}-{step}"
    mortal.start()
    mortal.wire.set_acme_issuer(issuer, pebble.directory_url)
    order(mortal, issuer, f"{act}-{step}-1")
    before = account_of(mortal, issuer)

    mortal.start(f"acme.{act}.{step}")
    assert mortal.wire.try_to("POST", f"/certificates/issuers/{issuer}/account/{path}") is None
    mortal.await_death()
    mortal.start()
    order(mortal, issuer, f"{act}-{step}-2")

    assert_one_certificate(mortal, pebble, f"{act}-{step}-2", f"{act}-{step}-2.example.org")
    return before, account_of(mortal, issuer)


@pytest.mark.parametrize("step", STEPS)
def test_a_broker_killed_while_a_key_is_exchanged_finds_the_account_with_the_key_that_holds(
    mortal: Mortal, pebble: Pebble, step: str
) -> None:
    before, after = kill_during(mortal, pebble, "rollover", "rollover", step)

    assert (before["account"], "valid") == (after["account"], after["status"])
    assert (step != "before") == (before["thumbprint"] != after["thumbprint"])


@pytest.mark.parametrize("step", STEPS)
def test_a_broker_killed_while_an_account_is_given_up_finishes_that_and_has_another(
    mortal: Mortal, pebble: Pebble, step: str
) -> None:
    before, after = kill_during(mortal, pebble, "deactivation", "deactivate", step)

    assert "valid" == after["status"]
    assert before["account"] != after["account"]
    assert before["thumbprint"] != after["thumbprint"]


def test_the_commands_show_an_account_exchange_its_key_and_give_it_up(mortal: Mortal, pebble: Pebble) -> None:
    mortal.start()
    certbroker = CommandLine(mortal.broker)
    mortal.wire.set_acme_issuer("ca-commands", pebble.directory_url)
    order(mortal, "ca-commands", "commands")

    shown = certbroker.ok("issuer", "account", "ca-commands").out
    first = certbroker.json("issuer", "account", "ca-commands")
    assert "new key" in certbroker.ok("issuer", "account-rollover", "ca-commands").err
    second = certbroker.json("issuer", "account", "ca-commands")
    unsure = certbroker("issuer", "account-deactivate", "ca-commands")
    assert "deactivated" in certbroker.ok("issuer", "account-deactivate", "ca-commands", "--yes").err
    third = certbroker.json("issuer", "account", "ca-commands")
    again = certbroker("issuer", "account-rollover", "ca-commands")

    for expected in ("valid", first["account"], first["thumbprint"], pebble.directory_url, "says when to renew"):
        assert expected in shown
    assert (first["account"], "valid") == (second["account"], second["status"])
    assert first["thumbprint"] != second["thumbprint"]
    assert 2 == unsure.status
    assert "account" not in third
    assert 1 == again.status
    assert "no account at the CA yet" in again.err
