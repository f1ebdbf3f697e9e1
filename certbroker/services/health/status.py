"""How the broker is, on one page: what needs a person, what fails, what comes next."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Final

from certbroker.domain.budget import Bucket, Level
from certbroker.domain.channels import Channel
from certbroker.domain.discovery import Standing
from certbroker.domain.endpoints import Serving
from certbroker.domain.issuer_health import IssuerState
from certbroker.domain.lifecycle import Health
from certbroker.domain.objects import Kind
from certbroker.domain.revocation_sources import PATIENCE, SourceStatus
from certbroker.ports.clock import Clock
from certbroker.services.health.pulse import Pulse, Sign
from certbroker.services.health.readiness import Readiness
from certbroker.services.housekeeping import Housekeeping
from certbroker.services.issuers.governor import Governor
from certbroker.services.seal_rotation import SealRotation, SealStatus
from certbroker.store import migrations
from certbroker.store.database import SQLiteStore
from certbroker.store.issuers import JudgedIssuer
from certbroker.store.lifecycles import Care
from certbroker.store.moments import moment
from certbroker.store.transaction import SQLTransaction

# Of each sort, on one page. The counts say how many there are in all.
_SHOWN: Final = 20
_MOST: Final = 1000

# From so many failures in a row on, trying again will not help: the same number at which people are told once more.
_HOPELESS: Final = 5

# A channel that fails for less may be a target that restarts.
_PATIENCE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is not well. `advice` says what a person can do; it is empty where nobody has to."""

    what: str
    """`broker`, `certificate`, `endpoint`, `deployment`, `discovery`, `issuer`, `channel` or `source`."""
    vault: str
    name: str
    state: str
    reason: str
    advice: str = ""
    since: datetime | None = None
    next_action: datetime | None = None


@dataclass(frozen=True, slots=True)
class Coming:
    """A certificate that is looked at next; `renewal` is when its next version is due, as far as is known now."""

    vault: str
    name: str
    at: datetime
    reason: str
    renewal: datetime | None


@dataclass(frozen=True, slots=True)
class Report:
    """The whole page. `beat` is when the engine last left its mark in the database."""

    version: str
    schema: str
    sqlite: str
    seal: SealStatus
    signs: tuple[Sign, ...]
    beat: datetime | None
    certificates: Mapping[Health, int]
    needs_person: tuple[Trouble, ...]
    failing: tuple[Trouble, ...]
    coming: tuple[Coming, ...]
    holds: tuple[tuple[Bucket, Level], ...]


class Status:
    """Writes the page from what the database and this process know; asks nobody outside."""

    def __init__(
        self,
        store: SQLiteStore,
        clock: Clock,
        readiness: Readiness,
        pulse: Pulse,
        rotation: SealRotation,
        governor: Governor,
        housekeeping: Housekeeping,
    ) -> None:
        self._store = store
        self._clock = clock
        self._readiness = readiness
        self._pulse = pulse
        self._rotation = rotation
        self._governor = governor
        self._housekeeping = housekeeping

    def report(self) -> Report:
        """The page as of now."""
        now = self._clock.now()
        broken = [
            Trouble("broker", "", "certbroker", "NotReady", reason, "See docs/how-to/monitor.md, and the log.")
            for reason in self._readiness.reasons()
        ]
        with self._store.read() as transaction:
            vaults = {vault.id: vault.name for vault in transaction.vaults.listing()}
            counts = transaction.lifecycles.counts()
            broken += _discovered(transaction)
            troubles = [
                *_certificates(transaction, vaults),
                *_merges(transaction, vaults),
                *_endpoints(transaction, vaults),
                *_deployments(transaction),
                *_issuers(transaction.issuers.judged(_MOST), vaults),
                *_channels(transaction, vaults, now),
                *_sources(transaction, now),
                *_publishing(transaction, vaults, now),
            ]
            coming = [
                Coming(vaults[care.vault_id], _name(transaction, care), care.act_at, care.lifecycle.reason, renewal)
                for care in transaction.lifecycles.coming(_SHOWN)
                if care.act_at is not None and care.vault_id in vaults
                for renewal in [care.lifecycle.next_action]
            ]
        return Report(
            version("certbroker"),
            migrations.HEAD,
            sqlite3.sqlite_version,
            self._rotation.status(),
            self._pulse.signs(),
            self._housekeeping.last_beat(),
            counts,
            (*broken, *(trouble for trouble in troubles if trouble.advice)),
            tuple(trouble for trouble in troubles if not trouble.advice),
            tuple(coming),
            tuple(self._governor.holds()),
        )


def _discovered(transaction: SQLTransaction) -> Iterator[Trouble]:
    count = transaction.discovery.counts().get(Standing.UNKNOWN, 0)
    if count:
        reason = f"Certificates were seen that are in no vault: {count}."
        yield Trouble("discovery", "", "unknown", "Unknown", reason, "See certbroker discovery list; adopt or ignore.")


def _certificates(transaction: SQLTransaction, vaults: Mapping[int, str]) -> Iterator[Trouble]:
    for health in (Health.REVOKED, Health.EXPIRED, Health.NEEDS_PERSON, Health.NOT_DEPLOYED, Health.FAILING):
        for care in transaction.lifecycles.unwell(health, _SHOWN):
            lifecycle, name = care.lifecycle, _name(transaction, care)
            vault = vaults.get(care.vault_id, "")
            yield Trouble(
                "certificate",
                vault,
                name,
                str(health),
                lifecycle.reason,
                _advice(care, vault, name),
                lifecycle.since,
                care.act_at,
            )


def _advice(care: Care, vault: str, name: str) -> str:
    lifecycle, of = care.lifecycle, f"{name} --vault {vault}"
    match lifecycle.health:
        case Health.EXPIRED:
            return f"Renew it: certbroker certificate renew {of}. Disable it where nobody needs it any more."
        case Health.REVOKED:
            return f"Clients that check refuse it: see certbroker revocation show {of}, and make a new version."
        case Health.NEEDS_PERSON:
            return f"See certbroker certificate health {of}, and make a new version, or disable it."
        case Health.NOT_DEPLOYED:
            return f"Deploy the version in use, and see certbroker certificate endpoint list {of}."
        case Health.FAILING if lifecycle.setback is not None and lifecycle.setback.failures >= _HOPELESS:
            times = lifecycle.setback.failures
            return f"It has failed {times} times in a row: remove the cause, then certbroker certificate renew {of}."
        case _:
            return ""


def _merges(transaction: SQLTransaction, vaults: Mapping[int, str]) -> Iterator[Trouble]:
    for merge in transaction.totals.merges(_SHOWN):
        vault = vaults.get(merge.vault_id, "")
        yield Trouble(
            "certificate",
            vault,
            merge.name,
            "AwaitingMerge",
            "Its signing request waits for somebody to carry it to the CA.",
            f"Have it signed, then: certbroker certificate merge {merge.name} --vault {vault}.",
            moment(merge.created),
        )


def _endpoints(transaction: SQLTransaction, vaults: Mapping[int, str]) -> Iterator[Trouble]:
    """Endpoints that do not serve what they should and are no alarm yet: an alarm is shown with its certificate."""
    for serving in (Serving.OLD, Serving.OTHER, Serving.FLAWED, Serving.GARBAGE, Serving.UNREACHABLE):
        for endpoint in transaction.endpoints.troubled(serving, _SHOWN):
            standing = endpoint.standing
            if standing.alarm is None:
                yield Trouble(
                    "endpoint",
                    vaults.get(endpoint.vault_id, ""),
                    f"{endpoint.name} at {endpoint.place.text}",
                    str(serving),
                    next((sight.problem for sight in standing.sights if sight.problem), ""),
                    "",
                    standing.missing_since,
                    endpoint.act_at,
                )


def _deployments(transaction: SQLTransaction) -> Iterator[Trouble]:
    for deployment in transaction.deployments.all():
        progress = deployment.progress
        if progress.failures:
            advice = ""
            if progress.failures >= _HOPELESS:
                advice = f"Remove the cause, or correct the section deploy.{deployment.name} and restart."
            yield Trouble(
                "deployment",
                deployment.vault,
                f"{deployment.name} of {deployment.certificate}",
                "Failing",
                progress.problem,
                advice,
                progress.failing_since,
                deployment.act_at,
            )


def _issuers(issuers: list[JudgedIssuer], vaults: Mapping[int, str]) -> Iterator[Trouble]:
    for issuer in issuers:
        health, vault = issuer.health, vaults.get(issuer.vault_id, "")
        if health.state not in (IssuerState.FAILING, IssuerState.NEEDS_PERSON):
            continue
        advice = ""
        if health.state is IssuerState.NEEDS_PERSON:
            advice = f"Correct its settings: certbroker issuer set {issuer.name} --vault {vault}."
        yield Trouble(
            "issuer", vault, issuer.name, str(health.state), health.reason, advice, health.since, health.next_try
        )


def _channels(transaction: SQLTransaction, vaults: Mapping[int, str], now: datetime) -> Iterator[Trouble]:
    outbox = transaction.totals.outbox()
    for channel in transaction.channels.everywhere(_MOST):
        vault = vaults.get(channel.vault_id, "")
        waiting, dead = outbox.get((channel.vault_id, channel.name.lower()), (0, 0))
        yield from _channel(channel, vault, waiting, dead, now)


def _channel(channel: Channel, vault: str, waiting: int, dead: int, now: datetime) -> Iterator[Trouble]:
    of, health = f"{channel.name} --vault {vault}", channel.health
    if channel.enabled and health.failing_since is not None:
        advice = ""
        if now - health.failing_since >= _PATIENCE:
            advice = f"Nobody is told by it: correct it, then certbroker channel test {of}."
        reason = f"{health.reason} {waiting} events wait." if waiting else health.reason
        yield Trouble("channel", vault, channel.name, "Failing", reason, advice, health.failing_since)
    elif dead:
        advice = f"Have them delivered: certbroker channel retry {of}. Or see certbroker channel dead-letters {of}."
        yield Trouble("channel", vault, channel.name, "DeadLetters", f"{dead} events were not delivered.", advice)


def _sources(transaction: SQLTransaction, now: datetime) -> Iterator[Trouble]:
    """Those that say nothing that holds: of whom they tell it is not known whether they are revoked."""
    for source in transaction.sources.unwell(SourceStatus.STALE, _SHOWN):
        since = source.holding.failing_since
        advice = ""
        if since is not None and now - since >= PATIENCE:
            advice = "It is not known whether certificates are revoked: see certbroker revocation sources."
        yield Trouble("source", "", source.url, "Unreachable", source.holding.problem, advice, since, source.act_at)


def _publishing(transaction: SQLTransaction, vaults: Mapping[int, str], now: datetime) -> Iterator[Trouble]:
    for each in transaction.publications.standings(now, _MOST):
        if each.problem is None:
            continue
        reason = each.problem
        if each.next_update is not None:
            reason += f" What is published holds until {each.next_update:%Y-%m-%d %H:%M} UTC."
        advice = (
            "" if each.since is None or now - each.since < _PATIENCE else "Its certificates are refused after that."
        )
        yield Trouble("ca", vaults.get(each.vault_id, ""), each.name, "NotPublishing", reason, advice, each.since)


def _name(transaction: SQLTransaction, care: Care) -> str:
    head = transaction.objects.head(care.vault_id, Kind.CERTIFICATE, care.name)
    return care.name if head is None else head.name
