"""Before it counts: what a CA would look at is looked at, and a staging CA issues a certificate that is thrown away."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from certbroker.domain.checkup import Checked, Grade
from certbroker.domain.errors import Invalid
from certbroker.domain.keys import KeySpec
from certbroker.domain.policy import CertificatePolicy, SubjectAlternativeNames
from certbroker.ports.dns import CAARecord
from certbroker.ports.egress import OutsideResponse
from certbroker.ports.issuer_abilities import AccountDescription, StandingRecord
from certbroker.services.health.doctor import Wanted
from certbroker.services.issuers.issuers import IssuerChanges
from issuers.acme.dns_update import DNSUpdatePublisher, DNSUpdateServer
from issuers.acme.examination import examine
from issuers.acme.settings import read_options, staging
from pebble.launcher import Pebble
from tests.support.acme_bench import _CALLER, ACMEBench
from tests.support.acme_ports import Board, NoAliases, Surroundings, loopback_egress
from tests.support.dns_server import KEY_NAME, KEY_SECRET, AuthoritativeServer

ACCOUNT = AccountDescription(
    "https://ca.example/dir", "https://ca.example/1", "valid", None, "P-256", (), None, False, None, None,
    ("ca.example",), None, False,
)  # fmt: skip


class OtherPort:
    """The way out, to a listener that stands for port 80 of every host."""

    def __init__(self, port: int) -> None:
        self._egress = loopback_egress(plain_http=True)
        self._port = port
        self.closed = self._egress.close

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        max_bytes: int = 1 << 20,
        timeout: float = 30.0,
    ) -> OutsideResponse:
        path = url.removeprefix("http://").partition("/")[2]
        return self._egress.request(
            method, f"http://127.0.0.1:{self._port}/{path}", max_bytes=max_bytes, timeout=timeout
        )


@pytest.fixture
def surroundings() -> Iterator[Surroundings]:
    with Board() as board:
        egress = loopback_egress(plain_http=True)
        yield Surroundings(egress, board, "https://ca.example/dir")
        egress.close()


def no_record(name: str) -> StandingRecord:
    raise Invalid(f"Nobody asks for a record of {name}.")


def looked_at(
    around: Surroundings,
    name: str,
    options: str = "",
    port: int | None = None,
    standing: Callable[[str], StandingRecord] = no_record,
    account: AccountDescription = ACCOUNT,
) -> dict[str, Checked]:
    assert isinstance(around.board, Board)
    reach = OtherPort(port or around.board._server.server_port)
    read = read_options(f"directory=https://ca.example/dir;{options}")
    found = list(examine(name, read, account, around.resources(), reach, standing))
    reach.closed()
    return {each.what: each for each in found}


def test_port_80_that_leads_to_us_is_seen_and_nothing_is_left_there(surroundings: Surroundings) -> None:
    found = looked_at(surroundings, "a.example")

    assert Grade.OK == found["http-01 for a.example, from here"].grade
    assert Grade.OK == found["CAA of a.example"].grade
    assert {} == surroundings.board.answers


def test_port_80_that_leads_to_somebody_else_is_found(surroundings: Surroundings) -> None:
    with Board() as other:
        found = looked_at(surroundings, "a.example", port=other._server.server_port)

    assert Grade.FAIL == found["http-01 for a.example, from here"].grade
    assert "404" in found["http-01 for a.example, from here"].detail


def test_port_80_that_nobody_listens_on_is_found(surroundings: Surroundings) -> None:
    found = looked_at(surroundings, "a.example", port=1)

    assert Grade.FAIL == found["http-01 for a.example, from here"].grade


def test_a_wildcard_cannot_be_proved_by_http(surroundings: Surroundings) -> None:
    assert Grade.FAIL == looked_at(surroundings, "*.a.example")["http-01 for *.a.example, from here"].grade


def test_caa_records_that_leave_us_out_are_found(surroundings: Surroundings) -> None:
    class Strict(NoAliases):
        def caa(self, name: str) -> tuple[CAARecord, ...]:
            return (CAARecord(0, "issue", "other.example"),)

    surroundings.names = Strict()
    found = looked_at(surroundings, "a.example")["CAA of a.example"]

    assert Grade.FAIL == found.grade
    assert "other.example" in found.detail


def test_a_dns_publisher_is_tried_and_what_it_published_is_taken_away(surroundings: Surroundings) -> None:
    class Reading(NoAliases):
        def __init__(self, server: AuthoritativeServer) -> None:
            self.server = server

        def txt(self, name: str) -> tuple[str, ...]:
            return tuple(self.server.values(name))

    with AuthoritativeServer() as server:
        update = DNSUpdateServer(
            server="127.0.0.1", port=server.port, key_name=KEY_NAME, key_secret=KEY_SECRET,
            nameservers=(server.address,), timeout=2.0, propagation=5.0,
        )  # fmt: skip
        surroundings.dns["main"] = DNSUpdatePublisher(update)
        surroundings.names = Reading(server)
        seen = looked_at(surroundings, "www.example.org", "challenge=dns-01;dns=main")
        surroundings.names = NoAliases()
        unseen = looked_at(surroundings, "www.example.org", "challenge=dns-01;dns=main")

        assert Grade.OK == seen["dns-01 for www.example.org"].grade
        assert Grade.FAIL == unseen["dns-01 for www.example.org"].grade
        assert set() == server.values("_acme-challenge.www.example.org")


@pytest.mark.parametrize(
    ("status", "grade"),
    [
        ("good", Grade.OK),
        ("expiring", Grade.WARN),
        ("unknown", Grade.WARN),
        ("missing", Grade.FAIL),
        ("wrong", Grade.FAIL),
    ],
)
def test_a_record_that_stays_is_looked_for_and_what_to_publish_is_said(
    surroundings: Surroundings, status: Literal["good", "expiring", "missing", "wrong", "unknown"], grade: Grade
) -> None:
    record = StandingRecord("_validation-persist.a.example", "ca.example; accounturi=1", status, "So it stands.")
    found = looked_at(surroundings, "a.example", "challenge=dns-persist-01", standing=lambda name: record)
    checked = found["dns-persist-01 for a.example"]

    assert (grade, "So it stands.") == (checked.grade, checked.detail)
    assert ("" if grade is Grade.OK else f"Publish {record.zone_line}") == checked.advice


def test_no_account_is_made_to_look_for_a_record_and_what_cannot_be_known_is_said(surroundings: Surroundings) -> None:
    options, what = "challenge=dns-persist-01", "dns-persist-01 for a.example"
    nobody = looked_at(surroundings, "a.example", options, account=replace(ACCOUNT, account=None))[what]
    unknown = looked_at(surroundings, "a.example", options)[what]

    assert (Grade.WARN, Grade.WARN) == (nobody.grade, unknown.grade)
    assert "no account at the CA yet" in nobody.detail
    assert "Nobody asks for a record" in unknown.detail


def test_a_dry_run_leaves_nothing_and_asks_nothing_of_the_ca_in_earnest(
    start_pebble: Callable[..., Pebble], tmp_path: Path
) -> None:
    ca = start_pebble()
    with ACMEBench(tmp_path, ca.http_port, [ca.ca_path]) as bench:
        # Nobody listens there: a single question to the CA in earnest would fail the run.
        options = "directory=https://127.0.0.1:1/directory"
        changes = IssuerChanges(provider="ACME", account_id="kid", password="c2VjcmV0", organization_id=options)
        vault = bench.broker.vaults.find("vault")
        bench.broker.issuers.set(_CALLER, vault, "ca", changes)
        before = _dump(tmp_path)
        policy = CertificatePolicy(KeySpec("EC"), sans=SubjectAlternativeNames(dns_names=("dry.example.org",)))
        result = bench.broker.doctor._rehearsals.run(vault, "ca", ca.directory_url, policy)
        after = _dump(tmp_path)

        assert Grade.OK == result.grade, result
        assert "Pebble" in result.detail
        assert before == after


def test_a_dry_run_that_the_ca_refuses_says_why(start_pebble: Callable[..., Pebble], tmp_path: Path) -> None:
    ca = start_pebble()
    with ACMEBench(tmp_path, 0, [ca.ca_path]) as bench:  # Pebble looks for answers at another port.
        changes = IssuerChanges(provider="ACME", organization_id="directory=https://127.0.0.1:1/directory")
        vault = bench.broker.vaults.find("vault")
        bench.broker.issuers.set(_CALLER, vault, "ca", changes)
        checkup = bench.broker.doctor.start(
            Wanted(issuer="ca", names=("a.example.org",), dry_run=True, directory=ca.directory_url)
        )
        deadline = time.monotonic() + 100
        while not any(each.what.startswith("dry run") for each in list(checkup.found)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (found,) = [each for each in checkup.found if each.what.startswith("dry run")]

        assert Grade.FAIL == found.grade
        assert "a.example.org" in found.detail


def test_the_staging_environments_that_are_known_are_found() -> None:
    assert staging(read_options("directory=letsencrypt"), None).directory.startswith("https://acme-staging-v02.")
    with pytest.raises(Invalid, match="--directory"):
        staging(read_options("directory=zerossl"), None)
    with pytest.raises(Invalid, match="in earnest"):
        staging(read_options("directory=zerossl"), "https://ACME-v02.api.letsencrypt.org:443/directory")


def _dump(directory: Path) -> list[str]:
    """Everything that is in the database, but for marks of time and answers to challenges that have been taken down."""
    with sqlite3.connect(directory / "certbroker.db") as connection:
        lines = [line for line in connection.iterdump() if '"settings"' not in line]
    connection.close()
    return lines
