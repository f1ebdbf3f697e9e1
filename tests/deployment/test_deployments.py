"""What is deployed follows the version in use, by itself and for as long as it takes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from certbroker.domain.deployment import Material, Progress
from certbroker.domain.endpoints import read_place
from certbroker.domain.events import EventType
from certbroker.domain.lifecycle import Health
from certbroker.domain.objects import Kind
from certbroker.domain.policy import PEM
from certbroker.ports.deployer import Deployer, DeploymentFailed
from certbroker.services.deployment.deployments import Deployments
from certbroker.services.issuers.issuers import IssuerChanges
from certbroker.store.deployments import Deployment
from tests.deployment.conftest import HOUR, Watched
from tests.support.tcp_server import Server, context_of, shaking

MINUTE = timedelta(minutes=1)
FAILED, DONE = EventType.CERTIFICATE_NOT_DEPLOYED, EventType.CERTIFICATE_DEPLOYED


class Noting:
    """Keeps what it was given, unless it is told to do something else with it."""

    def __init__(self, name: str, vault: str, certificate: str = "c", settings: str = "1") -> None:
        self.name, self.vault, self.certificate, self.settings = name, vault, certificate, settings
        self.deployed: list[Material] = []
        self.meanwhile: Callable[[Material], None] = self.deployed.append

    def deploy(self, material: Material) -> None:
        self.meanwhile(material)


def refuse(material: Material) -> None:
    raise DeploymentFailed("The command /usr/sbin/nginx ended with status 1.")


class Deploying:
    """Deployments of a bench, made by hand."""

    def __init__(self, bench: Watched, *deployers: Noting) -> None:
        broker, found = bench.core.broker, {each.name: each for each in deployers}
        as_ports: dict[str, Deployer] = {**found}
        self.service = Deployments(broker.store, broker.vaults, broker.secrets, bench.clock, as_ports)
        self.service.adopt()

    def work(self) -> int:
        """Work once on what is due."""
        claimed = self.service.claim(10)
        for each in claimed:
            self.service.deploy(each)
        return len(claimed)

    def one(self) -> Deployment:
        (found,) = self.service.listing()
        return found


def test_each_version_is_deployed_once_and_then_its_endpoints_are_looked_at(bench: Watched) -> None:
    noting = Noting("www", bench.vault.name.upper())
    deploying = Deploying(bench, noting)
    nothing_yet = deploying.work()
    first = bench.issued(content_type=PEM)
    with Server(shaking(context_of(bench.pem(first)))) as server:

        def reload(material: Material) -> None:
            noting.deployed.append(material)
            server.script = shaking(context_of(material.combined))

        noting.meanwhile = reload
        deploying.work()
        bench.endpoints.add(bench.caller, bench.vault, "c", read_place(f"127.0.0.1:{server.port}"))
        bench.look()
        second = bench.issued()
        deploying.work()
        (seen,) = bench.look()
        idle = deploying.work()

    assert (1, 0) == (nothing_yet, idle)
    assert [first.version, second.version] == [each.version for each in noting.deployed]
    assert second.version == seen.standing.sights[0].version
    assert [] == bench.told(FAILED)
    assert (second.version, 0) == (deploying.one().progress.version, deploying.one().progress.failures)


def test_a_deployment_that_fails_is_tried_again_and_never_delays_a_renewal(bench: Watched) -> None:
    noting = Noting("www", bench.vault.name)
    noting.meanwhile = refuse
    deploying = Deploying(bench, noting)
    bench.issued()
    waits = []
    for _ in range(8):
        deploying.work()
        found = deploying.one()
        assert found.act_at is not None
        waits.append((found.act_at - bench.clock.now()) / MINUTE)
        bench.clock.moment = found.act_at
    bench.look_after()
    unwell = bench.lifecycle()
    renewed = bench.issued()
    noting.meanwhile = noting.deployed.append
    deploying.work()
    bench.look_after()

    assert [1, 2, 4, 8, 16, 32, 60, 60] == waits
    assert Health.NOT_DEPLOYED == unwell.health
    assert "The deployment www fails. The command /usr/sbin/nginx ended with status 1." == unwell.reason
    assert [renewed.version] == [each.version for each in noting.deployed]
    assert 1 == len(bench.told(FAILED))
    assert "has failed 3 times" in bench.told(FAILED)[0]
    assert ["Its deployment www has succeeded."] == bench.told(DONE)
    assert Health.HEALTHY == bench.lifecycle().health


def test_a_version_that_is_made_during_a_deployment_is_deployed_after_it(bench: Watched) -> None:
    noting = Noting("www", bench.vault.name)
    deploying = Deploying(bench, noting)
    first = bench.issued()
    made: list[str] = []

    def meanwhile(material: Material) -> None:
        noting.deployed.append(material)
        if not made:
            made.append(bench.issued().version)

    noting.meanwhile = meanwhile
    deploying.work()
    between = deploying.one()
    deploying.work()

    assert [first.version, *made] == [each.version for each in noting.deployed]
    assert first.version == between.progress.version
    assert between.act_at is not None
    assert (made[0], None) == (deploying.one().progress.version, deploying.one().act_at)


def test_what_the_configuration_has_changed_is_deployed_again_and_what_it_has_dropped_is_forgotten(
    bench: Watched,
) -> None:
    Deploying(bench, Noting("www", bench.vault.name))
    bench.issued()
    Deploying(bench, Noting("www", bench.vault.name)).work()
    same = Deploying(bench, Noting("www", bench.vault.name)).work()
    changed = Deploying(bench, Noting("www", bench.vault.name, settings="2")).work()
    Deploying(bench)

    assert (0, 1) == (same, changed)
    assert [] == bench.store.glance().deployments.all()


def failing(bench: Watched) -> None:
    """A deployment that has failed so often that people have been told, of an issuer that suggests no renewals."""
    bench.core.broker.issuers.set(bench.caller, bench.vault, "silent", IssuerChanges(provider="Silent"))
    noting = Noting("www", bench.vault.name)
    noting.meanwhile = refuse
    deploying = Deploying(bench, noting)
    bench.issued(issuer="silent")
    for _ in range(4):
        deploying.work()
        bench.clock.forward(HOUR)
    bench.look_after()
    assert Health.NOT_DEPLOYED == bench.lifecycle().health


def test_a_section_that_is_corrected_ends_the_failure_that_people_were_told_of(bench: Watched) -> None:
    failing(bench)
    wrong = Noting("www", bench.vault.name, settings="2")
    wrong.meanwhile = refuse
    Deploying(bench, wrong).work()
    bench.look_after()
    still, told_again = bench.lifecycle().health, len(bench.told(FAILED))
    Deploying(bench, Noting("www", bench.vault.name, settings="3")).work()
    bench.look_after()

    assert (Health.NOT_DEPLOYED, 1) == (still, told_again)
    assert Health.HEALTHY == bench.lifecycle().health
    assert ["Its deployment www has succeeded."] == bench.told(DONE)


@pytest.mark.parametrize("moved_to", [None, ("elsewhere", "c"), ("", "another")])
def test_a_certificate_does_not_suffer_from_a_section_that_is_not_its_own_any_more(
    bench: Watched, moved_to: tuple[str, str] | None
) -> None:
    failing(bench)
    Deploying(bench, *([Noting("www", moved_to[0] or bench.vault.name, moved_to[1])] if moved_to else []))
    bench.look_after()

    assert Health.HEALTHY == bench.lifecycle().health
    assert all(each.progress == Progress() for each in bench.store.glance().deployments.all())


def test_a_deployment_fails_no_more_once_its_certificate_is_deleted_and_goes_on_when_that_is_recovered(
    bench: Watched,
) -> None:
    failing(bench)
    deletions = bench.core.broker.deletions
    deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    noting = Noting("www", bench.vault.name)
    deploying = Deploying(bench, noting)
    deploying.work()
    resting = deploying.one()
    deletions.recover(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    deploying.work()

    assert (Progress(), None) == (resting.progress, resting.act_at)
    assert [bench.current().version] == [each.version for each in noting.deployed]


def test_a_deployment_of_a_certificate_that_is_deleted_leaves_nothing_to_look_after(bench: Watched) -> None:
    deletions = bench.core.broker.deletions
    noting = Noting("www", bench.vault.name)

    def meanwhile(material: Material) -> None:
        deletions.delete(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
        refuse(material)

    noting.meanwhile = refuse
    deploying = Deploying(bench, noting)
    bench.issued()
    for _ in range(3):
        deploying.work()
        bench.clock.forward(HOUR)
    noting.meanwhile = meanwhile
    deploying.work()
    after_deployment = bench.store.glance().lifecycles.get(bench.vault.id, "c")
    Deploying(bench)

    assert after_deployment is None
    assert bench.store.glance().lifecycles.get(bench.vault.id, "c") is None


def test_a_key_that_may_not_leave_the_vault_is_a_failure_that_says_so(bench: Watched) -> None:
    deploying = Deploying(bench, Noting("www", bench.vault.name))
    bench.issued(exportable=False)
    deploying.work()

    assert "set exportable in its policy" in deploying.one().progress.problem


@pytest.mark.parametrize("error", [RuntimeError("a mistake of ours"), OSError("too many open files")])
def test_a_mistake_of_ours_is_tried_again_as_any_failure(bench: Watched, error: Exception) -> None:
    noting = Noting("www", bench.vault.name)

    def mistake(material: Material) -> None:
        raise error

    noting.meanwhile = mistake
    deploying = Deploying(bench, noting)
    bench.issued()
    deploying.work()

    assert "unexpected error" in deploying.one().progress.problem
    assert deploying.one().act_at is not None


def test_a_claim_is_over_with_its_lease(bench: Watched) -> None:
    deploying = Deploying(bench, Noting("www", bench.vault.name))
    bench.issued()
    claimed = deploying.service.claim(10)
    meanwhile = deploying.service.claim(10)
    bench.clock.forward(HOUR)

    assert (1, 0, 1) == (len(claimed), len(meanwhile), len(deploying.service.claim(10)))
