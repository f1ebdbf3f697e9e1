"""The authority of one broker in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.memory_broker import MemoryBroker


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[MemoryBroker]:
    async with MemoryBroker(tmp_path_factory.mktemp("oauth")).running() as broker:
        yield broker


@pytest.fixture(scope="module")
async def http(broker: MemoryBroker) -> AsyncIterator[httpx.AsyncClient]:
    async with broker.client() as http:
        yield http
