"""The composition root: the only module that names concrete classes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from certbroker.config import Configuration, ConfigurationError, DNSUpdateSection, split_address
from certbroker.egress import EgressPolicy, HTTPEgress
from certbroker.engine.scheduler import Engine
from certbroker.keystore import seal_keys
from certbroker.keystore.seal import EnvelopeSeal
from certbroker.keystore.software import SoftwareKeyStore
from certbroker.ports.issuer import DNSPublisher
from certbroker.ports.seal import SealKey, WrappedKey
from certbroker.services.access import Access
from certbroker.services.backup import Backups
from certbroker.services.broker import Broker
from certbroker.services.certificates import Certificates
from certbroker.services.deletion import Deletions
from certbroker.services.issuers import Board, Issuers
from certbroker.services.keys import Keys
from certbroker.services.listings import Listings
from certbroker.services.operations import Operations
from certbroker.services.secrets import Secrets
from certbroker.services.server_certificate import ServerCertificate
from certbroker.services.tokens import Tokens
from certbroker.services.vaults import Vaults
from certbroker.store import migrations
from certbroker.store.database import SQLiteStore
from certbroker.web.akv.vault import VaultApp
from certbroker.web.challenges import ChallengeApp
from certbroker.web.hosts import Hosts
from certbroker.web.own import own_site
from certbroker.web.server import Certificate, Listener, bind
from certbroker.web.site import Site

_CERTIFICATE_CHECK_SECONDS: Final = 60


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class _Keks:
    """The wrapped keys, as the seal wants to find them."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store

    def get(self, kek_id: int) -> WrappedKey | None:
        return self._store.glance().vaults.kek(kek_id)

    def current(self, vault_id: int) -> WrappedKey | None:
        return self._store.glance().vaults.current_kek(vault_id)


@dataclass(frozen=True, slots=True)
class Core:
    """The broker without its listeners: enough for administration at the machine itself."""

    configuration: Configuration
    broker: Broker
    seal: EnvelopeSeal
    tenant: str
    wake: threading.Event
    lock: IO[str]

    def close(self) -> None:
        self.broker.store.close()
        self.lock.close()


def open_core(configuration: Configuration) -> Core:
    """Open the database, the seal and the use cases. Raises ConfigurationError, Sealed, Invalid."""
    directory = configuration.data.directory
    lock = _lock(directory)
    clock = SystemClock()
    database = directory / "certbroker.db"
    migrations.upgrade(database)
    store = SQLiteStore(database, secrets.token_hex(8))
    # Nobody else has the directory open, so whoever held a lease is dead.
    store.write(lambda transaction: transaction.operations.release_all())
    seal = EnvelopeSeal(_seal_key(configuration, store), _Keks(store))
    keystore = SoftwareKeyStore()
    wake = threading.Event()
    tenant = _setting(store, "tenant", lambda: str(uuid.uuid4()))
    vaults = Vaults(store, seal, clock)
    vaults.ensure_system()
    issuers = _issuers(configuration, store, seal, clock)
    operations = Operations(store, seal, keystore, issuers, clock, owner=secrets.token_hex(8))
    broker = Broker(
        store=store,
        clock=clock,
        vaults=vaults,
        secrets=Secrets(store, seal, keystore, clock),
        keys=Keys(store),
        certificates=Certificates(store, seal, keystore, clock, operations, wake.set),
        operations=operations,
        issuers=issuers,
        board=Board(store),
        listings=Listings(store),
        deletions=Deletions(store, clock),
        backups=Backups(store, seal, clock),
        access=Access(store, clock),
        tokens=Tokens(store, seal, clock, tenant),
    )
    return Core(configuration, broker, seal, tenant, wake, lock)


class Application:
    """The whole process: listeners, web and engine."""

    def __init__(self, core: Core) -> None:
        server = core.configuration.server
        listening = _bind("server.listen", server.listen)
        port: int = listening.getsockname()[1]
        self._core = core
        self.authority = (server.authority or f"https://login.{server.base_domain}:{{port}}").replace(
            "{port}", str(port)
        )
        self.hosts = Hosts(server.base_domain, server.vault_hosts, self.authority, core.tenant)
        site = Site(VaultApp(core.broker), self.hosts, own_site(core.broker, self.hosts))
        self.server_certificate = _server_certificate(core, self.authority)
        self._listener = Listener(listening, site, self._certificate())
        self._challenges: Listener | None = None
        if server.http01_listen is not None:
            answers = _bind("server.http01_listen", server.http01_listen)
            self._challenges = Listener(answers, ChallengeApp(core.broker.board.answer))
        self._engine = Engine(core.broker, core.wake)

    @property
    def port(self) -> int:
        return self._listener.port

    async def run(self, stop: asyncio.Event, ready: Callable[[Application], None]) -> None:
        """Serve until `stop` is set; `ready` is called once requests are answered."""
        with self._core.broker.store.reading_on_this_loop():
            await self._serve(stop, ready)
        self._core.close()

    async def _serve(self, stop: asyncio.Event, ready: Callable[[Application], None]) -> None:
        await self._listener.start()
        if self._challenges is not None:
            await self._challenges.start()
        self._engine.start()
        watcher = asyncio.get_running_loop().create_task(self._watch_certificate())
        ready(self)
        await stop.wait()
        watcher.cancel()
        await self._listener.stop()
        await asyncio.to_thread(self._engine.stop)
        if self._challenges is not None:
            await self._challenges.stop()

    def _certificate(self) -> Certificate:
        """The files to serve TLS with, after a renewal where that is ours to do."""
        if self.server_certificate is not None:
            self.server_certificate.refresh()
            return Certificate(self.server_certificate.chain, self.server_certificate.key)
        tls = self._core.configuration.tls
        assert tls.certificate is not None
        assert tls.key is not None
        return Certificate(tls.certificate, tls.key)

    async def _watch_certificate(self) -> None:
        """Swap the certificate whenever its file has changed, by our renewal or by somebody else's."""
        certificate = await asyncio.to_thread(self._certificate)
        seen = _modified(certificate)
        while True:
            await asyncio.sleep(_CERTIFICATE_CHECK_SECONDS)
            certificate = await asyncio.to_thread(self._certificate)
            if _modified(certificate) != seen:
                seen = _modified(certificate)
                await self._listener.swap(certificate)


def _issuers(configuration: Configuration, store: SQLiteStore, seal: EnvelopeSeal, clock: SystemClock) -> Issuers:
    from issuers import kinds

    egress = configuration.egress
    policy = EgressPolicy(
        allowed_networks=egress.allowed_networks,
        allowed_hosts=egress.allowed_hosts,
        plain_http_hosts=egress.plain_http_hosts,
        trust=tuple(str(path) for path in egress.trust),
        proxy=egress.proxy,
    )
    return Issuers(store, seal, clock, kinds(), HTTPEgress(policy), _publishers(configuration))


def _publishers(configuration: Configuration) -> Mapping[str, DNSPublisher]:
    from issuers.acme.dns_hook import DNSHook, DNSHookPublisher
    from issuers.acme.dns_update import DNSUpdatePublisher, DNSUpdateServer

    found: dict[str, DNSPublisher] = {}
    for name, section in configuration.dns.items():
        if isinstance(section, DNSUpdateSection):
            values = section.model_dump(exclude={"kind", "key_secret"})
            found[name] = DNSUpdatePublisher(
                DNSUpdateServer(key_secret=section.key_secret.get_secret_value(), **values)
            )
        else:
            found[name] = DNSHookPublisher(DNSHook(section.command, section.environment, section.timeout))
    return found


def _lock(directory: Path) -> IO[str]:
    """Make the data directory, and make sure that no other broker uses it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (directory / "certbroker.lock").open("w")
    except OSError as error:
        raise ConfigurationError(f"data.directory: {directory} cannot be written: {error.strerror}.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise ConfigurationError(f"data.directory: another broker is running on {directory}.") from None
    return lock


def _seal_key(configuration: Configuration, store: SQLiteStore) -> SealKey:
    seal = configuration.seal
    if seal.credential is not None:
        return seal_keys.from_credential(seal.credential)
    if seal.passphrase is not None:
        salt = bytes.fromhex(_setting(store, "seal salt", lambda: os.urandom(16).hex()))
        return seal_keys.from_passphrase(seal.passphrase.get_secret_value(), salt)
    path = seal.file or configuration.data.directory / "seal.key"
    if not path.exists() and not store.glance().vaults.keks():
        return seal_keys.create_file(path)
    return seal_keys.from_file(path)


def _setting(store: SQLiteStore, name: str, make: Callable[[], str]) -> str:
    """A setting that is made once and kept."""
    value = store.glance().vaults.setting(name)
    if value is None:
        value = fresh = make()
        store.write(lambda transaction: transaction.vaults.put_setting(name, fresh))
    return value


def _server_certificate(core: Core, authority: str) -> ServerCertificate | None:
    """The keeper of our own certificate, unless the operator brings one."""
    configuration = core.configuration
    if configuration.tls.certificate is not None:
        return None
    server = configuration.server
    host = authority.removeprefix("https://").partition("/")[0].rpartition(":")[0].strip("[]")
    names = dict.fromkeys((f"*.{server.base_domain}", server.base_domain, host, "localhost", *server.vault_hosts))
    store, seal = core.broker.store, core.seal
    return ServerCertificate(store, seal, core.broker.clock, configuration.data.directory, tuple(names))


def _bind(key: str, address: str) -> socket.socket:
    try:
        return bind(*split_address(address))
    except OSError as error:
        raise ConfigurationError(f"{key}: cannot listen on {address}: {error.strerror}.") from None


def _modified(certificate: Certificate) -> tuple[int, int]:
    return certificate.chain.stat().st_mtime_ns, certificate.key.stat().st_mtime_ns
