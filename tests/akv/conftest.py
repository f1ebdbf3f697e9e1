"""One broker in this process for each module, and a vault of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.memory_broker import MemoryBroker, VaultClient

ADMINISTRATOR = "Key Vault Administrator"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[MemoryBroker]:
    async with MemoryBroker(tmp_path_factory.mktemp("akv")).running() as broker:
        yield broker


@pytest.fixture(scope="module")
async def http(broker: MemoryBroker) -> AsyncIterator[httpx.AsyncClient]:
    async with broker.client() as http:
        yield http


@pytest.fixture(scope="module")
def administrator(broker: MemoryBroker) -> str:
    """A token that may do everything in all vaults."""
    return broker.token((ADMINISTRATOR, "/"))


@pytest.fixture
def vault(broker: MemoryBroker, http: httpx.AsyncClient, administrator: str) -> VaultClient:
    """A fresh vault."""
    return VaultClient(http, administrator, broker.new_vault())
