"""One broker for all tests of the command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.broker import DevBroker
from tests.support.command_line import CommandLine


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevBroker]:
    with DevBroker(tmp_path_factory.mktemp("cli") / "a broker") as running:
        yield running


@pytest.fixture(scope="session")
def certbroker(broker: DevBroker) -> CommandLine:
    return CommandLine(broker)
