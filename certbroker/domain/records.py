"""What is stored: versions of objects, operations, and the sealed form of what is secret in them."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct, field

from certbroker.domain.objects import Attributes, Deletion, Kind
from certbroker.domain.operation import State
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.renewal import Trigger


class SealedBytes(Struct, frozen=True):
    """Bytes under their own data key, which is wrapped by the vault's key-encryption key number `kek`."""

    kek: int
    dek: bytes
    payload: bytes


class Identity(Struct, frozen=True):
    """What sealed bytes belong to. It is authenticated with them, so that one row's bytes do not open in another's."""

    vault_id: int
    kind: str
    name: str
    version: str

    def encoded(self) -> bytes:
        """Each part with its length before it, so that no two identities share an encoding."""
        kind, name, version = self.kind, self.name.lower(), self.version
        return f"{self.vault_id}:{len(kind)}:{kind}{len(name)}:{name}{len(version)}:{version}".encode()


class Head(Struct, frozen=True):
    """The part of an object that all of its versions share."""

    name: str
    current: str
    managed: bool = False
    deletion: Deletion | None = None


class KeyFacts(Struct, frozen=True):
    """What is public about a key version. `public` is a DER SubjectPublicKeyInfo."""

    kty: str
    size: int | None
    curve: str | None
    operations: tuple[str, ...]
    exportable: bool
    public: bytes


class CertificateFacts(Struct, frozen=True):
    """A certificate version: its chain in DER, and digests in lower-case hexadecimal.

    The end entity's certificate is the first of the chain, unless its owner wanted another order to be kept: it stands
    at `position`. `issuer` is the name of who signed it; `made_by` the issuer of the vault that has brought it, empty
    where none has, and None where that is not on record.
    """

    chain: tuple[bytes, ...]
    sha1: str
    sha256: str
    serial: str
    not_before: int
    not_after: int
    exportable: bool
    preserve_order: bool = False
    issuer: str = ""
    position: int = 0
    made_by: str | None = None

    @property
    def leaf(self) -> bytes:
        return self.chain[self.position]


class Version(Struct, frozen=True):
    """One version of a secret, key or certificate. `sealed` is the secret value or the private key."""

    kind: Kind
    name: str
    version: str
    attributes: Attributes
    tags: dict[str, str] = field(default_factory=dict)
    content_type: str | None = None
    managed: bool = False
    key: KeyFacts | None = None
    certificate: CertificateFacts | None = None
    sealed: SealedBytes | None = None
    previous: str | None = None

    def identity(self, vault_id: int) -> Identity:
        return Identity(vault_id, self.kind, self.name, self.version)


class Cause(Struct, frozen=True):
    """Why the engine itself started an operation. `replaces` is the version that the new one renews.

    `new_key` wants a key that was never used, whatever the policy says.
    """

    trigger: Trigger
    reason: str
    replaces: str
    new_key: bool = False


class Turn(Struct, frozen=True):
    """Which of the policy's issuers is asked, counted from 0, since when, and which have refused already."""

    issuer: int = 0
    since: datetime | None = None
    refused: tuple[int, ...] = ()


class Operation(Struct, frozen=True):
    """A certificate operation as it is stored. `version` is the version that it will make.

    `cause` is None where somebody asked for it. `fence` counts the owners it has had: who holds an older number cannot
    write any more.
    """

    id: str
    vault_id: int
    name: str
    version: str
    policy: CertificatePolicy
    state: State
    created: datetime
    deadline: datetime
    tags: dict[str, str] = field(default_factory=dict)
    enabled: bool = True
    preserve_order: bool = False
    cancellation_requested: bool = False
    sealed_key: SealedBytes | None = None
    fence: int = 0
    cause: Cause | None = None
    turn: Turn = Turn()

    @property
    def issuer(self) -> str:
        """The name of the issuer whose turn it is."""
        return self.policy.issuers[self.turn.issuer]

    @property
    def rest(self) -> timedelta:
        """How long the new version waits before it becomes the current one. What somebody asked for does not wait, and
        what takes the place of a revoked one does not either.
        """
        if self.cause is None or self.cause.trigger is Trigger.REVOKED:
            return timedelta(0)
        return timedelta(hours=self.policy.activation_delay_hours)

    @property
    def key_identity(self) -> Identity:
        return Identity(self.vault_id, "operation", self.name, self.id)


class Contact(Struct, frozen=True):
    """Somebody to tell about the certificates of a vault."""

    email: str
    name: str | None = None
    phone: str | None = None
