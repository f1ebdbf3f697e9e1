"""What sections of the configuration describe, made from them. A mistake in one is told by its name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from certbroker.config import Configuration, ConfigurationError, DNSLexiconSection, DNSUpdateSection
from certbroker.deploy import LocalDeployer, Target
from certbroker.domain.discovery import targets
from certbroker.domain.revocation_sources import Named
from certbroker.egress import EgressPolicy, HTTPEgress, OutsideDNS
from certbroker.ports.clock import Clock
from certbroker.ports.deployer import Deployer
from certbroker.ports.dns import DNS
from certbroker.ports.issuer import DNSPublisher
from certbroker.services.discovery.discoveries import DiscoveryPlan
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.issuers.issuers import Issuers
from certbroker.services.revocation.findings import RevocationFindings
from certbroker.services.revocation.lists import RevocationLists
from certbroker.services.revocation.sources import RevocationSources, WatchSettings
from certbroker.services.revocation.watching import Watching
from certbroker.store.database import SQLiteStore


def discovery_plan(configuration: Configuration) -> DiscoveryPlan:
    """`[discovery]`: where to look for certificates, and how hard."""
    section = configuration.discovery
    places = targets(section.hosts, section.ports)
    return DiscoveryPlan(places, section.rate, timedelta(hours=section.every_hours), section.monitors)


def watching(
    configuration: Configuration, store: SQLiteStore, reach: HTTPEgress, issuers: Issuers, clock: Clock, inbox: Inbox
) -> Watching:
    """`[revocation]`: what watches for revocation, ready to begin."""
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


def egress_policy(configuration: Configuration) -> EgressPolicy:
    """`[egress]`: whom the broker may talk to."""
    section = configuration.egress
    return EgressPolicy(
        allowed_networks=section.allowed_networks,
        allowed_hosts=section.allowed_hosts,
        plain_http_hosts=section.plain_http_hosts,
        trust=tuple(str(path) for path in section.trust),
        proxy=section.proxy,
    )


def outside_dns(configuration: Configuration, policy: EgressPolicy) -> OutsideDNS:
    """`egress.resolvers`: who is asked about names. Raises ConfigurationError."""
    try:
        return OutsideDNS(policy, configuration.egress.resolvers)
    except ValueError as error:
        raise ConfigurationError(f"egress.resolvers: {error}.") from None


def publishers(configuration: Configuration, names: DNS) -> Mapping[str, DNSPublisher]:
    """`[dns.NAME]`: what publishes TXT records, by its name. Raises ConfigurationError."""
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


def deployers(configuration: Configuration) -> Mapping[str, Deployer]:
    """`[deploy.NAME]`: what brings certificates to this machine, by its name. Raises ConfigurationError."""
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
