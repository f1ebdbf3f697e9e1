"""The use cases on a real database, without any web."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from certbroker.app import Core, open_core
from certbroker.config import build
from certbroker.domain.audit import Caller
from certbroker.domain.objects import Vault
from tests.support.delivery_bench import DeliveryBench
from tests.support.issuer_bench import Bench
from tests.support.revocation import Publisher
from tests.support.watch_bench import WatchBench


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    core = open_core(build({"data": {"directory": tmp_path}}))
    yield core
    core.close()


@pytest.fixture
def caller() -> Caller:
    return Caller("operator", "Test")


@pytest.fixture
def vault(core: Core, caller: Caller) -> Vault:
    return core.broker.vaults.create(caller, "vault")


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> DeliveryBench:
    return DeliveryBench(core, caller, vault)


@pytest.fixture(scope="module")
def publisher() -> Iterator[Publisher]:
    with Publisher() as publisher:
        yield publisher


@pytest.fixture(scope="module")
def shared_core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    core = open_core(build({"data": {"directory": tmp_path_factory.mktemp("data")}}))
    yield core
    core.close()


@pytest.fixture
def watch(shared_core: Core, caller: Caller, publisher: Publisher, tmp_path: Path) -> Iterator[WatchBench]:
    """A vault of its own in a broker that is shared, with nothing published yet."""
    publisher.pages.clear()
    publisher.asked.clear()
    vault = shared_core.broker.vaults.create(caller, f"v{secrets.token_hex(6)}")
    bench = WatchBench(Bench(shared_core, caller, vault), publisher, tmp_path)
    yield bench
    bench.close()
