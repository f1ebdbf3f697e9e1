"""What Prometheus is told: the counters of this process, and what the database knows, counted at the scrape.

A scrape costs the same however many certificates there are beyond the limit: what is counted is kept for half a minute,
and beyond the limit certificates are counted only.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

import structlog
from cryptography import x509
from cryptography.x509.oid import NameOID
from prometheus_client import Metric, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from certbroker.domain.channels import Channel
from certbroker.domain.discovery import Standing
from certbroker.domain.drill import Fate
from certbroker.domain.endpoints import Serving
from certbroker.domain.issuer_health import IssuerState
from certbroker.domain.lifecycle import Health
from certbroker.domain.publication import PublishingState
from certbroker.domain.records import CertificateFacts
from certbroker.domain.revocation_sources import Source, SourceStatus
from certbroker.domain.revocation_status import Standing as RevocationStanding
from certbroker.ports.clock import Clock
from certbroker.services.health.meters import Meters
from certbroker.services.health.pulse import SILENCE
from certbroker.services.health.readiness import Readiness
from certbroker.store.database import SQLiteStore
from certbroker.store.deployments import Deployment
from certbroker.store.discovery import Task
from certbroker.store.endpoints import Totals as EndpointTotals
from certbroker.store.issuers import JudgedIssuer
from certbroker.store.transaction import SQLTransaction

# How long what the database was asked for is kept, in seconds. Scrapes usually come every 15 to 60 seconds.
_KEEP: Final = 30.0

# Issuers, channels and pauses that are told at most. Who has more finds all of them in `certbroker status`.
_MOST: Final = 1000

_OPERATION_STATES: Final = ("Prepared", "AwaitingIssuer", "AwaitingMerge", "Failed", "Cancelled")
_TOLD_STANDINGS: Final = (
    RevocationStanding.REVOKED,
    RevocationStanding.ON_HOLD,
    RevocationStanding.UNKNOWN,
    RevocationStanding.UNREACHABLE,
    RevocationStanding.UNCHECKED,
)
_CERTIFICATE: Final = ("vault", "certificate", "subject_CN", "issuer_CN", "serial_number")

_log = structlog.get_logger("certbroker.metrics")


@dataclass(frozen=True, slots=True)
class _Counted:
    """What the database knows. `certificates` is empty where there are more than the limit."""

    vaults: Mapping[int, str]
    health: Mapping[Health, int]
    operations: Mapping[str, int]
    issuers: tuple[JudgedIssuer, ...]
    channels: tuple[Channel, ...]
    outbox: Mapping[tuple[int, str], tuple[int, int]]
    holds: Mapping[tuple[str, str], int]
    certificates: tuple[tuple[tuple[str, ...], CertificateFacts], ...]
    drills: Mapping[Fate, int]
    standings: Mapping[RevocationStanding, int]
    lists: tuple[Source, ...]
    sources: Mapping[SourceStatus, int]
    endpoints: EndpointTotals
    deployments: tuple[Deployment, ...]
    sightings: Mapping[Standing, int]
    discovery: tuple[Task, ...]
    publishing: tuple[PublishingState, ...]


class Metrics(Collector):
    """Answers scrapes. `limit` is how many certificates are told one by one; with more than that none is."""

    def __init__(
        self,
        store: SQLiteStore,
        clock: Clock,
        meters: Meters,
        readiness: Readiness,
        limit: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        self._meters = meters
        self._readiness = readiness
        self._limit = limit
        self._monotonic = monotonic
        self._started = clock.now().timestamp()
        self._lock = threading.Lock()
        self._counted: _Counted | None = None
        self._counted_at = 0.0
        meters.registry.register(self)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the form that the scraper understands, and its media type. Blocks on the database."""
        encode, kind = exposition.choose_encoder(accept)
        return encode(self._meters.registry), kind

    def describe(self) -> list[Metric]:
        """Nothing: being registered must not ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All but the counters of this process. What cannot be read is left out, and that is told."""
        yield from self._process()
        try:
            families = [*self._lags(), *_families(self._count(), self._clock.now().timestamp())]
        except Exception:
            _log.exception("the database could not be read for a scrape")
            families = []
        yield _gauge("certbroker_database_readable", "Whether the database could be read.", float(bool(families)))
        yield from families

    def _process(self) -> Iterator[Metric]:
        sealed = self._readiness.sealed is not None
        release = GaugeMetricFamily("certbroker_build_info", "The version that runs.", labels=["version"])
        release.add_metric([version("certbroker")], 1)
        yield release
        yield _gauge("certbroker_start_time_seconds", "When the broker was started.", self._started)
        yield _gauge("certbroker_sealed", "Whether the broker waits for the key that opens its database.", sealed)
        yield _gauge("certbroker_ready", "Whether /readyz says that it is.", not self._readiness.reasons())
        ages = GaugeMetricFamily(
            "certbroker_engine_beat_age_seconds", "Since the engine's part has last succeeded.", labels=["part"]
        )
        limits = GaugeMetricFamily(
            "certbroker_engine_beat_limit_seconds", "The age from which on something is wrong.", labels=["part"]
        )
        for sign in self._meters.pulse.signs():
            ages.add_metric([sign.part], sign.age)
        for part, limit in SILENCE.items():
            limits.add_metric([part], limit)
        yield ages
        yield limits
        failures = self._store.audit_failures
        yield CounterMetricFamily("certbroker_audit_write_failures", "Failures to write audit records.", value=failures)
        try:
            size, log = self._store.sizes()
            free = self._readiness.disk_free()
        except OSError:
            return
        yield _gauge("certbroker_database_bytes", "Size of the database.", size)
        yield _gauge("certbroker_database_log_bytes", "Size of its write-ahead log.", log)
        yield _gauge("certbroker_disk_free_bytes", "What is left on its disk.", free)

    def _lags(self) -> Iterator[Metric]:
        """How late the engine is; what is due and has no free thread counts as well."""
        now = self._clock.now()
        lags = GaugeMetricFamily(
            "certbroker_engine_lag_seconds", "For how long the oldest due work has been waiting.", labels=["part"]
        )
        glance = self._store.glance()
        for part, due in (("issue", glance.operations.next_due(now)), ("renew", glance.lifecycles.next_due())):
            lags.add_metric([part], 0 if due is None else max(0.0, (now - due).total_seconds()))
        yield lags

    def _count(self) -> _Counted:
        with self._lock:
            now = self._monotonic()
            if self._counted is None or now - self._counted_at >= _KEEP:
                with self._store.read() as transaction:
                    self._counted = self._read(transaction)
                self._counted_at = now
            return self._counted

    def _read(self, transaction: SQLTransaction) -> _Counted:
        vaults = {vault.id: vault.name for vault in transaction.vaults.listing()}
        now = self._clock.now()
        holds = transaction.budgets.held(now, _MOST)
        shown = transaction.totals.certificates(self._limit)
        return _Counted(
            vaults,
            transaction.lifecycles.counts(),
            transaction.totals.operations(),
            tuple(transaction.issuers.judged(_MOST)),
            tuple(transaction.channels.everywhere(_MOST)),
            transaction.totals.outbox(),
            Counter((bucket.ca, bucket.scope.value) for bucket, level in holds if level.is_held(now)),
            tuple((_labels(vaults.get(vault, str(vault)), name, facts), facts) for vault, name, facts in shown),
            _drills(transaction),
            transaction.watches.counts(),
            tuple(transaction.sources.lists(_MOST)),
            transaction.sources.counts(),
            transaction.endpoints.totals(),
            tuple(transaction.deployments.all()[:_MOST]),
            transaction.discovery.counts(),
            tuple(transaction.discovery.tasks()),
            tuple(transaction.publications.standings(now, _MOST)),
        )


def _discovery(counted: _Counted) -> Iterator[Metric]:
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


def _drills(transaction: SQLTransaction) -> Counter[Fate]:
    """What has become of the certificates in drills that are not over."""
    found: Counter[Fate] = Counter()
    for drill in transaction.drills.unfinished(_MOST):
        found.update(transaction.drills.progress(drill).counts)
    return found


def _families(counted: _Counted, now: float) -> Iterator[Metric]:
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


def _deployed(counted: _Counted) -> Iterator[Metric]:
    """What is served, and what was put where it is used."""
    serving = GaugeMetricFamily(
        "certbroker_endpoints", "Endpoints of certificates by what they serve.", labels=["state"]
    )
    for state in Serving:
        serving.add_metric([state], counted.endpoints.serving.get(state, 0))
    yield serving
    yield _gauge(
        "certbroker_endpoints_alarmed",
        "Endpoints that do not serve the version in use, for longer than a deployment may take.",
        counted.endpoints.alarmed,
    )
    yield _gauge(
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


def _issuers(counted: _Counted) -> Iterator[Metric]:
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


def _channels(counted: _Counted) -> Iterator[Metric]:
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


def _revocation(counted: _Counted) -> Iterator[Metric]:
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


def _published(counted: _Counted) -> Iterator[Metric]:
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


def _certificates(counted: _Counted, now: float) -> Iterator[Metric]:
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


def _labels(vault: str, name: str, facts: CertificateFacts) -> tuple[str, ...]:
    try:
        leaf = x509.load_der_x509_certificate(facts.leaf)
        return vault, name, _common_name(leaf.subject), _common_name(leaf.issuer), str(leaf.serial_number)
    except ValueError:  # Names are parsed late; those of a certificate from elsewhere may be broken.
        return vault, name, "", "", ""


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))
