"""The server's certificate is exchanged under load, and our own is renewed in time."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certbroker.app import open_core
from certbroker.config import build
from certbroker.services.server_certificate import ServerCertificate
from tests.support.certificates import Authority, Identity, pem
from tests.support.serving import Installation, Serving


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


def test_what_cannot_be_served_changes_nothing_and_is_taken_as_soon_as_it_can(tmp_path: Path) -> None:
    """Also where its files look as they did at the last look, as when a key becomes readable."""
    authority = Authority()
    first, second = authority.issue("localhost"), authority.issue("localhost")
    unusable = authority.issue("localhost", key=ec.generate_private_key(ec.SECP521R1()))
    chain, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    root = tmp_path / "root.pem"
    root.write_text(pem(authority.certificate))
    _install(first, chain, key)
    tls = f'[tls]\ncertificate = "{chain}"\nkey = "{key}"\ncheck_seconds = 0.2\n'
    installation = Installation(tmp_path / "installation", tls)
    url = f"https://localhost:{installation.port}/healthz"

    with installation.serve() as broker:
        _wait(url, root)
        _install(unusable, chain, key)
        _logged(broker, "TLS is served with keys on P-256")
        kept = _serial(installation.port, root)
        key.write_text(first.key_pem())
        chain.write_text(pem(second.certificate))
        _logged(broker, "not that of the first certificate")
        kept_again = _serial(installation.port, root)
        looked_at = key.stat().st_mtime_ns
        replacement = tmp_path / "tls.key.new"
        replacement.write_text(second.key_pem())
        os.utime(replacement, ns=(looked_at, looked_at))
        replacement.rename(key)
        _logged(broker, "certificate swapped")
        taken = _serial(installation.port, root)
        status = broker.stop()

    assert [first.certificate.serial_number] * 2 == [kept, kept_again]
    assert second.certificate.serial_number == taken
    assert 0 == status


def test_a_broker_that_cannot_serve_with_its_certificate_says_so_and_does_not_start(tmp_path: Path) -> None:
    identity = Authority().issue("localhost", key=ec.generate_private_key(ec.SECP521R1()))
    chain, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    _install(identity, chain, key)
    installation = Installation(tmp_path / "installation", f'[tls]\ncertificate = "{chain}"\nkey = "{key}"\n')
    wrong = installation.run("serve", "--config", str(installation.config))
    key.unlink()
    _install(Authority().issue("localhost"), chain, tmp_path / "elsewhere")
    missing = installation.run("serve", "--config", str(installation.config))

    assert (2, 2) == (wrong.returncode, missing.returncode), wrong.stderr + missing.stderr
    assert f"tls.certificate: {chain}: TLS is served with keys on P-256" in wrong.stderr
    assert f"tls.key: {key}: the file cannot be read: No such file or directory." in missing.stderr
    assert "Traceback" not in wrong.stderr + missing.stderr


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


def _serial(port: int, root: Path) -> int:
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=root)
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        shown = tls.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def _logged(broker: Serving, text: str) -> None:
    """Wait until the log says so."""
    deadline = time.monotonic() + 30
    while text not in (log := broker.log.read_text()):
        assert broker.process.poll() is None, log
        assert time.monotonic() < deadline, log
        time.sleep(0.05)


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
