"""The use cases on a real database, without any web."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certbroker.app import Core, open_core
from certbroker.config import build
from certbroker.domain.audit import Caller
from certbroker.domain.objects import Vault
from tests.support.delivery_bench import DeliveryBench


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
