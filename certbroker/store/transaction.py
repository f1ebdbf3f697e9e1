"""What work on the database sees: the repositories, all on one cursor."""

from __future__ import annotations

import msgspec

from certbroker.domain.audit import AuditRecord
from certbroker.store.authorities import Authorities
from certbroker.store.budgets import Budgets
from certbroker.store.channels import Channels
from certbroker.store.deployments import Deployments
from certbroker.store.discovery import Discovery
from certbroker.store.drills import Drills
from certbroker.store.endpoints import Endpoints
from certbroker.store.identity import Identities
from certbroker.store.issuers import Issuers
from certbroker.store.lifecycles import Lifecycles
from certbroker.store.objects import Objects
from certbroker.store.operations import Operations
from certbroker.store.outbox import Outbox
from certbroker.store.overviews import Overviews
from certbroker.store.publications import Publications
from certbroker.store.revocation_sources import RevocationSources
from certbroker.store.revocations import Revocations
from certbroker.store.rotations import Rotations
from certbroker.store.statement import Cursor
from certbroker.store.totals import Totals
from certbroker.store.vaults import Vaults
from certbroker.store.watches import Watches


class SQLTransaction:
    """One transaction, or a glance outside of any. Its audit records are written when its work has succeeded."""

    __slots__ = (
        "audited",
        "authorities",
        "budgets",
        "channels",
        "deployments",
        "discovery",
        "drills",
        "endpoints",
        "identities",
        "issuers",
        "lifecycles",
        "objects",
        "operations",
        "outbox",
        "overviews",
        "publications",
        "revocations",
        "rotations",
        "sources",
        "totals",
        "vaults",
        "watches",
    )

    def __init__(self, cursor: Cursor) -> None:
        self.vaults = Vaults(cursor)
        self.objects = Objects(cursor)
        self.operations = Operations(cursor)
        self.issuers = Issuers(cursor)
        self.lifecycles = Lifecycles(cursor)
        self.channels = Channels(cursor)
        self.endpoints = Endpoints(cursor)
        self.deployments = Deployments(cursor)
        self.outbox = Outbox(cursor)
        self.overviews = Overviews(cursor)
        self.publications = Publications(cursor)
        self.revocations = Revocations(cursor)
        self.rotations = Rotations(cursor)
        self.sources = RevocationSources(cursor)
        self.watches = Watches(cursor)
        self.authorities = Authorities(cursor)
        self.discovery = Discovery(cursor)
        self.drills = Drills(cursor)
        self.identities = Identities(cursor)
        self.budgets = Budgets(cursor)
        self.totals = Totals(cursor)
        self.audited: list[bytes] = []

    def audit(self, record: AuditRecord) -> None:
        """Put the work on record, in the same transaction."""
        self.audited.append(msgspec.json.encode(record))
