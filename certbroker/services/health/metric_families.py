"""What has been counted, as Prometheus is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from certbroker.domain.discovery import Standing
from certbroker.domain.drill import Fate
from certbroker.domain.endpoints import Serving
from certbroker.domain.issuer_health import IssuerState
from certbroker.domain.lifecycle import Health
from certbroker.domain.revocation_sources import Source, SourceStatus
from certbroker.domain.revocation_status import Standing as RevocationStanding
from certbroker.services.health.counts import Counted

_OPERATION_STATES: Final = ("Prepared", "AwaitingIssuer", "AwaitingMerge", "Failed", "Cancelled")
_TOLD_STANDINGS: Final = (
    RevocationStanding.REVOKED,
    RevocationStanding.ON_HOLD,
    RevocationStanding.UNKNOWN,
    RevocationStanding.UNREACHABLE,
    RevocationStanding.UNCHECKED,
)
_CERTIFICATE: Final = ("vault", "certificate", "subject_CN", "issuer_CN", "serial_number")


def families(counted: Counted, now: float) -> Iterator[Metric]:
    """All of it; `now` in seconds since 1970."""
    health = GaugeMetricFamily("certbroker_certificates", "Certificates by their health.", labels=["health"])
    for state in Health:
        health.add_metric([state], counted.health.get(state, 0))
    yield health
    operations = GaugeMetricFamily(
        "certbroker_operations", "The last operation of each certificate, by state, unless completed.", labels=["state"]
    )
    for name in _OPERATION_STATES:
        operations.add_metric([name], counted.operations.get(name, 0))
    yield operations
    yield from _issuers(counted)
    yield from _channels(counted)
    holds = GaugeMetricFamily(
        "certbroker_governor_holds", "Pauses that CAs have asked for and that hold now.", labels=["ca", "scope"]
    )
    for labels, count in counted.holds.items():
        holds.add_metric(labels, count)
    yield holds
    drills = GaugeMetricFamily(
        "certbroker_drill_certificates", "Certificates in drills that are under way.", labels=["state"]
    )
    for fate in Fate:
        drills.add_metric([fate], counted.drills.get(fate, 0))
    yield drills
    yield from _deployed(counted)
    yield from _discovery(counted)
    yield from _revocation(counted)
    yield from _published(counted)
    yield from _certificates(counted, now)


def _deployed(counted: Counted) -> Iterator[Metric]:
    """What is served, and what was put where it is used."""
    serving = GaugeMetricFamily(
        "certbroker_endpoints", "Endpoints of certificates by what they serve.", labels=["state"]
    )
    for state in Serving:
        serving.add_metric([state], counted.endpoints.serving.get(state, 0))
    yield serving
    yield gauge(
        "certbroker_endpoints_alarmed",
        "Endpoints that do not serve the version in use as they should, for longer than a deployment may take.",
        counted.endpoints.alarmed,
    )
    yield gauge(
        "certbroker_endpoints_expired",
        "Endpoints that serve a certificate that has expired instead of the version in use.",
        counted.endpoints.grave,
    )
    failing = GaugeMetricFamily(
        "certbroker_deployment_failing", "Whether a deployment fails.", labels=["deployment", "vault", "certificate"]
    )
    for each in counted.deployments:
        failing.add_metric([each.name, each.vault, each.certificate], each.progress.failures > 0)
    yield failing


def _discovery(counted: Counted) -> Iterator[Metric]:
    sightings = GaugeMetricFamily("certbroker_sightings", "Certificates that discovery has seen.", labels=["state"])
    for standing in Standing if counted.discovery or counted.sightings else ():
        sightings.add_metric([standing], counted.sightings.get(standing, 0))
    succeeded = GaugeMetricFamily(
        "certbroker_discovery_last_success_timestamp_seconds",
        "When a task of discovery last came to the end of a round.",
        labels=["task"],
    )
    failing = GaugeMetricFamily("certbroker_discovery_failing", "Whether its last step had a problem.", labels=["task"])
    for task in counted.discovery:
        failing.add_metric([task.id], bool(task.problem))
        if task.succeeded is not None:
            succeeded.add_metric([task.id], task.succeeded.timestamp())
    yield sightings
    yield succeeded
    yield failing


def _issuers(counted: Counted) -> Iterator[Metric]:
    failing = GaugeMetricFamily(
        "certbroker_issuer_failing",
        "Whether an issuer cannot be used: it is away, or its settings do not hold.",
        labels=["vault", "issuer"],
    )
    succeeded = GaugeMetricFamily(
        "certbroker_issuer_last_success_timestamp_seconds",
        "When an issuer last did what it was asked for, to the hour.",
        labels=["vault", "issuer"],
    )
    for issuer in counted.issuers:
        labels = [counted.vaults.get(issuer.vault_id, ""), issuer.name]
        bad = issuer.health.state in (IssuerState.FAILING, IssuerState.NEEDS_PERSON)
        failing.add_metric(labels, bad)
        if issuer.health.last_success is not None:
            succeeded.add_metric(labels, issuer.health.last_success.timestamp())
    yield failing
    yield succeeded


def _channels(counted: Counted) -> Iterator[Metric]:
    labels = ["vault", "channel"]
    failing = GaugeMetricFamily("certbroker_channel_failing", "Whether deliveries to a channel fail.", labels=labels)
    waiting = GaugeMetricFamily("certbroker_outbox_waiting", "Events that wait for a channel.", labels=labels)
    dead = GaugeMetricFamily("certbroker_outbox_dead", "Events that could not be delivered.", labels=labels)
    for channel in counted.channels:
        values = [counted.vaults.get(channel.vault_id, ""), channel.name]
        waits, lost = counted.outbox.get((channel.vault_id, channel.name.lower()), (0, 0))
        failing.add_metric(values, channel.enabled and channel.health.failing_since is not None)
        waiting.add_metric(values, waits)
        dead.add_metric(values, lost)
    yield failing
    yield waiting
    yield dead


def _revocation(counted: Counted) -> Iterator[Metric]:
    standings = GaugeMetricFamily(
        "certbroker_certificates_revocation",
        "Certificates that are not known to be good, by how they stand.",
        labels=["standing"],
    )
    for standing in _TOLD_STANDINGS:
        standings.add_metric([standing], counted.standings.get(standing, 0))
    yield standings
    sources = GaugeMetricFamily(
        "certbroker_revocation_sources",
        "CRLs, OCSP replies and the like that are not as they should be, by status.",
        labels=["status"],
    )
    for status in (SourceStatus.NEW, SourceStatus.FAILING, SourceStatus.STALE):
        sources.add_metric([status], counted.sources.get(status, 0))
    yield sources
    usable = GaugeMetricFamily("certbroker_crl_usable", "Whether what a CRL says holds now.", labels=["url"])
    entries = GaugeMetricFamily("certbroker_crl_entries", "Certificates that a CRL revokes.", labels=["url"])
    # In the name that x509-certificate-exporter gives it.
    update = GaugeMetricFamily("x509_crl_next_update", "When the next CRL should be there.", labels=["url"])
    # Under one URL the lists of several issuers may have been looked for: the best of them is told.
    best = {source.url: source for source in sorted(counted.lists, key=_holds)}
    for source in best.values():
        usable.add_metric([source.url], _holds(source))
        if source.holding.base is not None:
            facts = source.holding.base.facts
            entries.add_metric([source.url], facts.entries)
            update.add_metric([source.url], facts.fresh_until.timestamp())
    yield usable
    yield entries
    yield update


def _holds(source: Source) -> bool:
    return source.status in (SourceStatus.FRESH, SourceStatus.FAILING)


def _published(counted: Counted) -> Iterator[Metric]:
    labels = ["vault", "ca"]
    failing = GaugeMetricFamily(
        "certbroker_ca_publishing_failing", "Whether a CA of ours cannot publish CRLs and OCSP replies.", labels=labels
    )
    until = GaugeMetricFamily(
        "certbroker_ca_crl_next_update_timestamp_seconds",
        "Until when the first CRL of a CA of ours holds.",
        labels=labels,
    )
    for each in counted.publishing:
        values = [counted.vaults.get(each.vault_id, ""), each.name]
        failing.add_metric(values, each.problem is not None)
        if each.next_update is not None:
            until.add_metric(values, each.next_update.timestamp())
    yield failing
    yield until


def _certificates(counted: Counted, now: float) -> Iterator[Metric]:
    """In the names of x509-certificate-exporter, so that its dashboards and rules work."""
    after = GaugeMetricFamily("x509_cert_not_after", "When the certificate expires.", labels=_CERTIFICATE)
    before = GaugeMetricFamily("x509_cert_not_before", "From when on it is valid.", labels=_CERTIFICATE)
    expired = GaugeMetricFamily("x509_cert_expired", "Whether it has expired.", labels=_CERTIFICATE)
    for labels, facts in counted.certificates:
        after.add_metric(labels, facts.not_after)
        before.add_metric(labels, facts.not_before)
        expired.add_metric(labels, facts.not_after <= now)
    yield after
    yield before
    yield expired


def gauge(name: str, text: str, value: float) -> Metric:
    """A family of one value."""
    return GaugeMetricFamily(name, text, value=float(value))
