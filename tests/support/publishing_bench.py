"""Private CAs that publish, by a clock that is moved by hand and without any listener; and clients of theirs."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
from blockbuster import blockbuster_ctx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from certbroker.app import publications_of
from certbroker.config import build
from certbroker.domain.audit import Caller
from certbroker.domain.authority import Authority, AuthoritySettings, Issued, serial_text
from certbroker.domain.policy import SubjectAlternativeNames, parse_subject
from certbroker.foundation import lay_foundation
from certbroker.keystore.software import SoftwareKeyStore
from certbroker.services.objects.vaults import Vaults
from certbroker.services.pki.authorities import Authorities, NewAuthority
from certbroker.services.pki.publishing import Publishing
from certbroker.services.pki.signers import Signers
from certbroker.store.published_files import PublishedFiles
from certbroker.unsealing import open_seal
from certbroker.web.publication import PublicationApp
from certbroker.web.server import Listener, bind
from issuers.private_ca.lint import lint
from issuers.private_ca.prepare import prepare_leaf
from issuers.private_ca.profiles import PROFILES
from issuers.private_ca.signing import sign
from issuers.private_ca.urls import publication_urls
from tests.support.clock import SteppedClock

URL = "http://pki.example"
DAY = timedelta(days=1)

CALLER = Caller("operator", "Test")
LEAF_KEY = ec.generate_private_key(ec.SECP256R1())


class PublishingBench:
    """What CAs and their publishing need of a broker, and a vault for them. Nothing is published but by `publish`."""

    def __init__(self, directory: Path, url: str = URL) -> None:
        configuration = build({"data": {"directory": directory}, "pki": {"listen": "127.0.0.1:1", "url": url}})
        self.clock = SteppedClock()
        foundation = replace(lay_foundation(configuration), clock=self.clock)
        self._foundation = foundation
        self.store, self.directory = foundation.store, directory / "published"
        again = (directory / "seal.key").exists()
        self.seal = seal = open_seal(configuration.seal, directory, self.store)
        keystore = SoftwareKeyStore()
        vaults = Vaults(self.store, seal, self.clock)
        vaults.ensure_system()
        self.vault = vaults.find("authorities") if again else vaults.create(CALLER, "authorities")
        crl_life, ocsp_life = (
            timedelta(hours=configuration.pki.crl_hours),
            timedelta(hours=configuration.pki.ocsp_hours),
        )
        self.signers = Signers(self.store, seal, keystore, url, ocsp_life)
        self.authorities = Authorities(self.store, seal, keystore, self.clock, self.signers)
        self.publishing = Publishing(self.store, self.signers, self.clock, PublishedFiles(self.directory), crl_life)
        self.app = PublicationApp(publications_of(foundation), self.clock)

    def ca(self, name: str, key: str = "P-256", parent: str | None = None, shards: int = 1) -> Authority:
        """A new CA."""
        wanted = NewAuthority(f"CN={name}", key, parent=parent, settings=AuthoritySettings(shards=shards))
        return self.authorities.create(CALLER, self.vault, name, wanted)

    def issue(self, ca: Authority, life: timedelta = 30 * DAY) -> x509.Certificate:
        """A certificate of the CA, in its ledger."""
        signer = self.signers.open(ca)
        names = SubjectAlternativeNames(dns_names=("www.example.com",))
        key, profile = LEAF_KEY.public_key(), PROFILES["server"]
        now = self.clock.now()
        prepared = prepare_leaf(signer, profile, parse_subject("CN=www.example.com"), names, key, now, life)
        leaf = x509.load_der_x509_certificate(sign(lint(prepared)))
        entry = Issued(
            ca.id,
            serial_text(leaf.serial_number),
            leaf.fingerprint(hashes.SHA256()).hex(),
            self.vault.id,
            "",
            "",
            profile.name,
            int(leaf.not_valid_after_utc.timestamp()),
            prepared.shard,
        )
        self.store.write(lambda transaction: transaction.authorities.record(entry))
        return leaf

    def revoke(self, ca: Authority, leaf: x509.Certificate, reason: int = 1) -> None:
        """Enter it into the ledger, as the issuer does."""
        self.signers.of(self.vault.id).revoke(ca.name, leaf, reason, self.clock.now())

    def publish(self) -> int:
        """Publish all that is due; return how many turns CAs have had."""
        turns = 0
        while claimed := self.publishing.claim(10, frozenset()):
            for turn in claimed:
                self.publishing.go_on(turn)
            turns += len(claimed)
            assert turns < 100, "there is no end to it"
        return turns

    def ask(
        self, method: str, path: str, content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """One request to where it is published."""

        async def asking() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=URL) as client:
                return await client.request(method, path, content=content, headers=headers)

        return asyncio.run(asking())

    def crl(self, ca: Authority, shard: int | None = None) -> x509.CertificateRevocationList:
        """The list that is published now."""
        reply = self.ask("GET", publication_urls(URL, ca.id, shard).crl)
        assert reply.status_code == 200, reply.text
        return x509.load_der_x509_crl(reply.content)

    def status(
        self, ca: Authority, leaf: x509.Certificate, algorithm: hashes.HashAlgorithm | None = None
    ) -> ocsp.OCSPResponse:
        """What is published about a certificate now."""
        reply = self.ask("POST", publication_urls(URL, ca.id).ocsp, request_for(ca, leaf, algorithm))
        assert reply.status_code == 200, reply.text
        return ocsp.load_der_ocsp_response(reply.content)

    def close(self) -> None:
        self._foundation.close()


@contextmanager
def served(bench: PublishingBench, port: int = 0) -> Iterator[str]:
    """The URL under which the bench publishes, from a thread with an event loop that nothing may block."""
    listening = bind("127.0.0.1", port)
    started = threading.Event()
    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        listener, stop = Listener(listening, bench.app), asyncio.Event()
        await listener.start()
        with bench.store.reading_on_this_loop(), blockbuster_ctx("certbroker") as guard:
            for name, function in guard.functions.items():
                if name.startswith("sqlite3."):
                    # Single reads by primary key are made on the event loop: a change of thread takes longer.
                    function.can_block_in("certbroker/store/statement.py", {"run", "one", "all"})
                    function.can_block_in("certbroker/store/reading.py", {"glance", "release"})
            stops.append((asyncio.get_running_loop(), stop))
            started.set()
            await stop.wait()
        await listener.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(10)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        for loop, stop in stops:
            loop.call_soon_threadsafe(stop.set)
        thread.join()
        listening.close()


def certificate_of(ca: Authority) -> x509.Certificate:
    return x509.load_der_x509_certificate(ca.certificate)


def request_for(ca: Authority, leaf: x509.Certificate, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
    """An OCSP request in DER."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, certificate_of(ca), algorithm or hashes.SHA1())
    return builder.build().public_bytes(Encoding.DER)


def write_pem(path: Path, *certificates: x509.Certificate | x509.CertificateRevocationList) -> Path:
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in certificates))
    return path


def openssl(*arguments: str | Path) -> str:
    """What openssl says, which is to succeed."""
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
