"""One broker watches what another publishes: a certificate that is revoked there is found here, by CRL and by OCSP."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from certbroker.app import open_core
from certbroker.config import build
from certbroker.domain.audit import Caller
from certbroker.domain.revocation_sources import SourceKind
from certbroker.domain.revocation_status import Standing
from pebble.loopback import free_ports
from tests.support.certificates import Identity
from tests.support.issuer_bench import Bench
from tests.support.publishing_bench import LEAF_KEY, PublishingBench, certificate_of, served
from tests.support.revocation import Publisher
from tests.support.watch_bench import WatchBench


@pytest.mark.parametrize("shards", [1, 2])
def test_what_one_broker_publishes_another_understands(tmp_path: Path, empty_database: Path, shards: int) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        shutil.copy(empty_database, tmp_path / name / "certbroker.db")
    (port,) = free_ports(1)
    there = PublishingBench(tmp_path / "there", f"http://127.0.0.1:{port}")
    core, caller = open_core(build({"data": {"directory": tmp_path / "here"}})), Caller("operator", "Test")
    vault = core.broker.vaults.create(caller, "here")
    ca = there.ca("ca", shards=shards)
    leaf = there.issue(ca)
    there.publish()
    with served(there, port), Publisher() as nobody:
        here = WatchBench(Bench(core, caller, vault), nobody, tmp_path)
        here.take_over(Identity(LEAF_KEY, leaf, (certificate_of(ca),)))
        before = here.standing("imported")
        there.clock.forward(timedelta(hours=1))
        there.revoke(ca, leaf)
        there.publish()
        here.later(days=4)
        after = here.standing("imported")
        kinds = {each.kind for each in here.watching.listing(10)}
    here.close()
    core.close()
    there.close()

    assert (Standing.GOOD, Standing.REVOKED) == (before, after)
    assert SourceKind.CRL in kinds
