"""All use cases together, as the composition root has built them."""

from __future__ import annotations

from dataclasses import dataclass

from certbroker.ports.clock import Clock
from certbroker.services.deployment.deployments import Deployments
from certbroker.services.deployment.endpoints import Endpoints
from certbroker.services.discovery.discoveries import Discoveries
from certbroker.services.discovery.tasks import DiscoveryTasks
from certbroker.services.drills.drills import Drills
from certbroker.services.health.doctor import Doctor
from certbroker.services.health.meters import Meters
from certbroker.services.health.readiness import Readiness
from certbroker.services.health.status import Status
from certbroker.services.housekeeping import Housekeeping
from certbroker.services.identity.access import Access
from certbroker.services.identity.tokens import Tokens
from certbroker.services.issuance.operations import Operations
from certbroker.services.issuers.governor import Governor
from certbroker.services.issuers.holds import Holds
from certbroker.services.issuers.issuers import Issuers
from certbroker.services.issuers.resources import Board
from certbroker.services.notification.channels import Channels
from certbroker.services.notification.contacts import Contacts
from certbroker.services.notification.deliveries import Deliveries
from certbroker.services.notification.digests import Digests
from certbroker.services.objects.backup import Backups
from certbroker.services.objects.certificates import Certificates
from certbroker.services.objects.deletion import Deletions
from certbroker.services.objects.key_rotation import KeyRotation
from certbroker.services.objects.key_uses import KeyUses
from certbroker.services.objects.keys import Keys
from certbroker.services.objects.listings import Listings
from certbroker.services.objects.secret_expiry import SecretExpiry
from certbroker.services.objects.secrets import Secrets
from certbroker.services.objects.vaults import Vaults
from certbroker.services.pki.authorities import Authorities
from certbroker.services.pki.outside_requests import OutsideRequests
from certbroker.services.pki.publishing import Publishing
from certbroker.services.pki.signers import Signers
from certbroker.services.pki.successions import Successions
from certbroker.services.renewal.lifecycles import Lifecycles
from certbroker.services.renewal.renewals import Renewals
from certbroker.services.revocation.revocations import Revocations
from certbroker.services.revocation.watching import Watching
from certbroker.services.seal_rotation import SealRotation
from certbroker.store.database import SQLiteStore


@dataclass(frozen=True, slots=True)
class Broker:
    """What `web` and `engine` work with."""

    store: SQLiteStore
    clock: Clock
    vaults: Vaults
    secrets: Secrets
    keys: Keys
    key_uses: KeyUses
    key_rotation: KeyRotation
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
