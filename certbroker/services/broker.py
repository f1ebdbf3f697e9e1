"""All use cases together, as the composition root has built them."""

from __future__ import annotations

from dataclasses import dataclass

from certbroker.ports.clock import Clock
from certbroker.services.access import Access
from certbroker.services.authorities import Authorities
from certbroker.services.backup import Backups
from certbroker.services.certificates import Certificates
from certbroker.services.channels import Channels
from certbroker.services.contacts import Contacts
from certbroker.services.deletion import Deletions
from certbroker.services.deliveries import Deliveries
from certbroker.services.deployments import Deployments
from certbroker.services.digests import Digests
from certbroker.services.discovery import Discoveries
from certbroker.services.discovery_tasks import DiscoveryTasks
from certbroker.services.doctor import Doctor
from certbroker.services.drills import Drills
from certbroker.services.endpoints import Endpoints
from certbroker.services.governor import Governor
from certbroker.services.holds import Holds
from certbroker.services.housekeeping import Housekeeping
from certbroker.services.issuer_resources import Board
from certbroker.services.issuers import Issuers
from certbroker.services.keys import Keys
from certbroker.services.lifecycles import Lifecycles
from certbroker.services.listings import Listings
from certbroker.services.meters import Meters
from certbroker.services.operations import Operations
from certbroker.services.outside_requests import OutsideRequests
from certbroker.services.publishing import Publishing
from certbroker.services.readiness import Readiness
from certbroker.services.renewals import Renewals
from certbroker.services.revocation import Revocations
from certbroker.services.seal_rotation import SealRotation
from certbroker.services.secret_expiry import SecretExpiry
from certbroker.services.secrets import Secrets
from certbroker.services.signers import Signers
from certbroker.services.status import Status
from certbroker.services.successions import Successions
from certbroker.services.tokens import Tokens
from certbroker.services.vaults import Vaults
from certbroker.services.watching import Watching
from certbroker.store.database import SQLiteStore


@dataclass(frozen=True, slots=True)
class Broker:
    """What `web` and `engine` work with."""

    store: SQLiteStore
    clock: Clock
    vaults: Vaults
    secrets: Secrets
    keys: Keys
    certificates: Certificates
    operations: Operations
    renewals: Renewals
    revocations: Revocations
    watching: Watching
    issuers: Issuers
    governor: Governor
    holds: Holds
    contacts: Contacts
    channels: Channels
    deliveries: Deliveries
    digests: Digests
    endpoints: Endpoints
    deployments: Deployments
    board: Board
    listings: Listings
    deletions: Deletions
    backups: Backups
    access: Access
    tokens: Tokens
    rotation: SealRotation
    housekeeping: Housekeeping
    secret_expiry: SecretExpiry
    meters: Meters
    readiness: Readiness
    lifecycles: Lifecycles
    status: Status
    doctor: Doctor
    drills: Drills
    discoveries: Discoveries
    discovery_tasks: DiscoveryTasks
    signers: Signers
    authorities: Authorities
    publishing: Publishing
    successions: Successions
    outside_requests: OutsideRequests
