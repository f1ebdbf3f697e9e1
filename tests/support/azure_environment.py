"""The environment in which Azure's clients find a broker."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp.connector
import pytest


def source(patch: pytest.MonkeyPatch, env: Mapping[str, str]) -> None:
    """Set the variables of a broker's environment file, also for what reads them once for a whole process."""
    for name, value in env.items():
        patch.setenv(name, value)
    # aiohttp takes the trusted certificates when it is imported; a test process meets one broker after another.
    patch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", aiohttp.connector._make_ssl_context(True))
