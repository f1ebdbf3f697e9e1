"""What Prometheus is told: the counters of this process, and what the database knows, counted at the scrape.

A scrape costs the same however many certificates there are beyond the limit: what is counted is kept for half a minute,
and beyond the limit certificates are counted only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Final

import structlog
from prometheus_client import Metric, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from certbroker.ports.clock import Clock
from certbroker.services.health.counts import Counted, count
from certbroker.services.health.meters import Meters
from certbroker.services.health.metric_families import families, gauge
from certbroker.services.health.pulse import SILENCE
from certbroker.services.health.readiness import Readiness
from certbroker.store.database import SQLiteStore

# How long what the database was asked for is kept, in seconds. Scrapes usually come every 15 to 60 seconds.
_KEEP: Final = 30.0

_log = structlog.get_logger("certbroker.metrics")


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
        self._counted: Counted | None = None
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
            found = [*self._lags(), *families(self._count(), self._clock.now().timestamp())]
        except Exception:
            _log.exception("the database could not be read for a scrape")
            found = []
        yield gauge("certbroker_database_readable", "Whether the database could be read.", float(bool(found)))
        yield from found

    def _process(self) -> Iterator[Metric]:
        sealed = self._readiness.sealed is not None
        release = GaugeMetricFamily("certbroker_build_info", "The version that runs.", labels=["version"])
        release.add_metric([version("certbroker")], 1)
        yield release
        yield gauge("certbroker_start_time_seconds", "When the broker was started.", self._started)
        yield gauge("certbroker_sealed", "Whether the broker waits for the key that opens its database.", sealed)
        yield gauge("certbroker_ready", "Whether /readyz says that it is.", not self._readiness.reasons())
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
        yield gauge("certbroker_database_bytes", "Size of the database.", size)
        yield gauge("certbroker_database_log_bytes", "Size of its write-ahead log.", log)
        yield gauge("certbroker_disk_free_bytes", "What is left on its disk.", free)

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

    def _count(self) -> Counted:
        with self._lock:
            now = self._monotonic()
            if self._counted is None or now - self._counted_at >= _KEEP:
                with self._store.read() as transaction:
                    self._counted = count(transaction, self._clock.now(), self._limit)
                self._counted_at = now
            return self._counted
