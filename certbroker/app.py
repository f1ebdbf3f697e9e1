"""The composition root: what the broker is put together from. It and `process` alone name concrete classes."""

from __future__ import annotations

import fcntl
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

from certbroker import notify
from certbroker.config import Configuration, ConfigurationError, DNSLexiconSection, DNSUpdateSection, split_address
from certbroker.deploy import LocalDeployer, Target
from certbroker.domain.discovery import targets
from certbroker.domain.revocation_sources import Named
from certbroker.egress import EgressPolicy, HTTPEgress, OutsideDNS, TLSProbe
from certbroker.keystore.seal import EnvelopeSeal
from certbroker.keystore.software import SoftwareKeyStore
from certbroker.mailing import mail_server
from certbroker.notify.mail import try_out
from certbroker.ports.clock import Clock
from certbroker.ports.deployer import Deployer
from certbroker.ports.dns import DNS
from certbroker.ports.issuer import DNSPublisher, IssuerKind
from certbroker.ports.notifier import NotifierResources
from certbroker.services.broker import Broker
from certbroker.services.deployment.deployments import Deployments
from certbroker.services.deployment.endpoints import LEASE as LOOK_LEASE
from certbroker.services.deployment.endpoints import Endpoints
from certbroker.services.discovery.discoveries import Discoveries, DiscoveryPlan
from certbroker.services.discovery.tasks import LEASE as DISCOVERY_LEASE
from certbroker.services.discovery.tasks import DiscoveryTasks
from certbroker.services.drills.drills import Drills
from certbroker.services.health.doctor import Doctor
from certbroker.services.health.meters import Meters
from certbroker.services.health.pulse import Pulse
from certbroker.services.health.readiness import Readiness
from certbroker.services.health.status import Status
from certbroker.services.housekeeping import Housekeeping
from certbroker.services.identity.access import Access
from certbroker.services.identity.tokens import Tokens
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.issuance.operations import Operations
from certbroker.services.issuers.governor import Governor
from certbroker.services.issuers.holds import Holds
from certbroker.services.issuers.issuers import Issuers
from certbroker.services.issuers.rehearsals import Rehearsals
from certbroker.services.issuers.resources import Board
from certbroker.services.notification.channels import Channels
from certbroker.services.notification.contacts import Contacts
from certbroker.services.notification.deliveries import Deliveries
from certbroker.services.notification.digests import Digests
from certbroker.services.objects.backup import Backups
from certbroker.services.objects.certificates import Certificates
from certbroker.services.objects.deletion import Deletions
from certbroker.services.objects.keys import Keys
from certbroker.services.objects.listings import Listings
from certbroker.services.objects.secret_expiry import SecretExpiry
from certbroker.services.objects.secrets import Secrets
from certbroker.services.objects.vaults import Vaults
from certbroker.services.pki.authorities import Authorities
from certbroker.services.pki.outside_requests import OutsideRequests
from certbroker.services.pki.publications import Publications
from certbroker.services.pki.publishing import Publishing
from certbroker.services.pki.signers import Signers
from certbroker.services.pki.successions import Successions
from certbroker.services.renewal.lifecycles import Lifecycles
from certbroker.services.renewal.renewals import LEASE, Renewals
from certbroker.services.revocation.findings import RevocationFindings
from certbroker.services.revocation.lists import RevocationLists
from certbroker.services.revocation.revocations import Revocations
from certbroker.services.revocation.sources import LEASE as SOURCE_LEASE
from certbroker.services.revocation.sources import RevocationSources, WatchSettings
from certbroker.services.revocation.watching import LEASE as WATCH_LEASE
from certbroker.services.revocation.watching import Watching
from certbroker.services.seal_rotation import SealRotation
from certbroker.store import migrations
from certbroker.store.database import SQLiteStore
from certbroker.store.published_files import PublishedFiles
from certbroker.store.transaction import SQLTransaction
from certbroker.unsealing import open_seal, setting
from certbroker.web.hosts import Hosts
from issuers import Kinds

# Linux counts the time in which the machine sleeps in one clock only.
_PASSED: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def passed(self) -> timedelta:
        return timedelta(seconds=time.clock_gettime(_PASSED))


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


def lay_foundation(configuration: Configuration, upgrade: Callable[[Path], object] = migrations.upgrade) -> Foundation:
    """Open the database alone, which `upgrade` brings up to date. Raises ConfigurationError."""
    directory = configuration.data.directory
    lock = _lock(directory)
    database = directory / "certbroker.db"
    upgrade(database)
    store = SQLiteStore(database, secrets.token_hex(8))
    # Nobody else has the directory open, so whoever held a lease is dead.
    clock = SystemClock()
    store.write(lambda transaction: _release_leases(transaction, clock.now()))
    tenant = setting(store, "tenant", lambda: str(uuid.uuid4()))
    pulse = Pulse()
    readiness = Readiness(store, directory, pulse)
    return Foundation(configuration, store, clock, tenant, lock, Meters(store, pulse), readiness)


def unseal(
    foundation: Foundation,
    authority: str | None = None,
    kinds: Mapping[str, IssuerKind] | None = None,
    publication: str | None = None,
) -> Core:
    """Open the seal and the use cases. May be tried again after it has raised Sealed.

    `authority` is the broker's own URL, and `publication` that of what its CAs publish, where ports are known only now.
    `kinds` of issuers, by provider in lower case, stand beside those that are installed.
    """
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
    # Where CAs look for answers to http-01, and where they publish CRLs, there is no TLS; private addresses stay out of
    # reach.
    reach = HTTPEgress(replace(policy, plain_http_hosts=("*",)))
    governor = Governor(store, clock)
    mail = mail_server(configuration.mail, configuration.egress)
    contacts = Contacts(store, clock, mail=mail is not None)
    contacts.sync()
    notifiers = notify.kinds(mail, apprise=configuration.egress.allow_apprise)
    hosts = hosts_of(
        foundation, authority or authority_of(configuration, split_address(configuration.server.listen)[1])
    )
    resources = NotifierResources(egress, clock, urlsplit(hosts.authority).hostname or hosts.base_domain)
    crl_life, ocsp_life = timedelta(hours=configuration.pki.crl_hours), timedelta(hours=configuration.pki.ocsp_hours)
    signers = Signers(store, seal, keystore, publication or publication_of(configuration), ocsp_life)
    issuers = Issuers(
        store, seal, clock, Kinds(kinds), egress, _publishers(configuration, names), names, governor, signers
    )
    meters = foundation.meters
    operations = Operations(store, seal, keystore, issuers, clock, secrets.token_hex(8), meters)
    renewals = Renewals(store, issuers, operations, clock, inbox, meters)
    housekeeping = Housekeeping(store, clock)
    rehearsals = Rehearsals(issuers, keystore, clock)
    sign_in = None if mail is None else partial(try_out, mail)
    readiness = foundation.readiness
    doctor = Doctor(store, clock, issuers, rotation, readiness, rehearsals, egress, reach, sign_in)
    own_secrets = Secrets(store, seal, keystore, clock)
    deployments = Deployments(store, vaults, own_secrets, clock, _deployers(configuration))
    deployments.adopt()
    certificates = Certificates(store, seal, keystore, clock, operations, inbox)
    probe, plan = TLSProbe(policy), _discovery_plan(configuration)
    grace, every = configuration.endpoints.grace_minutes, configuration.endpoints.every_hours
    endpoints = Endpoints(store, clock, probe, timedelta(minutes=grace), timedelta(hours=every))
    broker = Broker(
        store=store,
        clock=clock,
        vaults=vaults,
        secrets=own_secrets,
        keys=Keys(store),
        certificates=certificates,
        operations=operations,
        renewals=renewals,
        revocations=Revocations(store, seal, keystore, issuers, clock, inbox),
        watching=_watching(configuration, store, reach, issuers, clock, inbox),
        issuers=issuers,
        governor=governor,
        holds=Holds(store, issuers, clock, inbox),
        contacts=contacts,
        channels=Channels(store, seal, clock, notifiers, inbox),
        deliveries=Deliveries(store, seal, notifiers, resources, hosts.vault_url),
        digests=Digests(store, clock, weekly=configuration.mail is not None and configuration.mail.digest == "weekly"),
        endpoints=endpoints,
        deployments=deployments,
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
        drills=Drills(store, issuers, renewals, clock, inbox),
        discoveries=Discoveries(store, clock, certificates, endpoints, plan),
        discovery_tasks=DiscoveryTasks(store, clock, probe, egress, plan),
        signers=signers,
        authorities=Authorities(store, seal, keystore, clock, signers),
        publishing=Publishing(store, signers, clock, _published_files(foundation), crl_life),
        successions=Successions(store, seal, keystore, clock, signers),
        outside_requests=OutsideRequests(store, clock, signers, inbox),
    )
    readiness.sealed = None
    return Core(configuration, broker, seal, foundation.tenant, inbox, egress, reach, foundation)


def authority_of(configuration: Configuration, port: int) -> str:
    """The URL under which clients reach the token endpoint, when HTTPS is served on this port."""
    server = configuration.server
    return (server.authority or f"https://login.{server.base_domain}:{{port}}").replace("{port}", str(port))


def publication_of(configuration: Configuration, port: int | None = None) -> str | None:
    """The URL under which what belongs to the broker's CAs is published, on this port or the one that is configured."""
    section = configuration.pki
    if section.listen is None or section.url is None:
        return None
    return section.url.replace("{port}", str(port or split_address(section.listen)[1]))


def publications_of(foundation: Foundation) -> Publications:
    """What has been published, whether or not the seal can be opened."""
    return Publications(foundation.store, _published_files(foundation), foundation.clock)


def _published_files(foundation: Foundation) -> PublishedFiles:
    return PublishedFiles(foundation.configuration.data.directory / "published")


def hosts_of(foundation: Foundation, authority: str) -> Hosts:
    """The names under which the broker and its vaults are reached."""
    server = foundation.configuration.server
    return Hosts(server.base_domain, server.vault_hosts, authority, foundation.tenant)


def _release_leases(transaction: SQLTransaction, now: datetime) -> None:
    transaction.operations.release_all()
    transaction.lifecycles.release(now, LEASE)
    transaction.revocations.release_all(now)
    transaction.drills.release_all(now)
    transaction.discovery.release(now, DISCOVERY_LEASE)
    transaction.watches.release(now, WATCH_LEASE)
    transaction.sources.release(now, SOURCE_LEASE)
    transaction.channels.release_all()
    transaction.publications.release_all(now)
    transaction.endpoints.release(now, LOOK_LEASE)
    transaction.deployments.release_all(now)


def _discovery_plan(configuration: Configuration) -> DiscoveryPlan:
    section = configuration.discovery
    places = targets(section.hosts, section.ports)
    return DiscoveryPlan(places, section.rate, timedelta(hours=section.every_hours), section.monitors)


def _watching(
    configuration: Configuration, store: SQLiteStore, reach: HTTPEgress, issuers: Issuers, clock: Clock, inbox: Inbox
) -> Watching:
    section = configuration.revocation
    named = tuple(Named(each.issuer, each.crl, each.ocsp) for each in section.sources.values())
    interval = timedelta(seconds=section.check_seconds)
    settings = WatchSettings(
        section.enabled, interval, section.max_bytes, section.timeout, section.ocsp, section.replace, named
    )
    lists = RevocationLists(configuration.data.directory / "crls")
    # CRLs and OCSP replies come by plain http, because they are signed (RFC 5280 section 8).
    sources = RevocationSources(store, lists, reach, clock, settings)
    findings = RevocationFindings(issuers, replacing=section.replace)
    watching = Watching(store, lists, sources, findings, clock, inbox, settings)
    watching.start()
    return watching


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
    if not configuration.dns:
        return {}
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


def _deployers(configuration: Configuration) -> Mapping[str, Deployer]:
    found: dict[str, Deployer] = {}
    for name, section in configuration.deploy.items():
        values = section.model_dump(exclude={"certificate", "environment"})
        environment = {key: value.get_secret_value() for key, value in section.environment.items()}
        vault, _, certificate = section.certificate.partition("/")
        try:
            found[name] = LocalDeployer(name, vault, certificate, Target(environment=environment, **values))
        except ValueError as error:
            raise ConfigurationError(f"deploy.{name}: {error}") from None
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
