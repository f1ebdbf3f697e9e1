"""A real broker for Azure's own clients, which are told of it by environment variables alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from azure.identity import DefaultAzureCredential

from tests.support.azure_environment import source
from tests.support.broker import DevBroker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevBroker]:
    """`certbroker dev`, with its environment file sourced."""
    with DevBroker(tmp_path_factory.mktemp("sdk") / "broker") as broker, pytest.MonkeyPatch.context() as patch:
        source(patch, broker.env)
        yield broker


@pytest.fixture
def connect(broker: DevBroker) -> Iterator[Callable[[type], Any]]:
    """Make a client of a class with its default options; it is closed at the end of the test."""
    with ExitStack() as open_clients:
        credential = open_clients.enter_context(DefaultAzureCredential())
        yield lambda kind: open_clients.enter_context(kind(broker.url, credential))


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"t-{secrets.token_hex(6)}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
