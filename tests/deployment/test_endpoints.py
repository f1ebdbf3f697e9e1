"""What is served is compared with what should be, and where they differ for long somebody is told."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from datetime import timedelta

import pytest

from certbroker.domain.endpoints import MOST_ENDPOINTS, Serving, read_place
from certbroker.domain.errors import Invalid, NotFound
from certbroker.domain.events import EventType
from certbroker.domain.lifecycle import Health
from certbroker.domain.objects import Changes, Kind
from certbroker.domain.policy import PEM
from certbroker.engine.probe import ProbeSweep
from certbroker.store.endpoints import Endpoint, Lane
from tests.deployment.conftest import HOUR, Watched
from tests.support.certificates import Authority
from tests.support.tcp_server import Script, Server, context_of, says, serving, shaking

MINUTE = timedelta(minutes=1)
NOT_DEPLOYED, DEPLOYED = EventType.CERTIFICATE_NOT_DEPLOYED, EventType.CERTIFICATE_DEPLOYED


def add(bench: Watched, server: Server, host: str = "127.0.0.1", **place: str) -> Endpoint:
    return bench.endpoints.add(bench.caller, bench.vault, "c", read_place(f"{host}:{server.port}", **place))


def test_an_endpoint_that_serves_the_version_in_use_is_looked_at_again_after_a_day_or_so(bench: Watched) -> None:
    version = bench.issued(content_type=PEM)
    with Server(shaking(context_of(bench.pem(version)))) as server:
        add(bench, server)
        (seen,) = bench.look()

    (sight,) = seen.standing.sights
    assert (Serving.CURRENT, "127.0.0.1", version.version, ()) == (
        seen.standing.serving,
        sight.address,
        sight.version,
        sight.findings,
    )
    assert seen.act_at is not None
    assert timedelta(hours=18) <= seen.act_at - bench.clock.now() <= timedelta(hours=30)
    assert [] == bench.told(NOT_DEPLOYED)


def test_renewed_but_the_old_one_is_served_becomes_an_alarm_and_ends(bench: Watched) -> None:
    """certmate #329, caprover #700, acme.sh #4556, certbot #9978."""
    old = bench.issued(content_type=PEM)
    with Server(shaking(context_of(bench.pem(old)))) as server:
        add(bench, server)
        bench.look()
        new = bench.issued(content_type=PEM)
        (at_first,) = bench.look()
        bench.clock.forward(HOUR + MINUTE)
        (later,) = bench.look()
        bench.look_after()
        unwell = bench.lifecycle()
        report = bench.core.broker.status.report()
        bench.clock.forward(HOUR)
        bench.look()
        told = bench.told(NOT_DEPLOYED)
        server.script = shaking(context_of(bench.pem(new)))
        bench.clock.forward(HOUR)
        (well,) = bench.look()
        bench.look_after()

    assert (Serving.OLD, None) == (at_first.standing.serving, at_first.standing.alarm)
    assert old.version == at_first.standing.sights[0].version
    assert at_first.act_at is not None
    assert later.standing.alarm is not None
    assert f"serves the older version {old.version}" in later.standing.alarm.reason
    assert 1 == len(told)
    assert f"127.0.0.1:{server.port} does not serve it" in told[0]
    assert (Health.NOT_DEPLOYED, later.standing.alarm.reason) == (unwell.health, unwell.reason)
    (trouble,) = (each for each in report.needs_person if each.vault == bench.vault.name)
    assert ("c", "NotDeployed", unwell.reason) == (trouble.name, trouble.state, trouble.reason)
    assert "certificate endpoint list c" in trouble.advice
    assert (Serving.CURRENT, None) == (well.standing.serving, well.standing.alarm)
    assert 1 == len(bench.told(DEPLOYED))
    assert Health.HEALTHY == bench.lifecycle().health


def test_after_a_new_version_it_is_looked_at_within_seconds_and_then_less_and_less_often(bench: Watched) -> None:
    old = bench.issued(content_type=PEM)
    with Server(shaking(context_of(bench.pem(old)))) as server:
        add(bench, server)
        bench.look()
        bench.issued()
        looks = []
        for _ in range(10):
            (seen,) = bench.look()
            assert seen.act_at is not None
            looks.append((seen.act_at - bench.clock.now()).total_seconds())
            bench.clock.moment = seen.act_at

    assert [10, 20, 40, 80, 160, 320, 640, 900, 900, 900] == looks


def test_what_is_served_after_it_has_expired_is_told_at_once_and_louder(bench: Watched) -> None:
    old = bench.issued(content_type=PEM)
    with Server(shaking(context_of(bench.pem(old)))) as server:
        add(bench, server)
        bench.clock.forward(timedelta(days=89))
        bench.issued()
        bench.look()
        quiet = bench.told(NOT_DEPLOYED)
        bench.clock.forward(timedelta(days=1))
        (seen,) = bench.look()

    assert [] == quiet
    assert seen.standing.alarm is not None
    assert seen.standing.alarm.grave
    assert "which expired on" in bench.told(NOT_DEPLOYED)[0]
    assert bench.store.glance().endpoints.totals().grave >= 1


def test_each_version_is_told_of_once_and_one_more_time_when_the_other_has_expired(bench: Watched) -> None:
    old = bench.issued(content_type=PEM)
    with Server(shaking(context_of(bench.pem(old)))) as server:
        add(bench, server)
        bench.look()
        for days in (30, 30, 31):
            bench.issued()
            bench.look()
            bench.clock.forward(2 * HOUR)
            bench.look()
            bench.clock.forward(timedelta(days=days))
            bench.look()

    told = bench.told(NOT_DEPLOYED)
    assert [False, False, False, True] == ["which expired on" in each for each in told]


def test_a_certificate_that_is_not_ours_is_shown_with_its_names(bench: Watched) -> None:
    bench.issued()
    with Server(serving(Authority("Other CA").issue("other.example.com"))) as server:
        add(bench, server)
        bench.look()
        bench.clock.forward(2 * HOUR)
        (seen,) = bench.look()

    (sight,) = seen.standing.sights
    assert (Serving.OTHER, "CN=other.example.com", "CN=Other CA", "") == (
        sight.serving,
        sight.subject,
        sight.issuer,
        sight.version,
    )
    assert "serves another certificate, of CN=other.example.com by CN=Other CA" in bench.told(NOT_DEPLOYED)[0]


def test_one_of_several_addresses_that_serves_the_old_one_is_found(
    bench: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = bench.issued(content_type=PEM)
    new = bench.issued(content_type=PEM)
    found = [(0, 0, 0, "", (address, 0)) for address in ("127.0.0.1", "127.0.0.2")]
    monkeypatch.setattr("certbroker.egress.addresses.socket.getaddrinfo", lambda *_, **__: found)
    with (
        Server(shaking(context_of(bench.pem(new)))) as server,
        Server(shaking(context_of(bench.pem(old))), "127.0.0.2", server.port),
    ):
        add(bench, server, "localhost")
        bench.look()
        bench.clock.forward(2 * HOUR)
        (seen,) = bench.look()

    assert Serving.OLD == seen.standing.serving
    assert {"127.0.0.1": new.version, "127.0.0.2": old.version} == {s.address: s.version for s in seen.standing.sights}
    assert "127.0.0.2 serves the older version" in bench.told(NOT_DEPLOYED)[0]
    assert "1 of 2 addresses" in bench.told(NOT_DEPLOYED)[0]


def test_an_address_can_be_named_and_so_can_the_name_that_is_asked_for(bench: Watched) -> None:
    version = bench.issued(content_type=PEM)
    with Server(shaking(context_of(bench.pem(version)))) as server:
        add(bench, server, "nowhere.invalid", address="127.0.0.1", server_name="localhost")
        (seen,) = bench.look()

    assert (Serving.CURRENT, ()) == (seen.standing.serving, seen.standing.findings)


UNCOVERED = "The certificate is not for www.example.org, which is the name that clients ask for"
INCOMPLETE = "The chain is incomplete: CN=Issuing CA is not sent, so clients that do not have it refuse the certificate"


@pytest.mark.parametrize(
    ("chained", "server_name", "why"), [(True, "www.example.org", UNCOVERED), (False, "localhost", INCOMPLETE)]
)
def test_what_clients_refuse_of_the_version_in_use_is_an_alarm_after_the_grace(
    bench: Watched, chained: bool, server_name: str, why: str
) -> None:
    bench.authority = Authority("Issuing CA", Authority("Root"))
    version = bench.issued(content_type=PEM)
    pem = bench.pem(version)
    if not chained:
        pem = pem[: pem.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
    with Server(shaking(context_of(pem))) as server:
        add(bench, server, server_name=server_name)
        (at_first,) = bench.look()
        bench.clock.forward(2 * HOUR)
        (later,) = bench.look()

    assert (Serving.FLAWED, (f"{why}.",), None) == (
        at_first.standing.serving,
        at_first.standing.findings,
        at_first.standing.alarm,
    )
    assert later.standing.alarm is not None
    assert f"serves the version in use, and clients refuse it: {why}." in bench.told(NOT_DEPLOYED)[0]


def test_a_bare_address_is_no_name_that_clients_ask_for(bench: Watched) -> None:
    version = bench.issued(content_type=PEM)
    with Server(shaking(context_of(bench.pem(version))), "127.0.0.2") as server:
        add(bench, server, "127.0.0.2")
        (seen,) = bench.look()

    assert Serving.CURRENT == seen.standing.serving
    assert ("The certificate is not for 127.0.0.2, which is the name that clients ask for.",) == seen.standing.findings


def test_a_version_that_rests_is_as_good_where_it_is_served_already(bench: Watched) -> None:
    first = bench.issued(content_type=PEM, activation_delay_hours=96)
    bench.kind.steps.append(bench.issued_for(90))
    bench.until(bench.clock.now() + timedelta(days=72))
    care = bench.store.glance().lifecycles.get(bench.vault.id, "c")
    assert care is not None
    assert care.staged is not None
    staged = bench.store.glance().objects.get(bench.vault.id, Kind.CERTIFICATE, "c", care.staged)
    assert staged is not None
    with Server(shaking(context_of(bench.pem(staged)))) as server:
        add(bench, server)
        (seen,) = bench.look()

    assert first.version == bench.current().version
    assert (Serving.CURRENT, care.staged) == (seen.standing.serving, seen.standing.sights[0].version)


def test_an_older_version_that_lasts_longer_is_an_older_version(bench: Watched) -> None:
    """Certificates have become shorter: one of a year is not as good as one of 90 days that has taken its place."""
    bench.ask(bench.issued_for(365), content_type=PEM)
    bench.turn()
    old = bench.current()
    bench.issued(content_type=PEM)
    with Server(shaking(context_of(bench.pem(old)))) as server:
        add(bench, server)
        (seen,) = bench.look()

    assert (Serving.OLD, old.version) == (seen.standing.serving, seen.standing.sights[0].version)


@pytest.mark.parametrize(
    ("script", "serving_"),
    [
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Serving.GARBAGE),
        (says(os.urandom(2048)), Serving.GARBAGE),
        (says(b""), Serving.UNREACHABLE),
    ],
)
def test_what_is_no_tls_is_seen_at_once_and_an_alarm_after_a_day(
    bench: Watched, script: Script, serving_: Serving
) -> None:
    bench.issued()
    with Server(script) as server:
        add(bench, server)
        (seen,) = bench.look()
        bench.clock.forward(23 * HOUR)
        bench.look()
        early = bench.told(NOT_DEPLOYED)
        bench.clock.forward(2 * HOUR)
        (later,) = bench.look()

    assert serving_ == seen.standing.serving
    assert seen.standing.sights[0].problem
    assert [] == early
    assert later.standing.alarm is not None
    assert "could not be looked at" in bench.told(NOT_DEPLOYED)[0]


def count(bench: Watched, serving: Serving) -> int:
    return sum(each.standing.serving is serving for each in bench.endpoints.listing(bench.vault, "c"))


def test_servers_that_hang_delay_no_other(bench: Watched) -> None:
    version = bench.issued(content_type=PEM)
    release = threading.Event()

    def hang(connection: socket.socket) -> None:
        release.wait(20)

    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Server(hang, f"127.0.0.{number}")) for number in range(2, 34)]
        for number, server in enumerate(servers, 2):
            add(bench, server, f"127.0.0.{number}")
        sweep = ProbeSweep(bench.endpoints)
        first = sweep.sweep()
        again = sweep.sweep()
        release.set()
        deadline = time.monotonic() + 20
        while (left := count(bench, Serving.UNPROBED)) and time.monotonic() < deadline:
            sweep.sweep()
            time.sleep(0.05)
        release.clear()
        good = stack.enter_context(Server(shaking(context_of(bench.pem(version)))))
        bench.clock.forward(timedelta(minutes=10))
        # All of those hang again, in threads of their own.
        blind = sweep.sweep()
        add(bench, good)
        sweep.sweep()
        deadline = time.monotonic() + 10
        while not (served := count(bench, Serving.CURRENT)) and time.monotonic() < deadline:
            time.sleep(0.05)
        release.set()
        sweep.stop()

    assert (16, 0, 0) == (first, again, left)
    assert 8 == blind
    assert 1 == served


def test_a_host_with_many_names_is_looked_at_by_one_at_a_time(bench: Watched) -> None:
    bench.issued()
    with Server(says(b"no")) as server:
        for number in range(5):
            add(bench, server, server_name=f"n{number}.example.com")
        first = bench.endpoints.due(Lane.SEEN, 10)

    assert 1 == len(first)


def test_a_look_during_which_a_new_version_is_made_writes_nothing(bench: Watched) -> None:
    version = bench.issued(content_type=PEM)
    with Server(shaking(context_of(bench.pem(version)))) as server:
        add(bench, server)
        (claimed,) = bench.endpoints.claim(bench.endpoints.due(Lane.SEEN, 10))
        bench.issued()
        bench.endpoints.look(claimed)
        (endpoint,) = bench.endpoints.listing(bench.vault, "c")
        (seen,) = bench.look()

    assert Serving.UNPROBED == endpoint.standing.serving
    assert Serving.OLD == seen.standing.serving


def test_nobody_is_told_of_a_certificate_that_is_disabled(bench: Watched) -> None:
    bench.issued()
    with Server(serving(Authority().issue())) as server:
        add(bench, server)
        bench.certificates.update(bench.caller, bench.vault, "c", "", Changes(enabled=False))
        bench.look()
        bench.clock.forward(2 * HOUR)
        (seen,) = bench.look()

    assert (Serving.OTHER, None) == (seen.standing.serving, seen.standing.alarm)


def test_endpoints_rest_while_a_certificate_is_deleted_and_go_with_it(bench: Watched) -> None:
    bench.issued()
    deletions = bench.core.broker.deletions
    with Server(says(b"no")) as server:
        add(bench, server)
        bench.look()
        deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
        bench.clock.forward(timedelta(days=1))
        resting = bench.endpoints.due(Lane.SEEN, 10)
        deletions.recover(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
        (recovered,) = bench.look()
        deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
        deletions.purge(bench.caller, bench.vault, Kind.CERTIFICATE, "c")

    assert [] == resting
    assert Serving.GARBAGE == recovered.standing.serving
    assert [] == bench.store.glance().endpoints.of(bench.vault.id, "c")


def test_no_alarm_outlasts_the_deletion_of_its_certificate_and_it_comes_again_where_that_is_recovered(
    bench: Watched,
) -> None:
    deletions, endpoints = bench.core.broker.deletions, bench.store.glance().endpoints
    before = endpoints.totals()
    bench.issued()
    with Server(says(b"no")) as server:
        add(bench, server)
        bench.look()
        bench.clock.forward(25 * HOUR)
        bench.look()
        alarming = endpoints.totals()
        deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
        deleted, troubled = endpoints.totals(), endpoints.troubled(Serving.GARBAGE, 10)
        deletions.recover(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
        (recovered,) = bench.look()
        bench.clock.forward(25 * HOUR)
        (again,) = bench.look()

    assert [1, 0] == [each.alarmed - before.alarmed for each in (alarming, deleted)]
    assert bench.vault.id not in [each.vault_id for each in troubled]
    assert (Serving.GARBAGE, None) == (recovered.standing.serving, recovered.standing.alarm)
    assert again.standing.alarm is not None
    assert 2 == len(bench.told(NOT_DEPLOYED))


def test_adding_is_safe_to_repeat_and_has_a_limit(bench: Watched) -> None:
    bench.issued()
    for number in range(MOST_ENDPOINTS):
        bench.endpoints.add(bench.caller, bench.vault, "c", read_place(f"h{number}.example.com"))
    again = bench.endpoints.add(bench.caller, bench.vault, "c", read_place("H0.example.com:443"))

    assert "h0.example.com:443" == again.place.text
    with pytest.raises(Invalid, match="at most 50 endpoints"):
        bench.endpoints.add(bench.caller, bench.vault, "c", read_place("one.more.example.com"))
    with pytest.raises(NotFound):
        bench.endpoints.add(bench.caller, bench.vault, "nothing", read_place("www.example.com"))
    with pytest.raises(NotFound):
        bench.endpoints.remove(bench.caller, bench.vault, "c", "0123456789abcdef")
