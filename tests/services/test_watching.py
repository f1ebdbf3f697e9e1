"""What a CA has revoked is found, told once, and replaced with a new key; what cannot be known is said to be so."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import ReasonFlags

from certbroker.domain import operation as states
from certbroker.domain.checkup import Grade
from certbroker.domain.events import EventType
from certbroker.domain.lifecycle import Health
from certbroker.domain.objects import Kind
from certbroker.domain.policy import AUTO_RENEW, LifetimeAction
from certbroker.domain.records import Version
from certbroker.domain.revocation import Progress, Reason
from certbroker.domain.revocation_sources import Named, SourceStatus
from certbroker.domain.revocation_status import Standing
from certbroker.services.revocation.revocations import RevocationWish
from certbroker.store.crl_index import Damaged
from tests.support.certificates import Authority, der
from tests.support.revocation import crl, distribution_point, points_at
from tests.support.watch_bench import WatchBench, revoked, serial

RENEWED = (LifetimeAction(AUTO_RENEW, lifetime_percentage=80),)
FOUND = EventType.CERTIFICATE_REVOCATION_FOUND


def public(watch: WatchBench, version: Version) -> bytes:
    """The public key of a version."""
    key = watch.store.glance().objects.get(watch.bench.vault.id, Kind.KEY, version.name, version.version)
    assert key is not None
    assert key.key is not None
    return key.key.public


def _damaged() -> None:
    raise Damaged("The index of a CRL cannot be read.")


def lose_indexes(watch: WatchBench, directory: Path, *names: str) -> None:
    """What a disk that was replaced does to a broker that starts again."""
    for path in (directory / "lists").iterdir():
        if path.name in names or not names:
            path.unlink()
    watch.lists = type(watch.lists)(directory / "lists")
    watch.watching = watch.worker()


def check(watch: WatchBench, *names: str) -> None:
    """Have certificates checked now."""
    vault, now = watch.bench.vault.id, watch.clock.now()
    for name in names:
        watch.store.write(lambda transaction, name=name: transaction.watches.disturb(vault, name, now))
    watch.settle()


def test_a_revoked_certificate_is_replaced_at_once_with_another_key_and_told_once(watch: WatchBench) -> None:
    watch.publish()
    version = watch.issue(reuse_key=True, lifetime_actions=RENEWED)
    good = watch.standing()
    watch.publish(revoked(version, ReasonFlags.key_compromise))
    watch.bench.kind.steps.append(watch.step())
    watch.later(hours=1)
    health = watch.bench.lifecycle()
    operation = watch.store.glance().operations.pending(watch.bench.vault.id, "c")
    watch.later(seconds=10)
    new = watch.bench.current()
    keys = [public(watch, each) for each in (version, new)]

    assert Standing.GOOD is good
    assert operation is not None
    assert operation.cause is not None
    assert ("Revoked", version.version) == (operation.cause.trigger, operation.cause.replaces)
    assert "was revoked" in operation.cause.reason
    assert Health.RENEWING is health.health
    assert version.version != new.version
    assert Standing.GOOD is watch.standing()
    assert keys[0] != keys[1]
    assert version.certificate is not None
    known = watch.store.glance().revocations.get(version.certificate.sha256, watch.bench.vault.id, "c")
    assert known is not None
    assert (Progress.REVOKED, Reason.KEY_COMPROMISE, True) == (known.progress, known.reason, known.compromised)
    watch.later(days=1)
    assert (1, ["Revoked"]) == (watch.told(FOUND), watch.audited())
    assert Health.HEALTHY is watch.bench.lifecycle().health


def test_what_nobody_renews_by_itself_needs_a_person_who_is_told_what_to_do(watch: WatchBench) -> None:
    watch.publish()
    version = watch.take_over(watch.authority.issue(extensions=points_at(crl=watch.url())))
    watch.publish(revoked(version))
    watch.later(hours=1)
    lifecycle = watch.bench.lifecycle("imported")

    assert Standing.REVOKED is watch.standing("imported")
    assert Health.REVOKED is lifecycle.health
    assert "was revoked" in lifecycle.reason
    assert "A person brings its certificates" in lifecycle.reason
    assert 1 == watch.told(FOUND)
    assert watch.store.glance().operations.pending(watch.bench.vault.id, "imported") is None


def test_what_we_have_revoked_ourselves_is_not_told_again_nor_replaced_against_our_will(watch: WatchBench) -> None:
    watch.publish()
    version = watch.issue(lifetime_actions=RENEWED)
    wish = RevocationWish(Reason.SUPERSEDED, renew=False)
    watch.bench.revocations.revoke(watch.bench.caller, watch.bench.vault, "c", version.version, wish)
    watch.publish(revoked(version))
    watch.later(hours=1)

    assert Standing.REVOKED is watch.standing()
    assert (1, 0) == (watch.told(EventType.CERTIFICATE_REVOKED), watch.told(FOUND))
    assert Health.REVOKED is watch.bench.lifecycle().health
    assert version.version == watch.bench.current().version


def test_a_key_on_hold_is_told_and_forgotten_when_that_is_taken_back(watch: WatchBench) -> None:
    watch.publish()
    version = watch.issue(lifetime_actions=RENEWED)
    watch.publish(revoked(version, ReasonFlags.certificate_hold))
    watch.later(hours=1)
    held = watch.standing(), watch.bench.lifecycle().health, watch.told(FOUND)
    watch.publish()
    watch.later(hours=1)

    assert (Standing.ON_HOLD, Health.REVOKED, 1) == held
    assert (Standing.GOOD, Health.HEALTHY) == (watch.standing(), watch.bench.lifecycle().health)
    assert version.version == watch.bench.current().version
    assert ["OnHold", "Good"] == watch.audited()


def test_once_revoked_is_revoked_for_ever(watch: WatchBench) -> None:
    watch.publish()
    version = watch.take_over(watch.authority.issue(extensions=points_at(crl=watch.url())))
    watch.publish(revoked(version))
    watch.later(hours=1)
    watch.publish()
    watch.later(hours=1)

    assert Standing.REVOKED is watch.standing("imported")
    assert 1 == watch.told(FOUND)


def test_a_revoked_issuer_is_found_told_as_such_and_its_certificates_replaced_once(watch: WatchBench) -> None:
    root, path = Authority("Root"), "/root.crl"
    watch.authority = Authority("Middle", root, points_at(crl=watch.url(path)))
    watch.publish()
    watch.publish(path=path, authority=root)
    watch.issue(lifetime_actions=RENEWED)
    good = watch.standing()
    number = watch.authority.certificate.serial_number
    watch.publish((number, ReasonFlags.ca_compromise), path=path, authority=root)
    watch.bench.kind.steps.append(watch.step())
    watch.later(hours=1)
    watch.later(minutes=1)
    watch.later(days=1)
    lifecycle = watch.bench.lifecycle()

    assert Standing.GOOD is good
    assert 2 == len(watch.bench.kind.requests)  # The successor has the same issuer, so a third would be no better.
    assert Health.REVOKED is lifecycle.health
    assert "its issuer CN=Middle was revoked" in lifecycle.reason
    assert 2 == watch.told(FOUND)


def test_thousands_of_one_ca_cost_one_fetch_and_one_that_has_not_changed_costs_none(watch: WatchBench) -> None:
    watch.publish(headers={"etag": '"1"'})
    for name in ("a", "b", "d"):
        watch.issue(name=name)
    first = watch.publisher.asked_for("/list.crl")
    watch.later(hours=1)
    before = watch.source()
    watch.later(hours=1)
    after = watch.source()

    assert 1 == first
    assert 3 == watch.publisher.asked_for("/list.crl")
    assert '"1"' == watch.publisher.asked[-1][2]["if-none-match"]
    assert before.holding.base == after.holding.base
    assert before.holding.confirmed != after.holding.confirmed
    assert SourceStatus.FRESH is after.status


def test_what_was_revoked_is_found_among_many_by_one_walk(watch: WatchBench) -> None:
    watch.publish()
    versions = {name: watch.issue(name=name) for name in ("a", "b", "d")}
    watch.publish(revoked(versions["b"]))
    watch.later(hours=1)

    assert {"a": Standing.GOOD, "b": Standing.REVOKED, "d": Standing.GOOD} == {
        name: watch.standing(name) for name in versions
    }


def test_a_source_that_is_away_troubles_nobody_until_what_it_said_has_run_out(watch: WatchBench) -> None:
    watch.publish(life=timedelta(days=2))
    watch.issue()
    watch.publisher.put("/list.crl", status=503)
    watch.later(hours=5)
    failing = watch.source(), watch.standing()
    watch.later(days=2)
    stale = watch.source(), watch.standing()
    doctor = [each.grade for each in watch.bench.core.broker.doctor._revocation()]
    watch.publish()
    watch.later(hours=6)

    assert (SourceStatus.FAILING, Standing.GOOD) == (failing[0].status, failing[1])
    assert "status 503" in failing[0].holding.problem
    assert (SourceStatus.STALE, Standing.UNREACHABLE) == (stale[0].status, stale[1])
    assert [Grade.WARN] == doctor
    assert failing[0].holding.failing_since == stale[0].holding.failing_since
    assert (SourceStatus.FRESH, Standing.GOOD) == (watch.source().status, watch.standing())


def test_that_it_cannot_be_known_is_told_once_for_all_certificates_of_a_list(watch: WatchBench) -> None:
    for name in ("a", "b"):
        watch.issue(name=name)
    watch.later(hours=5)
    early = watch.told(EventType.REVOCATION_UNKNOWN)
    watch.later(hours=3)
    told = watch.messages(EventType.REVOCATION_UNKNOWN)
    watch.later(days=3)
    later = watch.told(EventType.REVOCATION_UNKNOWN)
    watch.publish(life=timedelta(days=1))
    watch.later(hours=7)
    well = watch.standing("a")
    watch.publisher.put("/list.crl", status=503)
    watch.later(days=2)
    watch.later(hours=7)

    assert 0 == early
    assert 1 == len(told) == later
    assert f"2 certificates of this vault cannot be known to be good: {watch.url()}" in told[0]
    assert "status 404" in told[0]
    assert Standing.GOOD == well
    assert 2 == watch.told(EventType.REVOCATION_UNKNOWN)


def test_a_delta_adds_and_takes_back(watch: WatchBench) -> None:
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(watch.url("/delta.crl"))], None, None, None)
    fresher = [(x509.FreshestCRL([point]), False)]

    def delta(number: int, *entries: tuple[int, ReasonFlags | None]) -> None:
        watch.publish(*entries, path="/delta.crl", number=number, extensions=[(x509.DeltaCRLIndicator(10), True)])

    watch.publish(number=10, extensions=fresher)
    delta(10)
    first, second = watch.issue(name="a"), watch.issue(name="b")
    good = watch.standing("a"), watch.standing("b")
    delta(11, revoked(first), revoked(second, ReasonFlags.certificate_hold))
    watch.later(hours=1)
    bad = watch.standing("a"), watch.standing("b")
    delta(12, revoked(first), revoked(second, ReasonFlags.remove_from_crl))
    watch.later(hours=1)
    back = watch.standing("a"), watch.standing("b")
    watch.publisher.put("/delta.crl", b"rubbish")
    watch.later(hours=1)

    assert (Standing.GOOD, Standing.GOOD) == good
    assert (Standing.REVOKED, Standing.ON_HOLD) == bad
    assert (Standing.REVOKED, Standing.GOOD) == back
    assert SourceStatus.FRESH is watch.source().status
    assert "not a CRL" in watch.source().holding.delta_problem


def test_a_delta_that_none_follows_is_asked_for_ever_more_seldom_and_taken_in_again_when_it_is_there(
    watch: WatchBench,
) -> None:
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(watch.url("/delta.crl"))], None, None, None)
    deltas = [(x509.DeltaCRLIndicator(10), True)]
    watch.publish(number=10, extensions=[(x509.FreshestCRL([point]), False)], life=timedelta(days=30))
    watch.publish(path="/delta.crl", number=11, extensions=deltas, life=timedelta(hours=3))
    version = watch.issue()
    watch.later(hours=3)
    before = [watch.publisher.asked_for(path) for path in ("/list.crl", "/delta.crl")]
    for _ in range(120):
        watch.later(minutes=1)
    asked = [
        watch.publisher.asked_for(path) - count for path, count in zip(("/list.crl", "/delta.crl"), before, strict=True)
    ]
    source = watch.source()
    watch.publish(revoked(version), path="/delta.crl", number=12, extensions=deltas, life=timedelta(hours=3))
    watch.later(hours=1)

    assert SourceStatus.FRESH is source.status
    assert "expired" in source.holding.delta_problem
    assert all(5 <= count <= 15 for count in asked), asked
    assert Standing.REVOKED is watch.standing()


def test_a_delta_that_is_lost_and_gone_does_not_keep_the_list_from_being_believed(
    watch: WatchBench, tmp_path: Path
) -> None:
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(watch.url("/delta.crl"))], None, None, None)
    watch.publish(number=10, extensions=[(x509.FreshestCRL([point]), False)])
    entry = 5, ReasonFlags.superseded
    watch.publish(entry, path="/delta.crl", number=11, extensions=[(x509.DeltaCRLIndicator(10), True)])
    watch.issue()
    watch.later(minutes=1)
    delta = watch.source().holding.delta
    assert delta is not None
    lose_indexes(watch, tmp_path, delta.file)
    watch.publisher.put("/delta.crl", status=404)
    check(watch, "c")

    assert Standing.GOOD is watch.standing()
    assert watch.source().holding.delta is None


def test_a_shard_that_is_another_certificates_says_nothing(watch: WatchBench) -> None:
    watch.publish(extensions=[distribution_point("http://crl.example/2.crl")])
    watch.issue()

    assert Standing.NOT_COVERED is watch.standing()
    assert "another distribution point: http://crl.example/2.crl" in watch.problem()
    watch.publish(extensions=[distribution_point(watch.url())])
    watch.later(hours=1)
    assert Standing.GOOD is watch.standing()


def test_a_mirror_that_the_operator_names_is_asked_instead(watch: WatchBench) -> None:
    original = "http://crl.example/1.crl"
    watch.watching = watch.worker(named=(Named("CN=Test*", crl=watch.url("/mirror.crl")),))
    watch.publish(path="/mirror.crl", extensions=[distribution_point(original)])
    watch.issue(points_at(crl=original), name="a")
    watch.issue([], name="b")

    assert Standing.GOOD is watch.standing("a")
    assert Standing.NOT_COVERED is watch.standing("b")
    assert ["/mirror.crl"] == [path for _, path, _ in watch.publisher.asked]


def test_an_issuer_that_is_not_in_the_chain_is_fetched(watch: WatchBench) -> None:
    root = Authority("Root")
    middle = Authority("Middle", root, points_at(crl=watch.url("/root.crl"), issuer=watch.url("/root.cer")))
    watch.publish(path="/root.crl", authority=root)
    watch.publish(authority=middle)
    watch.publisher.put("/root.cer", der(root.certificate))
    watch.publisher.put("/middle.cer", der(middle.certificate))
    given = middle.issue(extensions=points_at(crl=watch.url(), issuer=watch.url("/middle.cer")))
    version = watch.take_over(type(given)(given.key, given.certificate))

    assert ["CN=www.example.com", "CN=Middle"] == [each.subject for each in watch.verdict("imported").judged]
    assert Standing.GOOD is watch.standing("imported")
    watch.publish(revoked(version), authority=middle)
    watch.later(hours=1)
    assert Standing.REVOKED is watch.standing("imported")


def test_a_certificate_that_names_nobody_is_not_covered_and_asks_nobody(watch: WatchBench) -> None:
    watch.issue([])

    assert Standing.NOT_COVERED is watch.standing()
    assert [] == watch.publisher.asked


def test_a_deleted_certificate_and_what_only_it_needed_are_forgotten(watch: WatchBench) -> None:
    watch.publish()
    watch.issue()
    watch.bench.core.broker.deletions.delete(watch.bench.caller, watch.bench.vault, Kind.CERTIFICATE, "c")
    watch.watching.tidy()

    assert [] == watch.watching.listing(10)
    assert watch.store.glance().watches.get(watch.bench.vault.id, "c") is None


def test_a_crash_after_the_answer_costs_one_more_fetch_and_no_finding(
    watch: WatchBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.publish()
    version = watch.issue()
    watch.publish(revoked(version))
    watch.bench.until(watch.clock.now() + timedelta(hours=1))
    monkeypatch.setattr("certbroker.services.revocation.sources.RevocationSources._stored", lambda *_: 1 / 0)
    for each in watch.watching.sources.claim(10):
        with pytest.raises(ZeroDivisionError):
            watch.watching.sources.fetch(each)
    monkeypatch.undo()
    watch.later(minutes=31)

    assert Standing.REVOKED is watch.standing()
    assert 1 == watch.told(FOUND)


def test_an_index_that_is_gone_is_fetched_again(watch: WatchBench, tmp_path: Path) -> None:
    watch.publish()
    version = watch.issue()
    watch.later(minutes=1)
    lose_indexes(watch, tmp_path)
    watch.publish(revoked(version))
    check(watch, "c")

    assert Standing.REVOKED is watch.standing()


def test_who_was_judged_without_the_index_is_judged_again_by_a_list_that_has_not_changed(
    watch: WatchBench, tmp_path: Path
) -> None:
    watch.publish()
    for name in ("a", "b"):
        watch.issue(name=name)
    watch.later(minutes=1)
    lose_indexes(watch, tmp_path)
    taken = watch.store.write(
        lambda transaction: transaction.watches.take(watch.bench.vault.id, "a", watch.clock.now())
    )
    assert taken is not None
    watch.watching.check([taken])
    meanwhile = watch.standing("a")
    watch.settle()

    assert Standing.UNREACHABLE is meanwhile
    assert [Standing.GOOD, Standing.GOOD] == [watch.standing(name) for name in ("a", "b")]
    assert SourceStatus.FRESH is watch.source().status


def test_a_disk_that_keeps_no_index_does_not_have_the_list_fetched_without_end(
    watch: WatchBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.publish()
    watch.issue()
    watch.later(minutes=1)
    lose_indexes(watch, tmp_path)
    monkeypatch.setattr(type(watch.lists), "is_whole", lambda *_: False)
    monkeypatch.setattr(type(watch.lists), "find", lambda *_: _damaged())
    before = watch.publisher.asked_for("/list.crl")
    check(watch, "c")
    at_once = watch.publisher.asked_for("/list.crl") - before
    watch.later(seconds=59)
    soon = watch.publisher.asked_for("/list.crl") - before
    watch.later(seconds=1)

    assert (1, 1) == (at_once, soon)
    assert 2 == watch.publisher.asked_for("/list.crl") - before


def test_who_names_other_sources_has_all_checked_again(watch: WatchBench) -> None:
    watch.issue([])
    watch.watching = watch.worker(named=(Named("*", crl=watch.url()),))
    watch.watching.start()
    watch.publish()
    watch.later(minutes=10)

    assert Standing.GOOD is watch.standing()
    assert not states.is_finished(states.Prepared(watch.clock.now()))


def test_a_crl_for_another_issuer_at_the_same_url_is_refused_for_that_one_only(watch: WatchBench) -> None:
    other = Authority("Other")
    watch.publish()
    watch.issue()
    watch.take_over(other.issue(extensions=points_at(crl=watch.url())))

    assert Standing.GOOD is watch.standing()
    assert Standing.UNREACHABLE is watch.standing("imported")
    assert "another issuer" in watch.problem("imported")
    assert serial(watch.bench.current())
    assert crl(other.certificate, other.key)
