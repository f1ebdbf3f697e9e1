"""The tables.

Times of objects are Unix seconds, times of the engine microseconds since 1970, both UTC integers. Names are stored in
lower case next to the form in which they were first written, because they are compared without regard to case.
Structured values are JSON text. What is secret is in three columns: `kek` (which key-encryption key), `dek` (the
wrapped data key) and `payload`.
"""

from __future__ import annotations

from certbroker.store.tables.authorities import (
    AuthorityRow,
    IssuedRow,
    PublishingProblemRow,
    RevocationListRow,
    StatusReplyRow,
)
from certbroker.store.tables.deployment import DeploymentRow, EndpointRow
from certbroker.store.tables.discovery import DiscoveryTaskRow, ManagedDomainRow, SightingRow
from certbroker.store.tables.identity import ApplicationRow, AssignmentRow, CredentialRow
from certbroker.store.tables.issuance import (
    BudgetRow,
    ChallengeRow,
    IssuerMemoryRow,
    IssuerRow,
    JournalRow,
    OperationRow,
    ReservationRow,
)
from certbroker.store.tables.lifecycles import DrillRow, HealthCountRow, LifecycleRow, ReplacementRow
from certbroker.store.tables.notification import ChannelRow, OutboxRow
from certbroker.store.tables.objects import ContactsRow, ObjectRow, PolicyRow, RotationRow, VersionRow
from certbroker.store.tables.revocation import RevocationDependentRow, RevocationRow, RevocationSourceRow, WatchRow
from certbroker.store.tables.vaults import AuditRow, KeyEncryptionKeyRow, SettingRow, VaultRow

__all__ = [
    "ApplicationRow",
    "AssignmentRow",
    "AuditRow",
    "AuthorityRow",
    "BudgetRow",
    "ChallengeRow",
    "ChannelRow",
    "ContactsRow",
    "CredentialRow",
    "DeploymentRow",
    "DiscoveryTaskRow",
    "DrillRow",
    "EndpointRow",
    "HealthCountRow",
    "IssuedRow",
    "IssuerMemoryRow",
    "IssuerRow",
    "JournalRow",
    "KeyEncryptionKeyRow",
    "LifecycleRow",
    "ManagedDomainRow",
    "ObjectRow",
    "OperationRow",
    "OutboxRow",
    "PolicyRow",
    "PublishingProblemRow",
    "ReplacementRow",
    "ReservationRow",
    "RevocationDependentRow",
    "RevocationListRow",
    "RevocationRow",
    "RevocationSourceRow",
    "RotationRow",
    "SettingRow",
    "SightingRow",
    "StatusReplyRow",
    "VaultRow",
    "VersionRow",
    "WatchRow",
]
