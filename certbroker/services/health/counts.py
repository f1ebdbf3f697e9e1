"""What the database knows that monitoring asks for, counted in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from certbroker.domain.channels import Channel
from certbroker.domain.discovery import Standing
from certbroker.domain.drill import Fate
from certbroker.domain.lifecycle import Health
from certbroker.domain.publication import PublishingState
from certbroker.domain.records import CertificateFacts
from certbroker.domain.revocation_sources import Source, SourceStatus
from certbroker.domain.revocation_status import Standing as RevocationStanding
from certbroker.store.deployments import Deployment
from certbroker.store.discovery import Task
from certbroker.store.endpoints import Totals as EndpointTotals
from certbroker.store.issuers import JudgedIssuer
from certbroker.store.transaction import SQLTransaction

# Issuers, channels and pauses that are told at most. Who has more finds all of them in `certbroker status`.
_MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class Counted:
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


def count(transaction: SQLTransaction, now: datetime, limit: int) -> Counted:
    """Count. Certificates are told one by one where there are no more than `limit`."""
    vaults = {vault.id: vault.name for vault in transaction.vaults.listing()}
    holds = transaction.budgets.held(now, _MOST)
    shown = transaction.totals.certificates(limit)
    return Counted(
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


def _drills(transaction: SQLTransaction) -> Counter[Fate]:
    """What has become of the certificates in drills that are not over."""
    found: Counter[Fate] = Counter()
    for drill in transaction.drills.unfinished(_MOST):
        found.update(transaction.drills.progress(drill).counts)
    return found


def _labels(vault: str, name: str, facts: CertificateFacts) -> tuple[str, ...]:
    try:
        leaf = x509.load_der_x509_certificate(facts.leaf)
        return vault, name, _common_name(leaf.subject), _common_name(leaf.issuer), str(leaf.serial_number)
    except ValueError:  # Names are parsed late; those of a certificate from elsewhere may be broken.
        return vault, name, "", "", ""


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""
