import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.softhsm import SoftToken, TokenFolder


@pytest.fixture(scope="session")
def token_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenFolder]:
    folder = TokenFolder(Path(tmp_path_factory.mktemp("softhsm")))
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(folder.configuration)
    yield folder
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture
def hsm(token_folder: TokenFolder) -> SoftToken:
    return token_folder.make()
