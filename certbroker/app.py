"""The composition root: the only module that names concrete classes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import socket
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

import structlog

from certbroker import notify
from certbroker.config import Configuration, ConfigurationError, DNSLexiconSection, DNSUpdateSection, split_address
from certbroker.domain.errors import Sealed
from certbroker.egress import EgressPolicy, HTTPEgress, OutsideDNS
from certbroker.engine.scheduler import Engine
from certbroker.keystore.seal import EnvelopeSeal
from certbroker.keystore.software import SoftwareKeyStore
from certbroker.mailing import mail_server
from certbroker.notify.mail import try_out
from certbroker.ports.clock import Clock
from certbroker.ports.dns import DNS
from certbroker.ports.issuer import DNSPublisher, IssuerKind
from certbroker.ports.notifier import NotifierResources
from certbroker.services.access import Access
from certbroker.services.backup import Backups
from certbroker.services.broker import Broker
from certbroker.services.certificates import Certificates
from certbroker.services.channels import Channels
from certbroker.services.contacts import Contacts
from certbroker.services.deletion import Deletions
from certbroker.services.deliveries import Deliveries
from certbroker.services.digests import Digests
from certbroker.services.doctor import Doctor
from certbroker.services.governor import Governor
from certbroker.services.housekeeping import Housekeeping
from certbroker.services.inbox import Inbox
from certbroker.services.issuers import Board, Issuers
from certbroker.services.keys import Keys
from certbroker.services.lifecycles import Lifecycles
from certbroker.services.listings import Listings
from certbroker.services.meters import Meters
from certbroker.services.metrics import Metrics
from certbroker.services.operations import Operations
from certbroker.services.pulse import Pulse
from certbroker.services.readiness import Readiness
from certbroker.services.rehearsals import Rehearsals
from certbroker.services.renewals import LEASE, Renewals
from certbroker.services.revocation import Revocations
from certbroker.services.seal_rotation import SealRotation
from certbroker.services.secret_expiry import SecretExpiry
from certbroker.services.secrets import Secrets
from certbroker.services.server_certificate import CHAIN_FILE, KEY_FILE, ServerCertificate
from certbroker.services.status import Status
from certbroker.services.tokens import Tokens
from certbroker.services.vaults import Vaults
from certbroker.services.watcher import Watcher
from certbroker.store import migrations
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction
from certbroker.supervision import Supervision
from certbroker.unsealing import open_seal, retry_pauses, setting
from certbroker.web.akv.vault import VaultApp
from certbroker.web.challenges import ChallengeApp
from certbroker.web.hosts import Hosts
from certbroker.web.monitoring import MonitoringApp
from certbroker.web.own import own_site
from certbroker.web.sealed import Entrance, SealedSite
from certbroker.web.server import Certificate, Listener, bind
from certbroker.web.site import Site
from certbroker.web.tls_alpn import Prepared, ValidationListener

# Requests that write wait for a commit that they share, so the more wait, the more share it. asyncio has six on two
# cores.
_REQUEST_THREADS: Final = 32
_log = structlog.get_logger("certbroker")


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Foundation:
    """What is there whether or not the seal can be opened: the database."""

    configuration: Configuration
    store: SQLiteStore
    clock: Clock
    tenant: str
    lock: IO[str]
    meters: Meters
    readiness: Readiness

    def close(self) -> None:
        self.store.close()
        self.lock.close()


@dataclass(frozen=True, slots=True)
class Core:
    """The broker without its listeners: enough for administration at the machine itself."""

    configuration: Configuration
    broker: Broker
    seal: EnvelopeSeal
    tenant: str
    inbox: Inbox
    egress: HTTPEgress
    reach: HTTPEgress
    foundation: Foundation

    def close(self) -> None:
        self.egress.close()
        self.reach.close()
        self.foundation.close()


def open_core(configuration: Configuration) -> Core:
    """Open the database, the seal and the use cases. Raises ConfigurationError, Sealed."""
    foundation = lay_foundation(configuration)
    try:
        return unseal(foundation)
    except BaseException:
        foundation.close()
        raise


def lay_foundation(configuration: Configuration) -> Foundation:
    """Open the database alone. Raises ConfigurationError."""
    directory = configuration.data.directory
    lock = _lock(directory)
    database = directory / "certbroker.db"
    migrations.upgrade(database)
    store = SQLiteStore(database, secrets.token_hex(8))
    # Nobody else has the directory open, so whoever held a lease is dead.
    clock = SystemClock()
    store.write(lambda transaction: _release_leases(transaction, clock.now()))
    tenant = setting(store, "tenant", lambda: str(uuid.uuid4()))
    pulse = Pulse()
    readiness = Readiness(store, directory, pulse)
    return Foundation(configuration, store, clock, tenant, lock, Meters(store, pulse), readiness)


def unseal(foundation: Foundation, authority: str | None = None, kinds: Mapping[str, IssuerKind] | None = None) -> Core:
    """Open the seal and the use cases. May be tried again after it has raised Sealed.

    `authority` is the broker's own URL, where its port is known only now. `kinds` of issuers, by provider in lower
    case, stand beside those that are installed.
    """
    from issuers import kinds as installed

    configuration, store, clock = foundation.configuration, foundation.store, foundation.clock
    seal = open_seal(configuration.seal, configuration.data.directory, store)
    keystore = SoftwareKeyStore()
    inbox = Inbox()
    vaults = Vaults(store, seal, clock)
    vaults.ensure_system()
    rotation = SealRotation(store, seal, clock)
    rotation.reseal()
    policy = _egress_policy(configuration)
    egress, names = HTTPEgress(policy), _names(configuration, policy)
    # Where CAs look for answers to http-01 there is no TLS; private addresses stay out of reach.
    reach = HTTPEgress(replace(policy, plain_http_hosts=("*",)))
    governor = Governor(store, clock)
    mail = mail_server(configuration.mail, configuration.egress)
    contacts = Contacts(store, clock, mail=mail is not None)
    contacts.sync()
    notifiers = notify.kinds(mail, apprise=configuration.egress.allow_apprise)
    hosts = _hosts(foundation, authority or _authority(configuration, split_address(configuration.server.listen)[1]))
    resources = NotifierResources(egress, clock, urlsplit(hosts.authority).hostname or hosts.base_domain)
    found = {**installed(), **(kinds or {})}
    issuers = Issuers(store, seal, clock, found, egress, _publishers(configuration, names), names, governor)
    meters = foundation.meters
    operations = Operations(store, seal, keystore, issuers, clock, secrets.token_hex(8), meters)
    renewals = Renewals(store, issuers, operations, clock, inbox, meters)
    housekeeping = Housekeeping(store, clock)
    rehearsals = Rehearsals(issuers, keystore, clock)
    sign_in = None if mail is None else partial(try_out, mail)
    readiness = foundation.readiness
    doctor = Doctor(store, clock, issuers, rotation, readiness, rehearsals, egress, reach, sign_in)
    broker = Broker(
        store=store,
        clock=clock,
        vaults=vaults,
        secrets=Secrets(store, seal, keystore, clock),
        keys=Keys(store),
        certificates=Certificates(store, seal, keystore, clock, operations, inbox),
        operations=operations,
        renewals=renewals,
        revocations=Revocations(store, seal, keystore, issuers, clock, inbox),
        issuers=issuers,
        governor=governor,
        contacts=contacts,
        channels=Channels(store, seal, clock, notifiers, inbox),
        deliveries=Deliveries(store, seal, notifiers, resources, hosts.vault_url),
        digests=Digests(store, clock, weekly=configuration.mail is not None and configuration.mail.digest == "weekly"),
        board=Board(store),
        listings=Listings(store),
        deletions=Deletions(store, clock),
        backups=Backups(store, seal, clock),
        access=Access(store, clock),
        tokens=Tokens(store, seal, clock, foundation.tenant),
        rotation=rotation,
        housekeeping=housekeeping,
        secret_expiry=SecretExpiry(store, clock),
        meters=meters,
        readiness=readiness,
        lifecycles=Lifecycles(store, renewals),
        status=Status(store, clock, readiness, meters.pulse, rotation, governor, housekeeping),
        doctor=doctor,
    )
    readiness.sealed = None
    return Core(configuration, broker, seal, foundation.tenant, inbox, egress, reach, foundation)


class Application:
    """The whole process: listeners, web and engine. While the seal cannot be opened, only HTTPS is served, to say so.

    `prepare` is called when the seal is open and before anything is served from it. Raises Sealed when there is not
    even a certificate to say so with, which can only be at the first start.
    """

    def __init__(self, foundation: Foundation, prepare: Callable[[Core], None] = lambda core: None) -> None:
        server = foundation.configuration.server
        listening = _bind("server.listen", server.listen)
        port: int = listening.getsockname()[1]
        self.authority = _authority(foundation.configuration, port)
        self.hosts = _hosts(foundation, self.authority)
        self.server_certificate: ServerCertificate | None = None
        self._foundation = foundation
        self._prepare = prepare
        self._core: Core | None = None
        self._sealed = SealedSite(self.hosts)
        self._entrance = Entrance(self._sealed)
        self._pauses = retry_pauses()
        try:
            self._open()
        except Sealed as reason:
            if not all(path.exists() for path in self._files()):
                raise
            self._remain_sealed(reason)
        certificate = self._certificate()
        self._served = _modified(certificate)
        self._listener = Listener(listening, self._entrance, certificate)
        self._http01 = None if server.http01_listen is None else _bind("server.http01_listen", server.http01_listen)
        self._tls_alpn01 = (
            None if server.tls_alpn01_listen is None else _bind("server.tls_alpn01_listen", server.tls_alpn01_listen)
        )
        self._monitoring = _monitoring(foundation)

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def monitoring_port(self) -> int | None:
        """Where health and metrics are told; None where they are not."""
        return None if self._monitoring is None else self._monitoring.port

    async def run(self, stop: asyncio.Event, ready: Callable[[Application], None]) -> None:
        """Serve until `stop` is set; `ready` is called once the broker is open and requests are answered."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_REQUEST_THREADS, "request"))
        with self._foundation.store.reading_on_this_loop():
            await self._run(stop, ready)
        (self._core or self._foundation).close()

    async def _run(self, stop: asyncio.Event, ready: Callable[[Application], None]) -> None:
        await self._listener.start()
        if self._monitoring is not None:
            await self._monitoring.start()
        loop = asyncio.get_running_loop()
        watcher = loop.create_task(self._watch_certificate())
        supervision = Supervision(os.environ)
        feeding = loop.create_task(supervision.feed(lambda: self._foundation.meters.pulse.is_moving))
        # A sealed broker has started: it serves, says so, and goes on by itself.
        supervision.started("Sealed" if self._core is None else "Starting")
        core = await self._opened(stop)
        engine = None
        challenges: list[Listener | ValidationListener] = []
        if core is not None:
            challenges = self._challenge_listeners(core)
            for listener in challenges:
                await listener.start()
            engine = Engine(core.broker, core.inbox, (core.broker.rotation.resume,), _watcher(core))
            engine.start()
            supervision.status("Working")
            ready(self)
            await stop.wait()
        supervision.stopping()
        watcher.cancel()
        await self._listener.stop()
        if engine is not None:
            await asyncio.to_thread(engine.stop)
        for listener in challenges:
            await listener.stop()
        if self._monitoring is not None:
            await self._monitoring.stop()
        feeding.cancel()

    def _challenge_listeners(self, core: Core) -> list[Listener | ValidationListener]:
        from issuers.acme.tls_alpn import validation_certificate

        board, clock = core.broker.board, core.broker.clock
        listeners: list[Listener | ValidationListener] = []
        if self._http01 is not None:
            listeners.append(Listener(self._http01, ChallengeApp(partial(board.answer, "http-01"))))
        if self._tls_alpn01 is not None:

            def prepare(place: str) -> Prepared | None:
                answer = board.answer("tls-alpn-01", place)
                return None if answer is None else validation_certificate(place, answer, clock.now())

            listeners.append(ValidationListener(self._tls_alpn01, prepare))
        return listeners

    async def _opened(self, stop: asyncio.Event) -> Core | None:
        """The broker as soon as its seal can be opened; None when it is to stop before that."""
        while self._core is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._sealed.retry_in)
            if stop.is_set():
                return None
            try:
                await asyncio.to_thread(self._open)
                _log.info("the broker is unsealed")
            except Sealed as reason:
                self._remain_sealed(reason)
        return self._core

    def _open(self) -> None:
        """Open the seal, and let the broker answer instead of the notice that it is sealed. Raises Sealed."""
        core = unseal(self._foundation, self.authority)
        self._prepare(core)
        own = _server_certificate(core, self.authority)
        if own is not None:
            own.refresh()
        self.server_certificate = own
        self._entrance.application = Site(VaultApp(core.broker), self.hosts, own_site(core.broker, self.hosts))
        self._core = core

    def _remain_sealed(self, reason: Sealed) -> None:
        self._foundation.readiness.sealed = reason.message
        self._sealed.explain(reason.message, next(self._pauses))
        _log.warning("the broker is sealed", reason=reason.message, retry_in=self._sealed.retry_in)

    def _files(self) -> tuple[Path, Path]:
        """The files to serve TLS with: the operator's, or those that we keep."""
        tls, directory = self._foundation.configuration.tls, self._foundation.configuration.data.directory
        return tls.certificate or directory / CHAIN_FILE, tls.key or directory / KEY_FILE

    def _certificate(self) -> Certificate:
        """The files to serve TLS with, after a renewal where that is ours to do."""
        if self.server_certificate is not None:
            self.server_certificate.refresh()
        return Certificate(*self._files())

    async def _watch_certificate(self) -> None:
        """Swap the certificate whenever its file has changed, by our renewal or by somebody else's."""
        while True:
            await asyncio.sleep(self._foundation.configuration.tls.check_seconds)
            try:
                certificate = await asyncio.to_thread(self._certificate)
                modified = _modified(certificate)
                if modified != self._served:
                    self._served = modified
                    await self._listener.swap(certificate)
            except Exception:
                # What is served goes on being served, and the files may be whole again at the next look.
                _log.exception("the server certificate could not be looked after")


def _watcher(core: Core) -> Watcher | None:
    section, broker = core.configuration.monitoring, core.broker
    if section.ping_url is None:
        return None
    url = section.ping_url.get_secret_value()
    return Watcher(
        url, section.ping_seconds, core.egress, broker.readiness, broker.meters, failures=section.ping_failures
    )


def _monitoring(foundation: Foundation) -> Listener | None:
    """The listener for health and metrics, which is there from the start, sealed or not."""
    section = foundation.configuration.monitoring
    if section.listen is None:
        return None
    listening = _bind("monitoring.listen", section.listen)
    readiness = foundation.readiness
    limit = section.certificate_metrics
    metrics = Metrics(foundation.store, foundation.clock, foundation.meters, readiness, limit)
    return Listener(listening, MonitoringApp(readiness, metrics))


def _authority(configuration: Configuration, port: int) -> str:
    server = configuration.server
    return (server.authority or f"https://login.{server.base_domain}:{{port}}").replace("{port}", str(port))


def _hosts(foundation: Foundation, authority: str) -> Hosts:
    server = foundation.configuration.server
    return Hosts(server.base_domain, server.vault_hosts, authority, foundation.tenant)


def _release_leases(transaction: SQLTransaction, now: datetime) -> None:
    transaction.operations.release_all()
    transaction.lifecycles.release(now, LEASE)
    transaction.revocations.release_all(now)
    transaction.channels.release_all()


def _egress_policy(configuration: Configuration) -> EgressPolicy:
    section = configuration.egress
    return EgressPolicy(
        allowed_networks=section.allowed_networks,
        allowed_hosts=section.allowed_hosts,
        plain_http_hosts=section.plain_http_hosts,
        trust=tuple(str(path) for path in section.trust),
        proxy=section.proxy,
    )


def _names(configuration: Configuration, policy: EgressPolicy) -> OutsideDNS:
    try:
        return OutsideDNS(policy, configuration.egress.resolvers)
    except ValueError as error:
        raise ConfigurationError(f"egress.resolvers: {error}.") from None


def _publishers(configuration: Configuration, names: DNS) -> Mapping[str, DNSPublisher]:
    from issuers.acme.dns_hook import DNSHook, DNSHookPublisher
    from issuers.acme.dns_lexicon import LexiconProvider, LexiconPublisher
    from issuers.acme.dns_update import DNSUpdatePublisher, DNSUpdateServer

    found: dict[str, DNSPublisher] = {}
    for name, section in configuration.dns.items():
        try:
            if isinstance(section, DNSUpdateSection):
                values = section.model_dump(exclude={"kind", "key_secret"})
                secret = section.key_secret.get_secret_value()
                found[name] = DNSUpdatePublisher(DNSUpdateServer(key_secret=secret, **values))
            elif isinstance(section, DNSLexiconSection):
                values = section.model_dump(exclude={"kind", "options"})
                options = {key: value.get_secret_value() for key, value in section.options.items()}
                provider = LexiconProvider(options=options, proxy=configuration.egress.proxy, **values)
                found[name] = LexiconPublisher(provider, names)
            else:
                found[name] = DNSHookPublisher(DNSHook(section.command, section.environment, section.timeout))
        except ValueError as error:
            raise ConfigurationError(f"dns.{name}: {error}") from None
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
