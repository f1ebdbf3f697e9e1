"""Certificates that nobody has told of are found at servers and in what CT monitors tell, and can be adopted."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import Mock

import pytest

from certbroker import failpoints
from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.channels import Channel
from certbroker.domain.discovery import Standing
from certbroker.domain.errors import Conflict, Invalid, NotFound
from certbroker.domain.objects import Kind, Vault
from certbroker.domain.policy import SELF
from certbroker.ports.egress import EgressFailed, OutsideResponse
from certbroker.ports.probe import StartTLS
from certbroker.services.discovery.discoveries import INVENTORY, SCAN, DiscoveryPlan, ct
from certbroker.services.housekeeping import Housekeeping
from tests.support.discovery_bench import DAY, HOUR, MONITOR, Site, foreign, managed, said, told
from tests.support.issuer_bench import Bench


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    channel = Channel(vault.id, "all", "test", events=("*",))
    core.broker.store.write(lambda transaction: transaction.channels.add(channel))
    return Bench(core, caller, vault)


def test_a_scan_tells_what_is_ours_from_what_is_not(bench: Bench) -> None:
    managed(bench, "www.example.com")
    site = Site(bench, "www.example.com", "shadow.example.com", "nobody.example.com", "garbage.example.com")
    ours = bench.current("ours").certificate
    assert ours is not None
    site.servers.shown = {
        "www.example.com": ours.leaf,
        "shadow.example.com": foreign("shadow.example.com"),
        "garbage.example.com": b"\x30\x03\x02\x01\x01",
    }
    site.tasks.work(INVENTORY)
    site.tasks.work(SCAN)
    bench.clock.moment += HOUR
    site.tasks.work(INVENTORY)
    found = site.discoveries.listing("unknown", "", 10).items
    known = site.discoveries.listing("known", "", 10).items

    assert [("shadow.example.com",)] == [each.names for each in found]
    assert ("shadow.example.com:443",) == found[0].places
    assert [("ours", bench.vault.id)] == [(each.name, each.vault_id) for each in known]
    assert [found[0].id] == told(bench)
    # At the next round it is seen again, and told of no more.
    bench.clock.moment += DAY
    site.tasks.work(SCAN)
    site.tasks.work(INVENTORY)
    assert [found[0].id] == told(bench)
    again = site.discoveries.get(found[0].id)
    assert again.first_seen is not None
    assert DAY <= again.seen - again.first_seen


def test_a_scan_looks_at_several_addresses_of_a_host(bench: Bench) -> None:
    hosts = ("one.example.com", "two.example.com", "three.example.com")
    site = Site(bench, *hosts)
    site.servers.shown = {host: foreign(host) for host in hosts}
    other = foreign("old.example.com")
    site.servers.behind = {hosts[0]: other, hosts[1]: None, hosts[2]: site.servers.shown[hosts[2]]}
    site.tasks.work(SCAN)
    bench.clock.moment += HOUR
    site.tasks.work(INVENTORY)
    found = {each.names[0]: each.places for each in site.discoveries.listing("unknown", "", 10).items}

    assert {**{host: (f"{host}:443",) for host in hosts}, "old.example.com": (f"{hosts[0]}:443",)} == found
    assert 4 == site.discoveries.report().tasks[-1].found


def test_a_scan_asks_for_tls_where_the_port_is_of_a_protocol_that_begins_without(bench: Bench) -> None:
    site = Site(bench, *(f"mail.example.com:{port}" for port in (25, 143, 443, 465, 587)))
    site.servers.shown = {"mail.example.com": foreign("mail.example.com")}
    for task in (SCAN, INVENTORY):
        site.tasks.work(task)
    (found,) = site.discoveries.listing("unknown", "", 10).items
    adopted, _ = site.discoveries.adopt(bench.caller, bench.vault, found.id, SELF)
    watched = {each.place.port: each.place.starttls for each in site.endpoints.listing(bench.vault, adopted.name)}

    wanted = {25: StartTLS.SMTP, 143: StartTLS.IMAP, 443: None, 465: None, 587: StartTLS.SMTP}
    assert wanted == site.servers.begun
    assert wanted == watched


def test_a_scan_goes_on_where_it_was_after_a_crash(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = [f"host-{number}.example.com" for number in range(5)]
    site = Site(bench, *hosts)
    monkeypatch.setattr("certbroker.services.discovery.tasks._LARGEST_CHUNK", 2)
    site.servers.shown = {host: foreign(host) for host in hosts}
    for point in ("discovery.scan.before", "discovery.scan.after"):
        monkeypatch.setattr(failpoints, "_armed", [failpoints._Armed(f"{point}:1:raise")])
        site.again().work(SCAN)
        bench.clock.moment += HOUR
    monkeypatch.setattr(failpoints, "_armed", [])
    for _ in range(3):
        site.again().work(SCAN)

    # The first two were looked at once more, since it was not on record that they had been.
    assert hosts == [*dict.fromkeys(host for host, _ in site.servers.looked)]
    assert 7 == len(site.servers.looked)
    assert 5 == len(site.standings())
    assert site.discoveries.report().tasks[-1].succeeded is not None


def test_a_certificate_for_a_name_of_ours_that_is_not_ours_is_told_once(bench: Bench) -> None:
    serial = managed(bench, "www.example.com", "shop.example.org")
    site = Site(bench)
    site.tasks.work(INVENTORY)
    long, short = "0" + "ab" * 16, "ff" * 16
    site.monitor.answers = [
        said([site.entry(f"0{serial}", "www.example.com"), site.entry(long, "evil.example.com")]),
        # The precertificate and the certificate, one for somebody else, and one that may not be stored yet.
        said([
            site.entry(long, "evil.example.com"),
            site.entry("77" * 16, "www.example.net"),
            site.entry(short, "new.example.com", begin=bench.clock.now()),
        ]),
    ]  # fmt: skip
    for _ in range(3):
        site.tasks.work(ct(MONITOR))
        bench.clock.moment += timedelta(seconds=6)
    site.tasks.work(INVENTORY)
    first = site.standings()
    bench.clock.moment += 3 * HOUR
    site.tasks.work(INVENTORY)

    assert {"ab" * 16: Standing.UNKNOWN, serial: Standing.KNOWN, short: Standing.NEW} == first
    assert Standing.UNKNOWN is site.standings()[short]
    assert sorted(["ab" * 16, short]) == sorted(told(bench))
    assert [
        f"{MONITOR}?q={query}&output=json&exclude=expired"
        for domain in ("example.com", "example.org")
        for query in (domain, f"%25.{domain}")
    ] == site.monitor.asked


@pytest.mark.parametrize("point", ["discovery.ask.before", "discovery.ask.after", "discovery.compare.before",
                                   "discovery.compare.after"])  # fmt: skip
def test_the_watch_goes_on_after_a_crash_and_tells_once(
    bench: Bench, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    managed(bench, "www.example.com")
    site = Site(bench)
    site.tasks.work(INVENTORY)
    site.monitor.answers = [said([site.entry("ab" * 16, "evil.example.com")])] * 4
    monkeypatch.setattr(failpoints, "_armed", [failpoints._Armed(f"{point}:1:raise")])
    for _ in range(3):
        for task in (ct(MONITOR), INVENTORY):
            site.again().work(task)
        bench.clock.moment += HOUR

    assert {"ab" * 16: Standing.UNKNOWN} == site.standings()
    assert ["ab" * 16] == told(bench)


@pytest.mark.parametrize("asked", [0, 1, 3])
def test_discovery_goes_on_when_the_clock_was_a_year_ahead(bench: Bench, asked: int) -> None:
    """Also where a round began by the wrong clock, of which there are two domains."""
    managed(bench, "www.example.com", "shop.example.org")
    site, housekeeping = Site(bench, "www.example.com"), Housekeeping(bench.store, bench.clock)
    bench.clock.moment += 365 * DAY
    housekeeping.beat()
    for task in (INVENTORY, SCAN, *[ct(MONITOR)] * asked):
        site.tasks.work(task)
        bench.clock.moment += timedelta(seconds=6)
    bench.clock.moment -= 365 * DAY
    housekeeping.beat()
    first = set(site.tasks.due())
    for _ in range(10):
        for due in site.tasks.due():
            site.tasks.work(due)
        bench.clock.moment += timedelta(seconds=6)
    managed(bench, "www.example.net")
    before = len(site.monitor.asked)
    for _ in range(8 * 24):
        bench.clock.moment += HOUR / 4
        for due in site.tasks.due():
            site.tasks.work(due)

    assert {INVENTORY, SCAN, ct(MONITOR)} == first
    assert f"{MONITOR}?q=example.net&output=json&exclude=expired" in site.monitor.asked[before:]
    assert all(each.succeeded and each.succeeded <= bench.clock.now() for each in site.discoveries.report().tasks)


def test_what_is_under_way_when_the_clock_goes_back_does_not_put_off_the_next_round(bench: Bench) -> None:
    managed(bench, "www.example.com")
    site, housekeeping = Site(bench), Housekeeping(bench.store, bench.clock)
    site.tasks.work(INVENTORY)
    start = bench.clock.now()
    bench.clock.moment += 365 * DAY
    housekeeping.beat()

    def meanwhile(method: str, url: str, **_: object) -> OutsideResponse:
        bench.clock.moment = start
        housekeeping.beat()
        raise EgressFailed("The server broke off.")

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(site.monitor, "request", meanwhile)
        site.tasks.work(ct(MONITOR))

    assert ct(MONITOR) in site.tasks.due()


def test_what_was_seen_is_adopted_or_ignored(bench: Bench) -> None:
    site = Site(bench, "shadow.example.com", "other.example.com")
    site.servers.shown = {host: foreign(host) for host in ("shadow.example.com", "other.example.com")}
    for task in (SCAN, INVENTORY):
        site.tasks.work(task)
    one, other = sorted(site.discoveries.listing("unknown", "", 10).items, key=lambda each: each.names, reverse=True)
    adopted, operation = site.discoveries.adopt(bench.caller, bench.vault, one.id, SELF)
    bench.operations.work(operation)
    watched = [(each.place.host, each.place.port) for each in site.endpoints.listing(bench.vault, adopted.name)]
    ignored = site.discoveries.ignore(bench.caller, other.id)
    site.tasks.work(INVENTORY)

    assert (Standing.ADOPTED, "shadow-example-com") == (adopted.standing, adopted.name)
    assert [("shadow.example.com", 443)] == watched
    assert ("shadow.example.com",) == operation.policy.sans.dns_names
    assert bench.current("shadow-example-com").certificate is not None
    assert Standing.IGNORED is ignored.standing
    assert {one.id: Standing.ADOPTED, other.id: Standing.IGNORED} == site.standings()
    with pytest.raises(Conflict, match="managed already"):
        site.discoveries.adopt(bench.caller, bench.vault, one.id, SELF)
    with pytest.raises(Conflict, match="choose another name"):
        site.discoveries.adopt(bench.caller, bench.vault, other.id, SELF, "shadow-example-com")
    with pytest.raises(NotFound):
        site.discoveries.ignore(bench.caller, "nothing")
    with pytest.raises(Invalid, match="state is one of"):
        site.discoveries.listing("lost", "", 10)
    assert bench.store.glance().objects.head(bench.vault.id, Kind.CERTIFICATE, "other-example-com") is None


def test_an_adoption_is_whole_or_has_not_happened(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(bench, "shadow.example.com")
    site.servers.shown = {"shadow.example.com": foreign("shadow.example.com")}
    for task in (SCAN, INVENTORY):
        site.tasks.work(task)
    (found,) = site.discoveries.listing("unknown", "", 10).items
    with monkeypatch.context() as broken:
        broken.setattr(site.endpoints, "add_with", Mock(side_effect=Invalid("There are too many.")))
        with pytest.raises(Invalid, match="too many"):
            site.discoveries.adopt(bench.caller, bench.vault, found.id, SELF)

    assert {found.id: Standing.UNKNOWN} == site.standings()
    assert bench.store.glance().objects.head(bench.vault.id, Kind.CERTIFICATE, "shadow-example-com") is None
    adopted, _ = site.discoveries.adopt(bench.caller, bench.vault, found.id, SELF)
    assert 1 == len(site.endpoints.listing(bench.vault, adopted.name))


def test_tasks_follow_the_configuration(bench: Bench, caller: Caller) -> None:
    site = Site(bench, "www.example.com")
    names = [each.id for each in site.discoveries.report().tasks]
    site.plan = DiscoveryPlan()
    site.again().prepare()

    assert sorted([SCAN, INVENTORY, ct(MONITOR)]) == names
    assert () == site.discoveries.report().tasks
    with pytest.raises(Invalid, match=r"discovery\.hosts"):
        site.use_cases().hurry(caller)
