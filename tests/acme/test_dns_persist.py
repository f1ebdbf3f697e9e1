"""dns-persist-01: a record that a person publishes once, by a real CA."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbroker.domain.errors import Invalid
from certbroker.egress import EgressPolicy, OutsideDNS
from certbroker.ports.issuer import IssuerUnavailable, RequestRefused, StillWaiting
from certbroker.ports.issuer_abilities import ProvesByRecord, StandingRecord
from issuers.acme.dns_persist import Wanted, examine, parse
from pebble.launcher import Pebble
from tests.support.acme_ports import (
    LOOPBACK,
    MemoryJournal,
    NoBoard,
    Surroundings,
    drive,
    issued,
    loopback_egress,
    names_in,
    request_for,
)
from tests.support.broker import DevBroker
from tests.support.clock import SteppedClock
from tests.support.command_line import CommandLine
from tests.support.dns_server import AuthoritativeServer
from tests.support.peers import require_pebble
from tests.support.scripted_ca import Exchange, ScriptedCA
from tests.support.wire import Wire, creation, until

pytestmark = pytest.mark.xdist_group("acme-dns-persist")

OPTIONS = "challenge=dns-persist-01"
CA = "pebble.letsencrypt.org"  # What Pebble calls itself in caaIdentities.
NOW = datetime(2026, 6, 1, tzinfo=UTC)
ACCOUNT = "https://ca.example/acct/1"
WANTED = Wanted("example.org", False, ("ca.example", "ca.example.net"), ACCOUNT)
WILD = Wanted("example.org", True, ("ca.example",), ACCOUNT)
GOOD = f"ca.example; accounturi={ACCOUNT}"


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def test_the_record_is_that_of_the_draft() -> None:
    assert "_validation-persist.example.org" == WANTED.owner
    assert GOOD == WANTED.value
    assert f"{GOOD}; policy=wildcard" == WILD.value


@pytest.mark.parametrize(
    ("texts", "wanted", "status", "detail"),
    [
        ([], WANTED, "missing", "no such record"),
        (["v=spf1 -all", f"other.example; accounturi={ACCOUNT}"], WANTED, "missing", "no such record"),
        ([GOOD], WANTED, "good", "does not end"),
        ([f"\tca.example.net ;  AccountURI = {ACCOUNT} ; future=1"], WANTED, "good", "does not end"),
        ([f"{GOOD}; policy=WildCard"], WILD, "good", "does not end"),
        ([f"{GOOD}; policy=wildcard"], WANTED, "good", "does not end"),
        ([GOOD], WILD, "wrong", "lacks policy=wildcard"),
        ([f"{GOOD}; policy=other"], WILD, "wrong", "lacks policy=wildcard"),
        (["ca.example; accounturi=https://ca.example/acct/2"], WANTED, "wrong", "another account: https://ca.exa"),
        (["ca.example"], WANTED, "wrong", "has no accounturi"),
        ([f"{GOOD};"], WANTED, "wrong", "'' where a parameter should be"),
        ([f"{GOOD}; accounturi={ACCOUNT}"], WANTED, "wrong", "the parameter accounturi twice"),
        ([f"{GOOD}; x=a b"], WANTED, "wrong", "a value of x with characters"),
        ([f"{GOOD}; persistUntil=soon"], WANTED, "wrong", "not a number of seconds"),
        ([f"{GOOD}; persistUntil={seconds(NOW)}"], WANTED, "wrong", "has passed, on 2026-06-01 00:00Z"),
        ([f"{GOOD}; persistUntil=-5"], WANTED, "wrong", "has passed"),
        ([f"{GOOD}; persistUntil={seconds(NOW) + 86400 * 29}"], WANTED, "expiring", "Its persistUntil is 2026-06-30"),
        ([f"{GOOD}; persistUntil={seconds(NOW) + 86400 * 31}"], WANTED, "good", "Its persistUntil is 2026-07-02"),
        ([f"{GOOD}; persistUntil=9999999999999999999"], WANTED, "good", "Its persistUntil is 9999-12-31"),
        (["ca.example", f"{GOOD}; persistUntil=1", GOOD], WANTED, "good", "does not end"),
    ],
)
def test_how_records_stand(texts: list[str], wanted: Wanted, status: str, detail: str) -> None:
    found = examine(texts, wanted, NOW, timedelta(days=30))

    assert status == found.status
    assert detail in found.detail
    assert wanted.value == found.value


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except ValueError:
        pass


@given(issuer=st.sampled_from(WANTED.issuers), wildcard=st.booleans(), end=st.none() | st.integers(0, 2**40))
def test_what_is_shown_is_read_back(issuer: str, wildcard: bool, end: int | None) -> None:
    value = Wanted("example.org", wildcard, (issuer,), ACCOUNT).value + ("" if end is None else f"; persistUntil={end}")

    name, found = parse(value)

    assert (issuer, ACCOUNT, wildcard) == (name, found.account, found.wildcard)
    assert (end is None) == (found.until is None)


def test_a_long_record_is_shown_in_strings_that_dns_allows() -> None:
    record = StandingRecord("_validation-persist.example.org", "a" * 300, "missing", "")

    assert f'_validation-persist.example.org. IN TXT "{"a" * 255}" "{"a" * 45}"' == record.zone_line


@pytest.fixture(scope="module")
def server() -> Iterator[AuthoritativeServer]:
    aliases = {"_validation-persist.alias.example.org": "alias.acme.example.net"}
    with AuthoritativeServer("example.org", "acme.example.net", aliases=aliases) as server:
        yield server


@pytest.fixture(scope="module")
def pebble(start_pebble: Callable[..., Pebble], server: AuthoritativeServer) -> Pebble:
    require_pebble(recent=True)
    return start_pebble(authz_reuse=0, dns_server=server.address)


@pytest.fixture
def persist_ca(ca: Surroundings, server: AuthoritativeServer) -> Surroundings:
    ca.names = OutsideDNS(EgressPolicy(allowed_networks=LOOPBACK), (server.address,))
    return ca


def record_for(ca: Surroundings, name: str) -> StandingRecord:
    issuer = ca.issuer(OPTIONS)
    assert isinstance(issuer, ProvesByRecord)
    return issuer.standing_record(name)


def test_an_order_waits_for_the_record_that_it_shows_and_goes_on_when_it_is_there(
    persist_ca: Surroundings, server: AuthoritativeServer
) -> None:
    issuer, journal = persist_ca.issuer(OPTIONS), MemoryJournal()
    request = request_for("www.example.org", "*.www.example.org")

    waiting = [issuer.advance(request, journal) for _ in range(3)]
    writes = [*journal.writes]
    reply = waiting[-1]
    assert isinstance(reply, StillWaiting)
    record = record_for(persist_ca, "*.www.example.org")

    assert f"Publish this DNS record, and leave it there: {record.zone_line} — There is no such record." == reply.detail
    assert record.value.startswith(f"{CA}; accounturi=https://127.0.0.1:")
    assert record.value.endswith("; policy=wildcard")
    assert timedelta(seconds=2) <= reply.pause <= timedelta(minutes=5)
    assert ("recorded", "order") == writes[-1]

    server.replace(record.name, [record.value])
    leaf, *_ = issued(drive(issuer, request, journal))

    assert {"www.example.org", "*.www.example.org"} == names_in(leaf)
    assert {record.value} == server.values(record.name)
    assert [[record.name, "good", None]] == json.loads((journal.recorded("dns-persist") or {})["records"])


def test_a_record_serves_the_next_certificate_at_once_also_behind_a_cname(
    persist_ca: Surroundings, server: AuthoritativeServer
) -> None:
    record = record_for(persist_ca, "alias.example.org")
    server.replace("alias.acme.example.net", ["something else", record.value])

    for _ in range(2):
        issued(drive(persist_ca.issuer(OPTIONS), request_for("alias.example.org"), MemoryJournal()))

    assert "good" == record_for(persist_ca, "alias.example.org").status


def test_a_record_for_another_account_is_not_shown_to_the_ca(
    pebble: Pebble, persist_ca: Surroundings, server: AuthoritativeServer
) -> None:
    server.replace("_validation-persist.other.example.org", [f"{CA}; accounturi=https://127.0.0.1:1/my-account/9"])
    journal = MemoryJournal()

    reply = persist_ca.issuer(OPTIONS).advance(request_for("other.example.org"), journal)

    assert isinstance(reply, StillWaiting)
    assert "There is one for another account: https://127.0.0.1:1/my-account/9." in reply.detail
    assert journal.intended("challenge") is None


def test_a_record_that_ends_soon_is_used_and_told_of(
    persist_ca: Surroundings, server: AuthoritativeServer, caplog: pytest.LogCaptureFixture
) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=10)
    record = record_for(persist_ca, "soon.example.org")
    server.replace(record.name, [f"{record.value}; persistUntil={seconds(ends)}"])
    journal = MemoryJournal()

    issued(drive(persist_ca.issuer(OPTIONS), request_for("soon.example.org"), journal))

    assert "_validation-persist.soon.example.org for dns-persist-01 is expiring: Its persistUntil is" in caplog.text
    assert [[record.name, "expiring", ends.isoformat()]] == json.loads(
        (journal.recorded("dns-persist") or {})["records"]
    )
    found = record_for(persist_ca, "soon.example.org")
    assert ("expiring", ends) == (found.status, found.until)

    caplog.clear()
    issued(drive(persist_ca.issuer(f"{OPTIONS};persist_warning=9"), request_for("soon.example.org"), MemoryJournal()))
    assert "expiring" not in caplog.text


def test_what_dns_does_not_tell_us_is_left_to_the_ca(
    persist_ca: Surroundings, server: AuthoritativeServer, caplog: pytest.LogCaptureFixture
) -> None:
    record = record_for(persist_ca, "dark.example.org")
    server.replace(record.name, [record.value])
    persist_ca.names = OutsideDNS(EgressPolicy(allowed_networks=LOOPBACK), ("127.0.0.1:9",))

    issued(drive(persist_ca.issuer(OPTIONS), request_for("dark.example.org"), MemoryJournal(), 60))

    assert "is unknown" in caplog.text


def test_an_address_is_refused_at_once(persist_ca: Surroundings) -> None:
    reply = persist_ca.issuer(OPTIONS).advance(request_for(addresses=["127.0.0.1"]), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert "cannot be validated by dns-persist-01" in reply.problem.message


@pytest.mark.parametrize("name", ["", "a..b", "192.0.2.1", "*.*.example.org"])
def test_a_record_is_shown_for_dns_names_only(persist_ca: Surroundings, name: str) -> None:
    with pytest.raises(Invalid, match="is not a DNS name"):
        record_for(persist_ca, name)


@pytest.fixture
def scripted_ca(scripted: ScriptedCA, server: AuthoritativeServer) -> Iterator[Surroundings]:
    egress = loopback_egress(plain_http=True)
    names = OutsideDNS(EgressPolicy(allowed_networks=LOOPBACK), (server.address,))
    yield Surroundings(egress, NoBoard(), scripted.directory_url, names=names)
    egress.close()


def offering(**fields: Any) -> Callable[[Exchange], None]:
    """An authorization that offers dns-persist-01."""

    def fault(exchange: Exchange) -> None:
        url = json.loads(exchange.proper[2])["challenges"][0]["url"]
        exchange.proceed(challenges=[{"type": "dns-persist-01", "url": url, "status": "pending"} | fields])

    return fault


def test_a_ca_that_does_not_offer_it_is_named_at_once(scripted_ca: Surroundings) -> None:
    reply = drive(scripted_ca.issuer(OPTIONS), request_for("www.example.org"), MemoryJournal())

    assert isinstance(reply, RequestRefused)
    assert "the issuer's options say challenge=dns-persist-01" in reply.problem.message


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"issuer-domain-names": ["ca.example"], "accounturi": "https://ca.example/acct/666"}, "another account"),
        ({"issuer-domain-names": []}, "does not say which CA"),
        ({"issuer-domain-names": ['ca.example" "x', "a b", 5]}, "does not say which CA"),
    ],
)
def test_a_ca_cannot_make_us_show_a_record_for_somebody_else(
    scripted: ScriptedCA, scripted_ca: Surroundings, fields: dict[str, Any], complaint: str
) -> None:
    scripted.fault("authorization", offering(**fields), 10)

    with pytest.raises(IssuerUnavailable, match=complaint):
        scripted_ca.issuer(OPTIONS).advance(request_for("www.example.org"), MemoryJournal())


def test_after_an_order_has_expired_the_next_is_made_when_the_record_is_there(
    scripted: ScriptedCA, scripted_ca: Surroundings, server: AuthoritativeServer
) -> None:
    scripted_ca.clock = clock = SteppedClock()
    scripted.fault("directory", lambda exchange: exchange.proceed(meta={"caaIdentities": ["ca.example"]}), 10)
    scripted.fault("authorization", offering(**{"issuer-domain-names": ["ca.example"]}), 10)
    scripted.fault("order", lambda exchange: exchange.proceed(expires="2020-01-01T00:00:00Z"))
    issuer, request, journal = scripted_ca.issuer(OPTIONS), request_for("late.example.org"), MemoryJournal()

    first = issuer.advance(request, journal)
    for _ in range(20):
        clock.forward(timedelta(minutes=10))
        waiting = issuer.advance(request, journal)
        assert isinstance(waiting, StillWaiting)
        assert "_validation-persist.late.example.org" in waiting.detail
    assert isinstance(first, StillWaiting)
    assert 1 == scripted.hits["new-order"]
    assert timedelta(minutes=5) == waiting.pause

    record = record_for(scripted_ca, "late.example.org")
    server.replace(record.name, [record.value])
    issued(drive(issuer, request, journal))

    assert 2 == scripted.hits["new-order"]


def test_a_ca_that_does_not_say_its_name_has_no_record_before_an_order(scripted_ca: Surroundings) -> None:
    with pytest.raises(Invalid, match="caaIdentities"):
        record_for(scripted_ca, "www.example.org")


def test_the_command_line_shows_the_record_before_anything_is_ordered(
    tmp_path: Path, pebble: Pebble, server: AuthoritativeServer
) -> None:
    environment = {"CERTBROKER_EGRESS__RESOLVERS": json.dumps([server.address])}
    with DevBroker(tmp_path / "broker", trust=[pebble.ca_path], environment=environment) as broker:
        wire, certbroker = Wire(broker), CommandLine(broker)
        certbroker.ok("issuer", "set", "ca", "--directory", pebble.directory_url, "--challenge", "dns-persist-01")

        record = certbroker.json("issuer", "dns-persist", "ca", "cli.example.org")
        shown = certbroker.ok("issuer", "dns-persist", "ca", "cli.example.org").out
        assert record["zone_line"] in shown
        assert "missing" in shown
        assert 1 == certbroker("issuer", "dns-persist", "ca", "192.0.2.1").status
        assert 5 == certbroker("issuer", "dns-persist", "nobody", "cli.example.org").status

        wire.ok("POST", "/certificates/web/create", creation("ca", "cli.example.org"))
        until("it waits", lambda: record["zone_line"] in wire.pending("web").get("status_details", "") or None)
        server.replace(record["name"], [record["value"]])

        wire.completed("web", 60)
        assert "good" in certbroker.ok("issuer", "dns-persist", "ca", "cli.example.org").out
