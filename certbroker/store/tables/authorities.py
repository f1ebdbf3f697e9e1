"""The CAs of the broker, what they have issued, and what they publish about it."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, Text, text
from sqlmodel import Field, SQLModel

from certbroker.store.tables.columns import big_column, kek_column


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
    not_after: int = Field(sa_column=big_column())
    parent: str | None = None
    state: str
    settings: str = Field(sa_column=Column(Text, nullable=False))
    created: int = Field(sa_column=big_column())
    crl_number: int = Field(default=0, sa_column=big_column())
    crl_act_at: int | None = Field(default=None, sa_column=big_column(nullable=True))
    crl_fence: int = 0
    kek: int | None = Field(default=None, sa_column=kek_column())
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
    not_after: int = Field(sa_column=big_column())
    shard: int
    certificate: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    revoked: int | None = Field(default=None, sa_column=big_column(nullable=True))
    reason: int | None = None


class RevocationListRow(SQLModel, table=True):
    """The CRL of one shard of a CA: the newest that is published, none before the first. Times in microseconds.

    `sha256` is of the list, and names its file. `act_at` is when the next one is due; `fence` counts the revocations
    that it is due for.
    """

    __tablename__ = "revocation_lists"

    authority: str = Field(primary_key=True)
    shard: int = Field(primary_key=True)
    number: int = Field(default=0, sa_column=big_column())
    sha256: str | None = None
    size: int = Field(default=0, sa_column=big_column())
    this_update: int | None = Field(default=None, sa_column=big_column(nullable=True))
    next_update: int | None = Field(default=None, sa_column=big_column(nullable=True))
    act_at: int = Field(sa_column=big_column())
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
    this_update: int | None = Field(default=None, sa_column=big_column(nullable=True))
    next_update: int | None = Field(default=None, sa_column=big_column(nullable=True))
    act_at: int = Field(sa_column=big_column())
    fence: int = 0
    sha1: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    sha256: bytes | None = Field(default=None, sa_column=Column(LargeBinary))


class PublishingProblemRow(SQLModel, table=True):
    """Why a CA cannot publish now. There is none for a CA that can."""

    __tablename__ = "publishing_problems"

    authority: str = Field(primary_key=True)
    since: int = Field(sa_column=big_column())
    failures: int
    problem: str = Field(sa_column=Column(Text, nullable=False))
