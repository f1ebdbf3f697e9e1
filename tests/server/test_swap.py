"""The server's certificate is exchanged under load, and our own is renewed in time."""

from __future__ import annotations

import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from cryptography import x509

from certbroker.app import open_core
from certbroker.config import build
from certbroker.services.server_certificate import ServerCertificate
from tests.support.certificates import Authority, Identity, pem
from tests.support.serving import Installation


class SteppedClock:
    def __init__(self) -> None:
        self.moment = datetime.now(UTC)

    def now(self) -> datetime:
        return self.moment


def test_files_are_exchanged_without_a_failed_request(tmp_path: Path) -> None:
    authority = Authority()
    first, second = authority.issue("localhost"), authority.issue("localhost")
    chain, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    root = tmp_path / "root.pem"
    root.write_text(pem(authority.certificate))
    _install(first, chain, key)
    tls = f'[tls]\ncertificate = "{chain}"\nkey = "{key}"\ncheck_seconds = 0.5\n'
    installation = Installation(tmp_path / "installation", tls)
    url = f"https://localhost:{installation.port}/healthz"
    failures: list[str] = []
    seen: set[int] = set()
    stop = threading.Event()

    def hammer() -> None:
        with httpx.Client(verify=ssl.create_default_context(cafile=root), timeout=10) as http:
            while not stop.is_set():
                try:
                    with http.stream("GET", url) as reply:
                        shown = reply.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(True)
                        reply.read()
                    seen.add(x509.load_der_x509_certificate(shown).serial_number)
                    if reply.status_code != 200:
                        failures.append(str(reply.status_code))
                except httpx.TransportError as error:
                    failures.append(repr(error))
                time.sleep(0.005)

    with installation.serve() as broker:
        _wait(url, root)
        clients = [threading.Thread(target=hammer) for _ in range(4)]
        for client in clients:
            client.start()
        time.sleep(1)
        before = set(seen)
        _install(second, chain, key)
        deadline = time.monotonic() + 30
        while "certificate swapped" not in broker.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        seen.clear()
        time.sleep(1)
        stop.set()
        for client in clients:
            client.join()
        status = broker.stop()

    assert [] == failures
    assert {first.certificate.serial_number} == before
    assert {second.certificate.serial_number} == seen
    assert 0 == status


def test_our_own_certificate_is_renewed_at_two_thirds_of_its_life(tmp_path: Path) -> None:
    core = open_core(build({"data": {"directory": tmp_path}}))
    clock = SteppedClock()
    own = ServerCertificate(core.broker.store, core.seal, clock, tmp_path, ("localhost",))
    try:
        assert own.refresh()
        first = x509.load_pem_x509_certificate(own.chain.read_bytes())
        life = first.not_valid_after_utc - first.not_valid_before_utc
        authority = own.authority.read_bytes()

        clock.moment = first.not_valid_before_utc + life * 2 / 3 - timedelta(seconds=1)
        assert not own.refresh()
        clock.moment += timedelta(seconds=1)
        assert own.refresh()
        assert not own.refresh()
    finally:
        core.close()
    second = x509.load_pem_x509_certificate(own.chain.read_bytes())
    assert first.serial_number != second.serial_number
    assert authority == own.authority.read_bytes()
    second.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))


def _install(identity: Identity, chain: Path, key: Path) -> None:
    key.write_text(identity.key_pem())
    chain.write_text(pem(identity.certificate))


def _wait(url: str, root: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(url, verify=ssl.create_default_context(cafile=root)).json()["status"] == "ok":
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)
