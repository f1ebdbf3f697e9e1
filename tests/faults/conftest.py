"""One Pebble for each module and worker, behind it a broker that dies at a named point, or before it a faulty proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pebble.launcher import Pebble
from tests.support.acme_bench import EXTERNAL_ACCOUNT, ACMEBench
from tests.support.fault_proxy import FaultProxy
from tests.support.mortal import Mortal
from tests.support.peers import require_pebble
from tests.support.zygote import Zygote


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    binaries = require_pebble()
    with Pebble(tmp_path_factory.mktemp("pebble"), binaries=binaries, authz_reuse=0, retry_after=0) as running:
        yield running


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, pebble: Pebble, zygote: Zygote) -> Iterator[Mortal]:
    mortal = Mortal(tmp_path_factory.mktemp("faults") / "broker", pebble, zygote)
    mortal.start()
    mortal.wire.token()
    yield mortal
    mortal.broker.stop()


@pytest.fixture(scope="module")
def exact_pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """A CA that refuses no nonce and never skips a validation, so that requests can be counted."""
    binaries = require_pebble()
    folder = tmp_path_factory.mktemp("pebble")
    eab = dict([EXTERNAL_ACCOUNT])
    with Pebble(folder, binaries=binaries, nonce_reject=0, authz_reuse=0, retry_after=0, eab=eab) as running:
        yield running


@pytest.fixture(scope="module")
def module_proxy(tmp_path_factory: pytest.TempPathFactory, exact_pebble: Pebble) -> Iterator[FaultProxy]:
    with FaultProxy(tmp_path_factory.mktemp("proxy"), exact_pebble) as proxy:
        yield proxy


@pytest.fixture
def proxy(module_proxy: FaultProxy) -> FaultProxy:
    """What stands between the broker and the CA, with nothing scripted."""
    module_proxy.start().reset()
    return module_proxy


@pytest.fixture(scope="module")
def module_bench(
    tmp_path_factory: pytest.TempPathFactory, exact_pebble: Pebble, module_proxy: FaultProxy
) -> Iterator[ACMEBench]:
    trust = [module_proxy.ca_path, exact_pebble.ca_path]
    with ACMEBench(tmp_path_factory.mktemp("bench"), exact_pebble.http_port, trust) as bench:
        yield bench


@pytest.fixture
def bench(module_bench: ACMEBench) -> ACMEBench:
    """The services, with nothing to do."""
    module_bench.reset()
    return module_bench
