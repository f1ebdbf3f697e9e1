"""The broker as a process: how it ends, how it starts again, and what it offers to TLS clients."""

from __future__ import annotations

import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from pebble.loopback import free_ports
from tests.support.broker import DevBroker
from tests.support.wire import Wire, creation


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevBroker]:
    with DevBroker(tmp_path_factory.mktemp("server") / "broker") as broker:
        yield broker


def test_port_zero_is_replaced_by_the_real_port(broker: DevBroker) -> None:
    port = urlsplit(broker.url).port

    assert port
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass


def test_the_environment_file_is_private_and_can_be_sourced(broker: DevBroker) -> None:
    done = subprocess.run(
        ["sh", "-euc", f"set -a; . {shlex.quote(str(broker.env_file))}; set +a; env"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    sourced = dict(line.partition("=")[::2] for line in done.stdout.splitlines())

    assert 0o600 == broker.env_file.stat().st_mode & 0o777
    assert broker.env == {name: sourced.get(name) for name in broker.env}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=str)
def test_current_versions_of_tls_are_spoken(broker: DevBroker, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=broker.ca_path)
    context.minimum_version = context.maximum_version = version

    assert version.name.replace("_", ".") == _handshake(broker, context)


def test_tls_1_1_is_refused(broker: DevBroker) -> None:
    context = ssl.create_default_context(cafile=broker.ca_path)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1

    # The alert is the server's: a client that could not offer the version would say "no protocols available".
    with pytest.raises(ssl.SSLError, match=r"(?i)alert|protocol.version"):
        _handshake(broker, context)


@pytest.mark.parametrize("suites", ["kRSA", "DHE+AESGCM"])
def test_key_exchange_other_than_by_elliptic_curves_is_refused(broker: DevBroker, suites: str) -> None:
    context = ssl.create_default_context(cafile=broker.ca_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suites}:@SECLEVEL=0")

    with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        _handshake(broker, context)


def test_a_second_broker_on_the_same_directory_is_refused(broker: DevBroker, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "certbroker", "dev", "--data", str(broker.data_dir), "--port", "0"]
    done = subprocess.run(
        [*command, "--env-file", str(tmp_path / "env")], capture_output=True, text=True, timeout=60, check=False
    )

    assert 2 == done.returncode, done.stderr
    assert f"another broker is running on {broker.data_dir}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "env").exists()


def test_the_libraries_for_acme_are_loaded_when_an_issuer_needs_them(broker: DevBroker) -> None:
    """They are 10 MB. `acme` itself leaves no trace in the memory map, but one of what it brings does."""
    mapped = Path(f"/proc/{broker.process.pid}/maps")
    before = mapped.read_text()

    Wire(broker).set_acme_issuer("away", f"https://127.0.0.1:{free_ports(1)[0]}/dir")

    assert "charset_normalizer" not in before
    assert "charset_normalizer" in mapped.read_text()


def test_what_stands_in_certificates_leads_there_after_the_next_start_too(tmp_path: Path) -> None:
    """Unless somebody else has taken the port meanwhile."""
    with DevBroker(tmp_path / "broker") as broker:
        first = broker.env["CERTBROKER_PUBLICATION_URL"]
        again = broker.restart().env["CERTBROKER_PUBLICATION_URL"]
        broker.stop()
        with socket.create_server(("127.0.0.1", urlsplit(first).port or 0)):
            other = broker.start().env["CERTBROKER_PUBLICATION_URL"]

    assert first == again != other


def test_sigterm_answers_what_is_in_flight_and_the_next_start_goes_on(tmp_path: Path) -> None:
    """Also while an operation waits for a CA that cannot be reached. A commit that takes long is what is in flight."""
    slow = {"CERTBROKER_FAILPOINT": "store.before-commit:25:sleep"}
    with DevBroker(tmp_path / "broker", environment=slow) as broker:
        wire = Wire(broker)
        wire.set_acme_issuer("away", f"https://127.0.0.1:{free_ports(1)[0]}/dir")
        wire.ok("POST", "/certificates/waiting/create", creation("away", "www.example.org"))
        authority = broker.ca_path.read_bytes()
        answered: dict[int, httpx.Response | None] = {}
        progress = [time.monotonic()]

        def write() -> None:
            for number in range(40):
                answered[number] = wire.try_to("PUT", f"/secrets/s{number}", {"value": f"value {number}"})
                taken, progress[0] = time.monotonic() - progress[0], time.monotonic()
                if taken > 2:
                    return

        writing = threading.Thread(target=write)
        writing.start()
        while writing.is_alive() and time.monotonic() - progress[0] < 1.5:
            time.sleep(0.02)
        in_flight = writing.is_alive()
        begun = time.monotonic()
        broker.process.send_signal(signal.SIGTERM)
        status = broker.process.wait(20)
        took = time.monotonic() - begun
        writing.join()
        broker.environment = {}
        broker.start()

        assert in_flight
        assert {200} == {reply and reply.status_code for reply in answered.values()}
        assert 0 == status, broker.log()
        assert took < 12
        assert authority == broker.ca_path.read_bytes()
        assert f"value {len(answered) - 1}" == wire.ok("GET", f"/secrets/s{len(answered) - 1}")["value"]
        assert "inProgress" == wire.pending("waiting")["status"]


def _handshake(broker: DevBroker, context: ssl.SSLContext) -> str | None:
    with (
        socket.create_connection(("127.0.0.1", broker.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        return tls.version()
