"""The databases that the benchmarks measure at scale are such as a broker has filled itself."""

from __future__ import annotations

from pathlib import Path

from benchmarks.population import VAULT, Population
from certbroker.domain.audit import Caller
from certbroker.domain.lifecycle import Health


def test_copies_are_looked_at_and_renewed_as_certificates_that_the_broker_has_made(tmp_path: Path) -> None:
    population = Population(tmp_path, 200)
    names = population.names(5, 1)
    with population.opened() as core:
        broker = core.broker
        counts = broker.store.glance().lifecycles.counts()
        idle = broker.renewals.claim(10), broker.operations.due(10)
        population.make_due(5)
        looks = broker.renewals.look(broker.renewals.claim(10))
        vault = broker.vaults.find(VAULT)
        for name in names:
            broker.renewals.request(Caller("operator", "Test"), vault, name, "")
        claimed = broker.operations.claim(broker.operations.due(10))

    assert {Health.HEALTHY: 200} == counts
    assert ([], []) == idle
    assert 5 == len(looks)
    for look in looks:
        assert look.facts is not None
        assert look.version is not None
        assert look.care.lifecycle.version == look.version.version
    assert {*names} == {operation.name for operation in claimed}
    assert {*names}.isdisjoint(population.names(5, 2))
