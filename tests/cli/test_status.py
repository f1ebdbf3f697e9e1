"""How the broker is, from the command line."""

from __future__ import annotations

from tests.support.broker import DevBroker
from tests.support.command_line import CommandLine


def test_status_tells_what_needs_a_person_and_says_so_by_its_exit_code(
    broker: DevBroker, certbroker: CommandLine
) -> None:
    name = "carried-by-hand"
    certbroker.ok("certificate", "create", name, "--issuer", "Unknown", "--dns", "hand.example")
    waiting = certbroker("status")
    page = certbroker("status", "-o", "json")
    certbroker.ok("certificate", "cancel", name, "--delete")
    certbroker.ok("certificate", "delete", name)

    assert 6 == waiting.status == page.status
    for part in ("Needs a person", name, "certbroker certificate merge", "works; last mark", "schema"):
        assert part in waiting.out
    (trouble,) = [each for each in page.json()["needs_person"] if each["name"] == name]
    assert ("certificate", "demo", "AwaitingMerge") == (trouble["what"], trouble["vault"], trouble["state"])
    assert not any(name in str(each) for each in certbroker("status", "-o", "json").json()["needs_person"])


def test_status_is_for_administrators(certbroker: CommandLine) -> None:
    made = certbroker.json("identity", "create", "watcher")
    secret = certbroker.json("identity", "add-secret", made["id"])["secret"]
    done = certbroker("status", env={"AZURE_CLIENT_ID": made["id"], "AZURE_CLIENT_SECRET": secret})

    assert 4 == done.status


def test_the_health_of_a_certificate_is_shown_with_its_reason(certbroker: CommandLine) -> None:
    certbroker.ok("certificate", "create", "well", "--issuer", "Self", "--dns", "well.example", "--wait")
    shown = certbroker.ok("certificate", "health", "well").out
    found = certbroker.json("certificate", "health", "well")

    assert found["id"].endswith("/certificates/well")
    assert found["health"] in ("Unknown", "Healthy")
    assert {"health", "reason", "renewal_point", "expires"} <= set(found)
    assert "renewal point" in shown
    assert 5 == certbroker("certificate", "health", "nowhere").status


def test_the_health_of_an_issuer_is_shown(certbroker: CommandLine) -> None:
    certbroker.ok("issuer", "set", "unused", "--provider", "ACME", "--directory", "https://ca.example/directory")

    assert {"state": "Unused"} == certbroker.json("issuer", "health", "unused")
    assert "Unused" in certbroker.ok("issuer", "health", "unused").out
    assert 5 == certbroker("issuer", "health", "missing").status


def test_doctor_tells_what_it_has_found_and_whether_that_is_well(certbroker: CommandLine) -> None:
    certbroker.ok("vault", "create", "clinic")
    well = certbroker.ok("doctor", "--vault", "clinic")
    options = ("--provider", "ACME", "--directory", "https://127.0.0.1:1/directory")
    certbroker.ok("issuer", "set", "away", *options, "--vault", "clinic")
    ill = certbroker("doctor", "--issuer", "away", "--vault", "clinic", "-o", "json")

    assert "database" in well.out
    assert 6 == ill.status
    (found,) = [each for each in ill.json() if each["what"] == "issuer away of clinic"]
    assert "fail" == found["grade"]
    assert 5 == certbroker("doctor", "--issuer", "missing").status
    assert 1 == certbroker("doctor", "--dry-run").status
