"""The composition root: what the broker is put together from."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from urllib.parse import urlsplit

from certbroker import configured, notify
from certbroker.config import Configuration, split_address
from certbroker.egress import HTTPEgress, TLSProbe
from certbroker.foundation import Foundation, lay_foundation
from certbroker.keystore.seal import EnvelopeSeal
from certbroker.keystore.software import SoftwareKeyStore
from certbroker.mailing import mail_server
from certbroker.notify.mail import try_out
from certbroker.ports.issuer import IssuerKind
from certbroker.ports.notifier import NotifierResources
from certbroker.services.broker import Broker
from certbroker.services.deployment.deployments import Deployments
from certbroker.services.deployment.endpoints import Endpoints
from certbroker.services.discovery.discoveries import Discoveries
from certbroker.services.discovery.tasks import DiscoveryTasks
from certbroker.services.drills.drills import Drills
from certbroker.services.health.doctor import Doctor
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
from certbroker.services.objects.key_rotation import KeyRotation
from certbroker.services.objects.key_uses import KeyUses
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
from certbroker.services.renewal.renewals import Renewals
from certbroker.services.revocation.revocations import Revocations
from certbroker.services.seal_rotation import SealRotation
from certbroker.store.published_files import PublishedFiles
from certbroker.unsealing import open_seal
from certbroker.web.hosts import Hosts
from issuers import Kinds


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
    policy = configured.egress_policy(configuration)
    egress, names = HTTPEgress(policy), configured.outside_dns(configuration, policy)
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
        store, seal, clock, Kinds(kinds), egress, configured.publishers(configuration, names), names, governor, signers
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
    deployments = Deployments(store, vaults, own_secrets, clock, configured.deployers(configuration))
    deployments.adopt()
    certificates = Certificates(store, seal, keystore, clock, operations, inbox)
    probe, plan = TLSProbe(policy), configured.discovery_plan(configuration)
    grace, every = configuration.endpoints.grace_minutes, configuration.endpoints.every_hours
    endpoints = Endpoints(store, clock, probe, timedelta(minutes=grace), timedelta(hours=every))
    broker = Broker(
        store=store,
        clock=clock,
        vaults=vaults,
        secrets=own_secrets,
        keys=Keys(store, seal, keystore, clock),
        key_uses=KeyUses(store, seal, keystore, clock),
        key_rotation=KeyRotation(store, seal, keystore, clock),
        certificates=certificates,
        operations=operations,
        renewals=renewals,
        revocations=Revocations(store, seal, keystore, issuers, clock, inbox),
        watching=configured.watching(configuration, store, reach, issuers, clock, inbox),
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
