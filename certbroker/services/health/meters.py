"""What this process counts while it works, for Prometheus. What the database knows is counted there, at the scrape."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics

from certbroker.ports.issuer import IssuerUnavailable
from certbroker.services.health.pulse import Part, Pulse
from certbroker.store.database import SQLiteStore

_SWEEPS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60)
_CALLS: Final = (0.05, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_ISSUER: Final = ("vault", "issuer")


@dataclass(slots=True)
class Call:
    """A question to an issuer, and how it ends."""

    outcome: str = "ok"


class Meters:
    """Counters with a registry of their own. Safe on all threads.

    Labels are names of vaults and issuers that have been used, and words of ours: they are few.
    """

    def __init__(self, store: SQLiteStore, pulse: Pulse) -> None:
        # When a counter began says nothing that the start of the process does not, and doubles the series.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # The library leaves it untyped.
        self.registry = CollectorRegistry()
        self.pulse = pulse
        self._vault_name = lru_cache(maxsize=1024)(partial(_vault_name, store))
        ProcessCollector(registry=self.registry)
        self._started = self._counter(
            "certbroker_renewals_started", "Renewals that the engine has started.", *_ISSUER, "trigger"
        )
        self._ended = self._counter(
            "certbroker_renewals_ended",
            "Renewals that have ended, by outcome: succeeded, failed or cancelled.",
            *_ISSUER,
            "trigger",
            "outcome",
        )
        self._operations = self._counter(
            "certbroker_operations_ended",
            "Certificate operations that have ended, renewals among them, by outcome.",
            *_ISSUER,
            "outcome",
        )
        self._calls = self._counter(
            "certbroker_issuer_calls",
            "Times that an issuer was asked to go on with a request (advance) or for a renewal window (window), by "
            "outcome: ok, refused, unavailable or error.",
            *_ISSUER,
            "call",
            "outcome",
        )
        self._call_seconds = Histogram(
            "certbroker_issuer_call_seconds",
            "How long issuers took to answer.",
            ("call",),
            buckets=_CALLS,
            registry=self.registry,
        )
        self._sweep_seconds = Histogram(
            "certbroker_sweep_seconds",
            "How long the sweeps of the engine took that succeeded.",
            ("part",),
            buckets=_SWEEPS,
            registry=self.registry,
        )
        self._sweep_failures = self._counter("certbroker_sweep_failures", "Sweeps of the engine that failed.", "part")
        self._pings = self._counter(
            "certbroker_pings", "Times that the outside watcher was called, by outcome: ok or failed.", "outcome"
        )
        for part in Part:
            self._sweep_seconds.labels(part)
            self._sweep_failures.labels(part)

    @contextmanager
    def sweeping(self, part: Part) -> Iterator[None]:
        """A sweep of a part of the engine: its success is a sign of life."""
        began = time.monotonic()
        try:
            yield
        except Exception as error:
            self._sweep_failures.labels(part).inc()
            self.pulse.stumble(part, f"{type(error).__name__}: {error}"[:200])
            raise
        self._sweep_seconds.labels(part).observe(time.monotonic() - began)
        self.pulse.beat(part)

    @contextmanager
    def calling(self, vault_id: int, issuer: str, call: str) -> Iterator[Call]:
        """A question to an issuer. Its outcome is `ok` unless something is raised or set."""
        asked = Call()
        began = time.monotonic()
        try:
            yield asked
        except IssuerUnavailable:
            asked.outcome = "unavailable"
            raise
        except BaseException:
            asked.outcome = "error"
            raise
        finally:
            self._calls.labels(self._vault_name(vault_id), issuer, call, asked.outcome).inc()
            self._call_seconds.labels(call).observe(time.monotonic() - began)

    def renewal_started(self, vault_id: int, issuer: str, trigger: str) -> None:
        self._started.labels(self._vault_name(vault_id), issuer, trigger).inc()

    def operation_ended(self, vault_id: int, issuer: str, outcome: str, trigger: str | None) -> None:
        """`trigger` is what made the engine renew; None where somebody asked for the certificate."""
        vault = self._vault_name(vault_id)
        self._operations.labels(vault, issuer, outcome).inc()
        if trigger is not None:
            self._ended.labels(vault, issuer, trigger, outcome).inc()

    def pinged(self, outcome: str) -> None:
        self._pings.labels(outcome).inc()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)


def _vault_name(store: SQLiteStore, vault_id: int) -> str:
    """The name of a vault, which stays the same for as long as its id."""
    vault = store.glance().vaults.get(vault_id)
    return str(vault_id) if vault is None else vault.name
