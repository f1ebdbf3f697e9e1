"""The tables.

Times of objects are Unix seconds, times of the engine microseconds since 1970, both UTC integers. Names are stored in
lower case next to the form in which they were first written, because they are compared without regard to case.
Structured values are JSON text. What is secret is in three columns: `kek` (which key-encryption key), `dek` (the
wrapped data key) and `payload`.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Text, text
from sqlmodel import Field, SQLModel


def _big(*, primary_key: bool = False, nullable: bool = False, index: bool = False) -> Column[int]:
    return Column(BigInteger, primary_key=primary_key, nullable=nullable, index=index)


def _kek(*, nullable: bool = True) -> Column[int]:
    """A reference, so that no key can be deleted while a value needs it, and none stored under a key that is gone."""
    return Column(Integer, ForeignKey("keks.id"), nullable=nullable)


class VaultRow(SQLModel, table=True):
    """A vault. Its id is in every row that belongs to it."""

    __tablename__ = "vaults"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    tier: str
    soft_delete_days: int
    purge_protection: bool
    created: int = Field(sa_column=_big())


class KeyEncryptionKeyRow(SQLModel, table=True):
    """A key-encryption key, wrapped by the seal key; the newest of a vault is the current one."""

    __tablename__ = "keks"

    id: int | None = Field(default=None, primary_key=True)
    vault_id: int = Field(index=True)
    seal_id: str
    wrapped: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created: int = Field(sa_column=_big())


class ObjectRow(SQLModel, table=True):
    """What the versions of an object share. `purge_at` is set while the object is deleted."""

    __tablename__ = "objects"
    __table_args__ = (Index("objects_purge", "purge_at", sqlite_where=text("purge_at IS NOT NULL")),)

    vault_id: int = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    display: str
    current: str
    managed: int
    deleted_at: int | None = Field(default=None, sa_column=_big(nullable=True))
    purge_at: int | None = Field(default=None, sa_column=_big(nullable=True))


class VersionRow(SQLModel, table=True):
    """One version of any object. `facts` is JSON: what is public about a key or a certificate."""

    __tablename__ = "versions"
    __table_args__ = (
        Index("versions_kek", "kek", sqlite_where=text("kek IS NOT NULL")),
        # Of secrets that are no certificate's: those have no payload of their own.
        Index(
            "versions_expiring",
            "exp",
            sqlite_where=text("kind = 'secret' AND payload IS NOT NULL AND exp IS NOT NULL"),
        ),
    )

    vault_id: int = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    version: str = Field(primary_key=True)
    enabled: int
    nbf: int | None = Field(default=None, sa_column=_big(nullable=True))
    exp: int | None = Field(default=None, sa_column=_big(nullable=True))
    created: int = Field(sa_column=_big())
    updated: int = Field(sa_column=_big())
    content_type: str | None = None
    tags: str = "{}"
    facts: str | None = Field(default=None, sa_column=Column(Text))
    previous: str | None = None
    kek: int | None = Field(default=None, sa_column=_kek())
    dek: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    payload: bytes | None = Field(default=None, sa_column=Column(LargeBinary))


class PolicyRow(SQLModel, table=True):
    """The policy of a certificate, as JSON."""

    __tablename__ = "policies"

    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    policy: str = Field(sa_column=Column(Text, nullable=False))


class IssuerRow(SQLModel, table=True):
    """A configured issuer; its password is sealed. `health` is JSON: how it has done with these settings."""

    __tablename__ = "issuers"

    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    display: str
    settings: str = Field(sa_column=Column(Text, nullable=False))
    health: str | None = Field(default=None, sa_column=Column(Text))
    created: int = Field(sa_column=_big())
    updated: int = Field(sa_column=_big())
    kek: int | None = Field(default=None, sa_column=_kek())
    dek: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    payload: bytes | None = Field(default=None, sa_column=Column(LargeBinary))


class IssuerMemoryRow(SQLModel, table=True):
    """What an issuer keeps between requests, sealed."""

    __tablename__ = "issuer_memory"

    vault_id: int = Field(primary_key=True)
    issuer: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    kek: int = Field(sa_column=_kek(nullable=False))
    dek: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    payload: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class ContactsRow(SQLModel, table=True):
    """The contacts of a vault, as JSON."""

    __tablename__ = "contacts"

    vault_id: int = Field(primary_key=True)
    contacts: str = Field(sa_column=Column(Text, nullable=False))


class OperationRow(SQLModel, table=True):
    """A certificate operation. `pending` is 1 for the one that `/pending` shows, of which a name has at most one.

    `urgency` is a number where it goes before others that are due, the smaller the sooner.
    """

    __tablename__ = "operations"
    __table_args__ = (
        Index("operations_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("operations_pending", "vault_id", "name", unique=True, sqlite_where=text("pending = 1")),
        Index("operations_kek", "kek", sqlite_where=text("kek IS NOT NULL")),
        Index("operations_retired", "created", sqlite_where=text("pending = 0")),
        Index("operations_before", "vault_id", "name", sqlite_where=text("pending = 0")),
        Index(
            "operations_open",
            "created",
            sqlite_where=text("pending = 1 AND act_at IS NULL AND substr(state, 1, 9) != 'Completed'"),
        ),
        Index(
            "operations_urgent", "urgency", "act_at", sqlite_where=text("act_at IS NOT NULL AND urgency IS NOT NULL")
        ),
    )

    id: str = Field(primary_key=True)
    vault_id: int
    name: str
    display: str
    version: str
    issuer: str
    policy: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    options: str = "{}"
    pending: int = 1
    cancellation_requested: int = 0
    created: int = Field(sa_column=_big())
    deadline: int = Field(sa_column=_big())
    act_at: int | None = Field(default=None, sa_column=_big(nullable=True))
    lease_owner: str | None = None
    lease_until: int = Field(default=0, sa_column=_big())
    fence: int = 0
    urgency: int | None = None
    kek: int | None = Field(default=None, sa_column=_kek())
    dek: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    payload: bytes | None = Field(default=None, sa_column=Column(LargeBinary))


class JournalRow(SQLModel, table=True):
    """What an operation was about to ask the outside world, and what came back."""

    __tablename__ = "journal"

    operation_id: str = Field(primary_key=True)
    step: str = Field(primary_key=True)
    intended: str | None = Field(default=None, sa_column=Column(Text))
    recorded: str | None = Field(default=None, sa_column=Column(Text))


class ChallengeRow(SQLModel, table=True):
    """An answer to a challenge that is put up: by the token for http-01, by kind and name for tls-alpn-01."""

    __tablename__ = "challenges"

    token: str = Field(primary_key=True)
    key_authorization: str
    expires: int = Field(sa_column=_big())


class LifecycleRow(SQLModel, table=True):
    """How the current version of a certificate is looked after. `state` is JSON: what is remembered between two looks.

    `issuer` is the one that the current version came from, if it was one of ours, in lower case. `staged` is a newer
    version that becomes current at `activate_at`. `fence` counts owners and disturbances: who holds an older number
    cannot write any more; a lease is an `act_at` in the future. `urgency` is a number where the certificate goes before
    others that are due, the smaller the sooner.
    """

    __tablename__ = "lifecycles"
    __table_args__ = (
        Index("lifecycles_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("lifecycles_health", "health", "act_at", sqlite_where=text("health != 'Healthy'")),
        Index(
            "lifecycles_urgent", "urgency", "act_at", sqlite_where=text("act_at IS NOT NULL AND urgency IS NOT NULL")
        ),
        Index("lifecycles_issuer", "issuer", "vault_id", "name", sqlite_where=text("issuer IS NOT NULL")),
    )

    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    health: str
    state: str = Field(sa_column=Column(Text, nullable=False))
    issuer: str | None = None
    staged: str | None = None
    activate_at: int | None = Field(default=None, sa_column=_big(nullable=True))
    act_at: int | None = Field(default=None, sa_column=_big(nullable=True))
    fence: int = 0
    urgency: int | None = None


class HealthCountRow(SQLModel, table=True):
    """How many certificates are in a health. Triggers on `lifecycles`, which a migration has made, keep it."""

    __tablename__ = "health_counts"

    health: str = Field(primary_key=True)
    certificates: int


class RevocationRow(SQLModel, table=True):
    """A certificate that is to be revoked, or was. It outlives the certificate, so it has a copy; no secret is in it.

    `act_at` is set while the CA is still to be asked; a lease is an `act_at` in the future. `compromised` is 1 where
    somebody has said that of the key.
    """

    __tablename__ = "revocations"
    __table_args__ = (
        Index("revocations_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("revocations_compromised", "key_sha256", sqlite_where=text("compromised IS NOT NULL")),
    )

    sha256: str = Field(primary_key=True)
    vault_id: int
    name: str
    version: str
    certificate: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    key_sha256: str
    issuer: str
    reason: str
    renew: int
    compromised: int | None = None
    requested: int = Field(sa_column=_big())
    act_at: int | None = Field(default=None, sa_column=_big(nullable=True))
    attempts: int = 0
    revoked: int | None = Field(default=None, sa_column=_big(nullable=True))
    problem: str | None = Field(default=None, sa_column=Column(Text))


class AuthorityRow(SQLModel, table=True):
    """One generation of a CA: a certificate that it has had. `settings` is JSON.

    The key is the vault's, under `name` and `version`, unless it is of a kind that Key Vault does not know: then it is
    sealed here. `crl_act_at` is when the next CRL is to be made, in microseconds; a lease is a time in the future, and
    `crl_fence` counts the owners.
    """

    __tablename__ = "authorities"
    __table_args__ = (
        Index("authorities_named", "vault_id", "name"),
        Index("authorities_sha256", "sha256", unique=True),
        Index("authorities_parent", "parent", sqlite_where=text("parent IS NOT NULL")),
        Index("authorities_due", "crl_act_at", sqlite_where=text("crl_act_at IS NOT NULL")),
        Index("authorities_kek", "kek", sqlite_where=text("kek IS NOT NULL")),
    )

    id: str = Field(primary_key=True)
    vault_id: int
    name: str
    display: str
    version: str
    certificate: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sha256: str
    subject: str
    key_sha256: str
    not_after: int = Field(sa_column=_big())
    parent: str | None = None
    state: str
    settings: str = Field(sa_column=Column(Text, nullable=False))
    created: int = Field(sa_column=_big())
    crl_number: int = Field(default=0, sa_column=_big())
    crl_act_at: int | None = Field(default=None, sa_column=_big(nullable=True))
    crl_fence: int = 0
    kek: int | None = Field(default=None, sa_column=_kek())
    dek: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    payload: bytes | None = Field(default=None, sa_column=Column(LargeBinary))


class IssuedRow(SQLModel, table=True):
    """What a CA has issued, until it has expired, whatever becomes of the certificate here. Times in Unix seconds.

    `serial` has a fixed number of lower-case hexadecimal digits. `certificate` is a copy where no vault has it.
    """

    __tablename__ = "issued"
    __table_args__ = (
        Index("issued_expiring", "not_after"),
        # All that a CRL has of it, so that one of a million entries is read from the index alone.
        Index(
            "issued_revoked",
            "authority",
            "shard",
            "not_after",
            "revoked",
            "reason",
            sqlite_where=text("revoked IS NOT NULL"),
        ),
        # Serial numbers come in no order: one tree to put each into, not two.
        {"sqlite_with_rowid": False},
    )

    authority: str = Field(primary_key=True)
    serial: str = Field(primary_key=True)
    sha256: str
    vault_id: int
    name: str
    version: str
    profile: str
    not_after: int = Field(sa_column=_big())
    shard: int
    certificate: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    revoked: int | None = Field(default=None, sa_column=_big(nullable=True))
    reason: int | None = None


class SightingRow(SQLModel, table=True):
    """A certificate that was seen at a server or in what a CT monitor tells. Nothing in it is secret.

    `names` and `places` are JSON. `leaf` is empty where no server has shown it. `vault_id`, `name` and `version` are of
    the certificate that it is, or that takes its place.
    """

    __tablename__ = "sightings"
    __table_args__ = (Index("sightings_standing", "standing", "id"), Index("sightings_seen", "last_seen"))

    id: str = Field(primary_key=True)
    serial: str
    sha256: str
    issuer: str = Field(sa_column=Column(Text, nullable=False))
    subject: str = Field(sa_column=Column(Text, nullable=False))
    names: str = Field(sa_column=Column(Text, nullable=False))
    not_before: int = Field(sa_column=_big())
    not_after: int = Field(sa_column=_big())
    key: str
    leaf: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    places: str = Field(sa_column=Column(Text, nullable=False))
    first_seen: int = Field(sa_column=_big())
    last_seen: int = Field(sa_column=_big())
    standing: str
    vault_id: int | None = None
    name: str
    version: str


class DiscoveryTaskRow(SQLModel, table=True):
    """Something that discovery does again and again. A lease is an `act_at` in the future; `fence` counts owners."""

    __tablename__ = "discovery_tasks"
    __table_args__ = (Index("discovery_tasks_due", "act_at"),)

    id: str = Field(primary_key=True)
    position: str
    act_at: int = Field(sa_column=_big())
    began: int | None = Field(default=None, sa_column=_big(nullable=True))
    succeeded: int | None = Field(default=None, sa_column=_big(nullable=True))
    problem: str = Field(sa_column=Column(Text, nullable=False))
    found: int
    fence: int


class ManagedDomainRow(SQLModel, table=True):
    """A registered domain that certificates of a vault have names in, and when that was last seen."""

    __tablename__ = "managed_domains"
    __table_args__ = (Index("managed_domains_seen", "seen"),)

    domain: str = Field(primary_key=True)
    vault_id: int = Field(primary_key=True)
    seen: int = Field(sa_column=_big())


class RevocationSourceRow(SQLModel, table=True):
    """Where it is asked whether certificates are revoked, shared by all vaults. `holding` is JSON: what it has said.

    `about` is a certificate in DER. A lease is an `act_at` in the future; `fence` counts the owners, and `generation`
    what has been stored. While `pass_after` is set, those who depend on the source are gone through: up to there, and
    all of them are looked at again where `pass_all` is 1.
    """

    __tablename__ = "revocation_sources"
    __table_args__ = (
        Index("revocation_sources_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("revocation_sources_passing", "id", sqlite_where=text("pass_after IS NOT NULL")),
        Index("revocation_sources_lists", "url", sqlite_where=text("kind = 'crl'")),
        Index("revocation_sources_unwell", "status", "url", sqlite_where=text("status != 'fresh'")),
    )

    id: str = Field(primary_key=True)
    kind: str
    url: str
    about: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    serial: str
    holding: str = Field(sa_column=Column(Text, nullable=False))
    status: str
    act_at: int | None = Field(default=None, sa_column=_big(nullable=True))
    fence: int = 0
    generation: int = 0
    pass_after: str | None = None
    pass_all: int = 0


class RevocationDependentRow(SQLModel, table=True):
    """That a certificate, or one of its issuers', is judged by a source. `listed` is what a CRL says.

    That is 0 where it says nothing, else the code of the reason and one.
    """

    __tablename__ = "revocation_dependents"
    __table_args__ = (Index("revocation_dependents_of", "vault_id", "name"),)

    source_id: str = Field(primary_key=True)
    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    serial: str = Field(primary_key=True)
    listed: int


class WatchRow(SQLModel, table=True):
    """What is known of the revocation of a certificate's current version and of its issuers. `state` is JSON.

    `fence` counts owners and disturbances: who holds an older number cannot write any more.
    """

    __tablename__ = "revocation_watches"
    __table_args__ = (
        Index("revocation_watches_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index(
            "revocation_watches_standing",
            "standing",
            sqlite_where=text("standing != 'Good' AND standing != 'NotCovered'"),
        ),
    )

    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    standing: str
    state: str = Field(sa_column=Column(Text, nullable=False))
    act_at: int | None = Field(default=None, sa_column=_big(nullable=True))
    fence: int = 0


class DrillRow(SQLModel, table=True):
    """The replacement of everything from one issuer; `vault_id` is null where that is in all vaults.

    `plan` is JSON. `act_at` is set until it is over; a lease is an `act_at` in the future, and `fence` counts owners.
    """

    __tablename__ = "drills"
    __table_args__ = (
        Index("drills_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("drills_started", "started"),
    )

    id: str = Field(primary_key=True)
    vault_id: int | None = None
    issuer: str
    perform: int
    reason: str
    new_key: int
    batch: int
    stage: str
    started: int = Field(sa_column=_big())
    planned: int | None = Field(default=None, sa_column=_big(nullable=True))
    ended: int | None = Field(default=None, sa_column=_big(nullable=True))
    plan: str = Field(sa_column=Column(Text, nullable=False))
    act_at: int | None = Field(default=None, sa_column=_big(nullable=True))
    fence: int = 0


class ReplacementRow(SQLModel, table=True):
    """A certificate in a drill, and what has become of it."""

    __tablename__ = "drill_certificates"
    __table_args__ = (Index("drill_certificates_fate", "drill_id", "fate", "vault_id", "name"),)

    drill_id: str = Field(primary_key=True)
    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    version: str
    fate: str
    reason: str = ""
    expected: int | None = Field(default=None, sa_column=_big(nullable=True))
    at: int | None = Field(default=None, sa_column=_big(nullable=True))


class RevocationListRow(SQLModel, table=True):
    """The CRL of one shard of a CA: the newest that is published, none before the first. Times in microseconds.

    `sha256` is of the list, and names its file. `act_at` is when the next one is due; `fence` counts the revocations
    that it is due for.
    """

    __tablename__ = "revocation_lists"

    authority: str = Field(primary_key=True)
    shard: int = Field(primary_key=True)
    number: int = Field(default=0, sa_column=_big())
    sha256: str | None = None
    size: int = Field(default=0, sa_column=_big())
    this_update: int | None = Field(default=None, sa_column=_big(nullable=True))
    next_update: int | None = Field(default=None, sa_column=_big(nullable=True))
    act_at: int = Field(sa_column=_big())
    fence: int = 0
    partial: int = 0


class StatusReplyRow(SQLModel, table=True):
    """The OCSP replies about one certificate, for clients that name it by SHA-1 and by SHA-256. Times in microseconds.

    `act_at` is when the next ones are due; `fence` counts what they are due for.
    """

    __tablename__ = "status_replies"
    __table_args__ = (Index("status_replies_due", "authority", "act_at"),)

    authority: str = Field(primary_key=True)
    serial: str = Field(primary_key=True)
    this_update: int | None = Field(default=None, sa_column=_big(nullable=True))
    next_update: int | None = Field(default=None, sa_column=_big(nullable=True))
    act_at: int = Field(sa_column=_big())
    fence: int = 0
    sha1: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    sha256: bytes | None = Field(default=None, sa_column=Column(LargeBinary))


class PublishingProblemRow(SQLModel, table=True):
    """Why a CA cannot publish now. There is none for a CA that can."""

    __tablename__ = "publishing_problems"

    authority: str = Field(primary_key=True)
    since: int = Field(sa_column=_big())
    failures: int
    problem: str = Field(sa_column=Column(Text, nullable=False))


class EndpointRow(SQLModel, table=True):
    """A place where a certificate should be served. `place` and `state` are JSON: what is looked at, what was seen.

    `serving` and `alarmed` are of the state, for who looks for trouble. `lane` is 1 where nothing could be seen the
    last time. A lease is an `act_at` in the future, and `fence` counts owners and disturbances.
    """

    __tablename__ = "endpoints"
    __table_args__ = (
        Index("endpoints_due", "lane", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("endpoints_amiss", "serving", "alarmed", sqlite_where=text("serving != 'Serving'")),
    )

    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    host: str
    place: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    serving: str
    alarmed: int = 0
    lane: int = 0
    created: int = Field(sa_column=_big())
    act_at: int | None = Field(default=None, sa_column=_big(nullable=True))
    fence: int = 0


class DeploymentRow(SQLModel, table=True):
    """What one section `deploy` of the configuration has put where it belongs. `state` is JSON: how that has gone.

    It goes by names, because the configuration does: the vault or the certificate may come later. `settings` is a
    digest of the section, so that a change of it is noticed. A lease is an `act_at` in the future.
    """

    __tablename__ = "deployments"
    __table_args__ = (
        Index("deployments_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("deployments_certificate", "vault", "certificate"),
    )

    name: str = Field(primary_key=True)
    vault: str
    certificate: str
    settings: str
    state: str = Field(sa_column=Column(Text, nullable=False))
    act_at: int | None = Field(default=None, sa_column=_big(nullable=True))
    fence: int = 0


class BudgetRow(SQLModel, table=True):
    """What is left of one rate budget: `full_at` is when it will be whole again, `held_until` a pause asked for.

    From `over_at` on the row says nothing that its absence does not.
    """

    __tablename__ = "budgets"
    __table_args__ = (
        Index("budgets_over", "over_at"),
        Index("budgets_held", "held_until", sqlite_where=text("held_until > 0")),
    )

    ca: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    full_at: int = Field(sa_column=_big())
    held_until: int = Field(default=0, sa_column=_big())
    reason: str | None = Field(default=None, sa_column=Column(Text))
    over_at: int = Field(sa_column=_big())


class ReservationRow(SQLModel, table=True):
    """That an order in progress has been admitted; while `pending` it will take a place of a budget by succeeding."""

    __tablename__ = "reservations"
    __table_args__ = (
        Index("reservations_pending", "ca", "scope", "subject", sqlite_where=text("pending = 1")),
        Index("reservations_over", "over_at"),
    )

    operation_id: str = Field(primary_key=True)
    step: str = Field(primary_key=True)
    ca: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    pending: int
    over_at: int = Field(sa_column=_big())


class ChannelRow(SQLModel, table=True):
    """A way to tell somebody about a vault; its secrets are sealed. `state` is JSON: how deliveries have gone.

    `act_at` is when the first of its outbox is to be delivered. The lease is on the channel, so that one worker at a
    time delivers, in order; `fence` counts the owners.
    """

    __tablename__ = "channels"
    __table_args__ = (Index("channels_due", "lane", "act_at", sqlite_where=text("act_at IS NOT NULL")),)

    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    display: str
    kind: str
    settings: str = Field(sa_column=Column(Text, nullable=False))
    events: str = Field(sa_column=Column(Text, nullable=False))
    enabled: int
    state: str = Field(sa_column=Column(Text, nullable=False))
    lane: int
    created: int = Field(sa_column=_big())
    updated: int = Field(sa_column=_big())
    act_at: int | None = Field(default=None, sa_column=_big(nullable=True))
    lease_until: int = Field(default=0, sa_column=_big())
    fence: int = 0
    kek: int | None = Field(default=None, sa_column=_kek())
    dek: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    payload: bytes | None = Field(default=None, sa_column=Column(LargeBinary))


class OutboxRow(SQLModel, table=True):
    """An event for one channel. `event_id` is the same for the same happening, so it is told once.

    `act_at` is set while it waits; afterwards `settled` says when that ended, and `outcome` how.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        Index("outbox_due", "vault_id", "channel", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("outbox_settled", "vault_id", "outcome", "settled", sqlite_where=text("settled IS NOT NULL")),
        Index("outbox_dead", "vault_id", "channel", "event_id", sqlite_where=text("outcome = 'dead'")),
    )

    vault_id: int = Field(primary_key=True)
    channel: str = Field(primary_key=True)
    event_id: str = Field(primary_key=True)
    event: str = Field(sa_column=Column(Text, nullable=False))
    created: int = Field(sa_column=_big())
    expires: int = Field(sa_column=_big())
    act_at: int | None = Field(default=None, sa_column=_big(nullable=True))
    attempts: int = 0
    outcome: str | None = None
    settled: int | None = Field(default=None, sa_column=_big(nullable=True))
    problem: str | None = Field(default=None, sa_column=Column(Text))


class ApplicationRow(SQLModel, table=True):
    """A client of the token endpoint."""

    __tablename__ = "applications"

    id: str = Field(primary_key=True)
    name: str
    object_id: str = Field(unique=True)
    enabled: int = 1
    created: int = Field(sa_column=_big())


class CredentialRow(SQLModel, table=True):
    """A client secret: only its digest is kept."""

    __tablename__ = "credentials"

    id: str = Field(primary_key=True)
    application_id: str = Field(index=True)
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created: int = Field(sa_column=_big())
    expires: int | None = Field(default=None, sa_column=_big(nullable=True))


class AssignmentRow(SQLModel, table=True):
    """A role given to a principal at a scope."""

    __tablename__ = "role_assignments"

    id: str = Field(primary_key=True)
    principal: str = Field(index=True)
    role: str
    scope: str
    created: int = Field(sa_column=_big())


class SettingRow(SQLModel, table=True):
    """A broker-wide value; sealed where it is secret."""

    __tablename__ = "settings"

    name: str = Field(primary_key=True)
    value: str | None = Field(default=None, sa_column=Column(Text))
    kek: int | None = Field(default=None, sa_column=_kek())
    dek: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    payload: bytes | None = Field(default=None, sa_column=Column(LargeBinary))


class AuditRow(SQLModel, table=True):
    """One record of a writer's chain, with its hash."""

    __tablename__ = "audit"

    writer: str = Field(primary_key=True)
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    record: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
